"""Clean and noisy recordings side by side.

pairs of folders   clean*/..., noisy*/... with equal names, as VoiceBank+DEMAND has; or clean/ and
                   noisy/ in a folder of each split, train/{clean,noisy} and test/{clean,noisy}
fileid             the same with names of the DNS challenge: clean_fileid_7.wav and ..._fileid_7.wav
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from gan_denoise import audio
from gan_denoise.system.ids import one_form, utt_id_in_folder, utt_id_of_file
from kaldi.corpora.listing import Lack, Listing, Recording, split_named

_FILEID = re.compile(r"fileid_(\d+)$")
_READER = re.compile(r"(?:^|_)(reader_\d+)(?:_|$)")  # in the DNS challenge's names


def read(folder: Path, speakers: Collection[str]) -> Listing | None:
    pairs = folders_of_pairs(folder) if folder.is_dir() else []
    return Listing("parallel", *read_pairs(pairs)) if pairs else None


def folders_of_pairs(folder: Path) -> list[tuple[Path, Path, str | None]]:
    """The clean and noisy folders of a parallel corpus with the split that they are."""
    pairs = []
    for clean in sorted(path for path in folder.glob("clean*") if path.is_dir()):
        noisy = folder / clean.name.replace("clean", "noisy", 1)
        if noisy.is_dir():
            pairs.append((clean, noisy, split_named(clean.name)))
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (part / "clean").is_dir() and (part / "noisy").is_dir():
            pairs.append((part / "clean", part / "noisy", split_named(part.name)))
    return pairs


def read_pairs(
    pairs: list[tuple[Path, Path, str | None]],
) -> tuple[list[Recording], list[Lack]]:
    """The recordings of pairs of folders, and the files that have no counterpart.

    The speaker is the sub-folder's name. Without sub-folders it is what stands before the first `_`
    of a name (p226_001.wav), or the reader whom a name of the DNS challenge tells.
    """
    recordings: list[Recording] = []
    lacks: list[Lack] = []
    for clean_folder, noisy_folder, split in pairs:
        noisy = {
            one_form(str(path.relative_to(noisy_folder))): path for path in audio.find(noisy_folder)
        }
        by_fileid = {
            fileid: path for path in noisy.values() if (fileid := _fileid(path)) is not None
        }
        left = set(noisy.values())
        for clean in audio.find(clean_folder):
            relative = clean.relative_to(clean_folder)
            fileid = _fileid(clean)
            partner = noisy.get(one_form(str(relative))) or (
                by_fileid.get(fileid) if fileid else None
            )
            if partner is None:
                lacks.append(Lack(clean, f"has no counterpart {noisy_folder / relative}"))
                continue
            left.discard(partner)
            if len(relative.parts) > 1:
                speaker = relative.parts[0]
                utt_id = utt_id_in_folder(clean, clean_folder / speaker)
            else:
                utt_id = utt_id_of_file(clean)
                speaker = utt_id.split("_")[0]
                if fileid:
                    reader = _READER.search(partner.stem)
                    speaker = reader[1] if reader else utt_id
            recordings.append(Recording(utt_id, speaker, clean, noisy=partner, split=split))
        lacks += [Lack(path, "has no clean counterpart") for path in sorted(left)]
    return recordings, lacks


def _fileid(path: Path) -> str | None:
    match = _FILEID.search(path.stem)
    return match[1] if match else None
