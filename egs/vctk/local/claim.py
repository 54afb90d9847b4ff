#!/usr/bin/env python3
"""Before stage 2: EXP belongs to one DATA. The first run writes down which (EXP/data.yaml); another one is refused.

claim.py DATA EXP
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from gan_denoise import datadir
from gan_denoise.config import read_yaml
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically
from gan_denoise.mix import SPLITS
from gan_denoise.noise import digest
from gan_denoise.terminal import program


@program
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("exp", type=Path, metavar="EXP")
    arguments = parser.parse_args()
    splits = {name: datadir.read(arguments.data / name, noisy=True) for name in SPLITS}
    noise = {name: datadir.read_noise(arguments.data / name)["fingerprint"] for name in SPLITS}
    if len(set(noise.values())) > 1:
        raise InputError(
            f"{arguments.data}: its splits have different noise ({noise}): prepare it again in another --data"
        )
    utterances = digest({name: sorted(data.utt2dur.items()) for name, data in splits.items()})
    identity = {"noise": noise["test"], "utterances": utterances}
    claim = arguments.exp / "data.yaml"
    if not claim.is_file():
        write_atomically(claim, yaml.safe_dump(identity))
    elif read_yaml(claim) != identity:
        raise InputError(
            f"{arguments.exp}: was made from other data than {arguments.data}: name its --data, or choose another --exp"
        )


if __name__ == "__main__":
    main()
