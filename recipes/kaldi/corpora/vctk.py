"""VCTK, and the mini corpus, which has its layout.

VCTK 0.92       wav48_silence_trimmed/p225/p225_001_mic1.flac, txt/p225/p225_001.txt
VCTK 0.80       wav48/p225/p225_001.wav, txt/p225/p225_001.txt
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from gan_denoise import audio
from gan_denoise.system.ids import utt_id_in_folder, utt_id_of_file
from kaldi.corpora.listing import Lack, Listing, Recording

VERSIONS = (
    ("VCTK 0.92", "wav48_silence_trimmed", "VCTK-Corpus-0.92"),
    ("VCTK 0.80", "wav48", "VCTK-Corpus"),
)
_SHARED_BY_ALL = 24  # VCTK's sentences 001 to 024 are read by every speaker


def read(folder: Path, speakers: Collection[str]) -> Listing | None:
    """The folder itself, the folder of the archive in it, or the folder of its audio."""
    for layout, audio_name, archive in VERSIONS:
        above = [folder.parent] if folder.name == audio_name else []
        for root in (folder, folder / archive, *above):
            if (root / audio_name).is_dir():
                return Listing(layout, *_recordings(root, root / audio_name), _serves)
    return None


def _serves(path: Path) -> bool:
    """Texts, and the second microphone."""
    return path.suffix == ".txt" or path.stem.endswith("_mic2")


def _recordings(root: Path, audio_folder: Path) -> tuple[list[Recording], list[Lack]]:
    texts = {utt_id_of_file(path): path for path in sorted(root.glob("txt/*/*.txt"))}
    recordings, only_mic2 = [], set()
    for path in audio.find(audio_folder):
        if path.parent.parent != audio_folder:
            continue
        if path.stem.endswith("_mic2"):
            only_mic2.add(path.with_name(path.name.replace("_mic2", "_mic1")))
            continue
        utt_id = utt_id_in_folder(path, path.parent)
        number = re.search(r"_(\d+)$", utt_id)
        shared = number is not None and int(number[1]) <= _SHARED_BY_ALL
        text = _text(texts[utt_id]) if utt_id in texts else None
        recordings.append(Recording(utt_id, path.parent.name, path, text=text, shared=shared))
    clean = {recording.clean for recording in recordings}
    lacks = [Lack(path, "there is a mic2 recording only") for path in sorted(only_mic2 - clean)]
    spoken = {recording.utt_id for recording in recordings}
    lacks += [
        Lack(path, "there is a text but no recording")
        for utt_id, path in texts.items()
        if utt_id not in spoken
    ]
    return recordings, lacks


def _text(path: Path) -> str | None:
    return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) or None
