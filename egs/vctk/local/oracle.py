#!/usr/bin/env python3
"""Stage 3: limits to compare with, made with the clean STFT at hand (Hann, 512/128 at 16 kHz).

    oracle.py [--jobs N] [--part K/N] DATADIR MAGNITUDE MASK [DATADIR MAGNITUDE MASK]...

writes enhanced/ and enhanced.scp into the folders MAGNITUDE and MASK, for each DATADIR.

MAGNITUDE: clean magnitude, noisy phase. MASK: the best gain within [0, 1] on every noisy bin, as
mask-based denoisers apply.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import datadir
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program
from kaldi.options import Part, sharing
from kaldi.oracles import HOPS_PER_WINDOW, KINDS, WINDOW_S, write_one
from kaldi.stage import Making, list_files, make


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument(
        "places",
        type=Path,
        nargs="+",
        metavar="DATADIR MAGNITUDE MASK",
        help="data directory, and the folders for its two oracles",
    )
    arguments = parser.parse_args()
    if len(arguments.places) % 3:
        parser.error("every DATADIR needs a MAGNITUDE and a MASK behind it")
    for data, *places in zip(*[iter(arguments.places)] * 3, strict=True):
        with owning(*places, shared=bool(arguments.part)):
            for kind, out in zip(KINDS, places, strict=True):
                write_oracle(data, kind, out, arguments.jobs, arguments.part)


def write_oracle(folder: Path, kind: str, out: Path, jobs: int, part: Part) -> None:
    """Make what is missing of a part, or was made from other recordings. Raises InputError."""
    data, target = datadir.read(folder, noisy=True), (out / "enhanced").resolve()
    files = {utt_id: target / f"{utt_id}.wav" for utt_id in data.utt_ids}
    rests_on = ("oracle", kind, WINDOW_S, HOPS_PER_WINDOW)
    making = Making(data, (data.wav, data.noisy), files, out / "enhanced.made", rests_on)
    label = f"stage 3: {kind} oracle of {folder.name}"
    make(making, partial(write_one, kind=kind), label=label, jobs=jobs, part=part)
    if not part:
        list_files(out / "enhanced.scp", files)


if __name__ == "__main__":
    main()
