"""A recording of a corpus, and what of a corpus is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from gan_denoise import audio


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus. noisy: only in a parallel corpus. shared: its sentence is read by
    every speaker. split: where the corpus itself says so.
    """

    utt_id: str
    speaker: str
    clean: Path
    noisy: Path | None = None
    text: str | None = None
    shared: bool = False
    split: str | None = None


def unused(
    folder: Path, used: Collection[Path], serves: Callable[[Path], bool]
) -> dict[str, list[Path]]:
    """What lies in a corpus and is no recording of it, by kind: dangling links, folders that cannot
    be read or are links to others, and files by their suffix. serves: whether a file has another
    use in this layout.
    """
    kinds: dict[str, list[Path]] = {}
    seen: set[str] = set()

    def cannot_be_read(error: OSError) -> None:
        kinds.setdefault("folders that cannot be read", []).append(Path(error.filename))

    for place, folders, names in os.walk(folder, followlinks=True, onerror=cannot_be_read):
        if (real := os.path.realpath(place)) in seen:
            kinds.setdefault("links to folders that are read already", []).append(Path(place))
            folders.clear()
            continue
        seen.add(real)
        folders[:] = audio.in_order(place, folders)
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or path in used or serves(path):
                continue
            kind = "links to nothing" if not path.exists() else f"{path.suffix or name} files"
            kinds.setdefault(kind, []).append(path)
    return kinds
