#!/usr/bin/env python3
"""Check before stages 2 to 5 that DATA and the models in EXP belong together.

    same_data.py [--jobs N] DATA EXP

DATA must be as stage 1 left it, and the models that EXP holds must have been trained on it. Only
finished models count: a run that was started with a wrong --data does not claim its EXP.
"""

from __future__ import annotations

import json
from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import datadir
from gan_denoise.datadir import SPLITS
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import data_digest
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program
from kaldi.options import positive


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder that holds train, dev and test"
    )
    parser.add_argument("exp", type=Path, metavar="EXP", help="folder of the experiments")
    arguments = parser.parse_args()
    data = arguments.data
    splits = {name: datadir.read(data / name, noisy=True) for name in SPLITS}
    noise = {name: datadir.read_noise(data / name)["fingerprint"] for name in SPLITS}
    if len(set(noise.values())) > 1:
        raise InputError(
            f"{data}: its splits have different noise ({noise}): prepare it again in another --data"
        )
    contents = {
        name: data_digest(split, data / name, jobs=arguments.jobs) for name, split in splits.items()
    }
    trained_on = {name: contents[name] for name in ("train", "dev")}
    for path in sorted(arguments.exp.glob("*/model/config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("data") != trained_on or config.get("noise") != noise["train"]:
            raise InputError(
                f"{path.parents[1]}: was made from other data than {data}: name its --data, or"
                " choose another --exp"
            )


if __name__ == "__main__":
    main()
