#!/usr/bin/env python3
"""Stage 1: make further test conditions from the recordings of DATA/test.

    condition.py DATA NAME...

The recordings of a condition are DATA/test_NAME, which corrupt.py then makes noisy. `clean` is
complete as it is: there the "noisy" recordings are the clean ones, to measure what a model does to
speech that needs nothing.
"""

from __future__ import annotations

from pathlib import Path

from gan_denoise import datadir
from gan_denoise.config import dump_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.system import terminal
from gan_denoise.system.files import digest, write_atomically
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program

TABLES = ("wav.scp", "utt2spk", "spk2utt", "utt2dur", "text")
OF_ANOTHER_TEST = ("noisy.scp", "audit.csv")  # what an earlier list of recordings has left


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder that holds test")
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="condition: clean, or NAME of conf/noise_NAME.yaml"
    )
    arguments = parser.parse_args()
    source = arguments.data / "test"
    data = datadir.read(source)
    for name in arguments.names:
        make(source, data, arguments.data / f"test_{name}", clean=name == "clean")


def make(source: Path, data: DataDir, target: Path, *, clean: bool) -> None:
    """The data directory `target`, of the recordings of `source`; whole where they stay clean."""
    with owning(target):
        if copy_tables(source, target):
            for name in OF_ANOTHER_TEST:
                (target / name).unlink(missing_ok=True)
        if clean and not (target / "noisy.scp").is_file():
            sample_rate = datadir.read_noise(source)["sample_rate"]
            fingerprint = digest(["clean", sample_rate])
            record = {"fingerprint": fingerprint, "sample_rate": sample_rate, "procedure": "none"}
            write_atomically(target / "noise.yaml", dump_yaml(record))
            datadir.write_table(target / "noisy.scp", data.wav)


def copy_tables(source: Path, target: Path) -> bool:
    """Copy a data directory's tables where they differ; returns whether one did."""
    changed = False
    for name in reversed(TABLES):  # wav.scp last: now the folder is whole
        content = (source / name).read_bytes() if (source / name).is_file() else None
        if content is None:
            (target / name).unlink(missing_ok=True)
        elif not (target / name).is_file() or (target / name).read_bytes() != content:
            write_atomically(target / name, content)
            changed = True
    return changed


if __name__ == "__main__":
    main()
