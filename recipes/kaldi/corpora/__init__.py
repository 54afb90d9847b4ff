"""The corpora that the recipe knows: a file here for each layout, found by its function `read`.

`read(folder, known_speakers)` returns a Listing, or None where the folder has another layout.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from gan_denoise.errors import InputError
from gan_denoise.system.ids import is_line, is_word
from kaldi.corpora import plain
from kaldi.corpora.listing import Listing, Recording, unused, without_eval

MINI = "mini-corpus.txt"  # by which the mini corpus is known, wherever it lies


def layouts() -> list[ModuleType]:
    """A module for each layout; plain takes what no other recognises."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}."))
    modules = [importlib.import_module(name) for name in names]
    return [*(one for one in modules if hasattr(one, "read") and one is not plain), plain]


def read(folder: Path, *, known_speakers: Collection[str] = ()) -> Listing:
    """Recognise and list a corpus.

    known_speakers: names that are certainly those of speakers (of a split file). Raises InputError
    where there is none, where two recordings share an utt_id, and where its folders do not seem to
    be those of speakers.
    """
    if not folder.is_dir() and not (folder.is_file() and folder.suffix in (".csv", ".scp")):
        raise InputError(f"{folder}: no such corpus folder: check --corpus")
    for layout in layouts():
        if (listing := layout.read(folder, known_speakers)) is not None:
            return _checked(folder, listing)
    raise AssertionError("a plain corpus is always one")


def _checked(folder: Path, listing: Listing) -> Listing:
    layout, recordings = listing.layout, without_eval(folder, listing.recordings)
    if not recordings and listing.lacks and layout != "plain":
        raise InputError(
            folder,
            f"is a {layout} corpus, but none of its files can be used ({len(listing.lacks)}): the"
            f" first, {listing.lacks[0]}",
        )
    if not recordings:
        raise InputError(
            f"{folder}: no recordings found: --corpus wants VCTK (wav48_silence_trimmed/ or"
            " wav48/), clean*/ and noisy*/ folders, one folder per speaker with audio files, a"
            " Kaldi data directory, or a CSV file"
        )
    seen: dict[str, Recording] = {}
    for recording in recordings:
        if recording.utt_id in seen:
            other = seen[recording.utt_id].clean
            raise InputError(
                f"{recording.clean}: has the same utt_id, {recording.utt_id}, as {other}: rename or"
                " remove one"
            )
        seen[recording.utt_id] = recording
    for recording in recordings:
        names = recording.utt_id + recording.speaker
        if not is_word(names) or not is_line(str(recording.clean) + str(recording.noisy)):
            raise InputError(
                f"{str(recording.clean)!r}: Kaldi's tables want an utt_id without white space or"
                " control characters: rename the file or folder"
            )
    noisy = sum(recording.noisy is not None for recording in recordings)
    if 0 < noisy < len(recordings):
        raise InputError(
            f"{folder}: only {noisy} of {len(recordings)} recordings have a noisy file: give"
            " every one a noisy file, or none"
        )
    if noisy and layout != "parallel":
        layout = f"parallel ({layout})"
    used = {recording.clean for recording in recordings} | {r.noisy for r in recordings if r.noisy}
    used |= {lack.path for lack in listing.lacks}  # which have a line of their own
    left = unused(folder, used, listing.serves) if folder.is_dir() else {}
    in_order = [seen[utt_id] for utt_id in sorted(seen, key=str.encode)]
    return replace(listing, layout=layout, recordings=in_order, unused=left)
