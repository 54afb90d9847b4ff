#!/usr/bin/env python3
"""Stage 1: a further test condition: the recordings of DATA/test, as DATA/test_NAME, which corrupt.py then makes noisy.

    condition.py DATA NAME

`clean` is complete as it is: there the "noisy" recordings are the clean ones, for what a model does to speech that needs nothing.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import yaml

from gan_denoise import datadir
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically
from gan_denoise.noise import digest
from gan_denoise.terminal import program

TABLES = ("wav.scp", "utt2spk", "spk2utt", "utt2dur", "text")


@program
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("name", metavar="NAME")
    arguments = parser.parse_args()
    source, target = arguments.data / "test", arguments.data / f"test_{arguments.name}"
    data = datadir.read(source)
    if not (target / "wav.scp").is_file():
        target.mkdir(exist_ok=True)
        for name in reversed(TABLES):  # wav.scp last: now the folder is whole
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
    elif datadir.read(target).utt2dur != data.utt2dur:
        raise InputError(f"{target}: holds other recordings than {source}: remove it, it will be made again")
    if arguments.name == "clean" and not (target / "noisy.scp").is_file():
        sample_rate = datadir.read_noise(source)["sample_rate"]
        record = {"fingerprint": digest(["clean", sample_rate]), "sample_rate": sample_rate, "procedure": "none"}
        write_atomically(target / "noise.yaml", yaml.safe_dump(record, sort_keys=False))
        datadir.write_table(target / "noisy.scp", data.wav)


if __name__ == "__main__":
    main()
