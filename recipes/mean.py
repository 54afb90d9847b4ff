#!/usr/bin/env python3
"""Average the weights of a model and of the one that it started from.

    mean.py [--share S] MODEL START OUT

A model that was trained further has learnt something new, and has forgotten some of what it could
do before. The mean of the weights keeps much of both (Wortsman et al., "Robust fine-tuning of
zero-shot models", 2022). Weights that START lacks, such as those of a strength, stay as they are in
MODEL. OUT is a model directory; its config.json says of which models it is the mean.
"""

from __future__ import annotations

from pathlib import Path

import torch

from gan_denoise import checkpoint, generators
from gan_denoise.errors import InputError
from gan_denoise.provenance import overlap
from gan_denoise.provenance.inputs import file_digest
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program, say


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--share", type=float, default=0.5, metavar="S", help="share of MODEL, 0 to 1 (default 0.5)"
    )
    for name, what in (
        ("model", "directory of the model that was trained further"),
        ("start", "directory of the model that it started from"),
        ("out", "directory to write; it may not hold a model"),
    ):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=what)
    arguments = parser.parse_args()
    share = arguments.share
    if not 0.0 <= share <= 1.0:
        raise InputError(f"--share: expected 0 to 1, found {share:g}")
    if (arguments.out / "model.safetensors").exists():
        raise InputError(f"{arguments.out}: exists: choose another OUT, or remove it")
    generator, config = checkpoint.load_model(arguments.model)
    options, sample_rate = config["generator"], config["sample_rate"]
    digest = file_digest(arguments.start / "model.safetensors")
    if config.get("init") != digest:  # weights that share no past have no mean
        raise InputError(f"{arguments.model}: did not start from {arguments.start}: name its init")
    start, before = generators.build(options, sample_rate=sample_rate), arguments.start
    begun = checkpoint.initialise(start, before, options, sample_rate)
    drawn = set(getattr(getattr(generator, "network", generator), "drawn", ()))
    weights = start.state_dict()
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if name in begun or not drawn & set(name.split(".")):
                weight.lerp_(weights[name], 1.0 - share)
    mean = {"share": share, "model": config["weights"], "start": digest}
    checkpoint.save_model(arguments.out, generator, config | {"mean": mean})
    overlap.write(arguments.out, "".join(map(overlap.read, (arguments.model, arguments.start))))
    say(f"{arguments.out}: {share:g} of {arguments.model}, the rest of {arguments.start}")


if __name__ == "__main__":
    main()
