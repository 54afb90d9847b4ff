#!/usr/bin/env python3
"""Make trained models part of the package: small, described, and found by their names.

    publish.py MODEL... OUT

OUT is gan_denoise/published. The weights are rounded to float16, and OUT/NAME/config.json says how
far the output moves by that. NAME is the experiment's. A model whose recordings of noise have
licences that its config.json cannot name, or that was not trained to its end, is refused.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from gan_denoise import checkpoint
from gan_denoise.contract import Generator
from gan_denoise.errors import InputError
from gan_denoise.provenance import overlap
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program, say

LEAST_SNR_DB = 40.0  # of the rounded model's output against the model's


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="model directory")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, as above")
    arguments = parser.parse_args()
    for model in arguments.models:
        name, snr_db = publish(model, arguments.out)
        say(
            f"{arguments.out / name}: float16; its output is {snr_db:.1f} dB above what"
            " rounding changes"
        )


def publish(model: Path, out: Path) -> tuple[str, float]:
    """Write OUT/NAME, whole or not at all.

    Returns NAME and how far, in dB, the output lies above what rounding changes. Raises InputError
    for what is not to be published.
    """
    generator, config = checkpoint.load_model(model)
    name, written = config.get("name"), config.get("experiment", {})
    if not name or config.get("step") != written.get("steps"):
        steps = f"{config.get('step')} of {written.get('steps')} updates"
        raise InputError(model, f"was not trained to its end ({steps})", "run stage 2 again")
    if written.get("scenes") or written.get("init") or written.get("distil"):
        problem = "learnt from recordings or models whose licences config.json does not name"
        raise InputError(model, problem, "write its card by hand, as gan_denoise/boxed/CARD.md")
    if (out / name).exists():
        raise InputError(out / name, "exists", "remove it, or choose another OUT")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        part = Path(folder) / name
        facts = {**config, "licence": "MIT", "rounded_from": config["weights"]}
        checkpoint.save_model(part, generator.half(), facts)
        before, after = (checkpoint.load_model(path)[0] for path in (model, part))
        snr_db = difference_db(before, after, config["sample_rate"])
        if not snr_db >= LEAST_SNR_DB:
            problem = f"float16 changes its output too much ({snr_db:.1f} dB below it)"
            raise InputError(model, problem, f"{LEAST_SNR_DB:g} dB are asked for")
        checkpoint.save_model(part, generator, {**facts, "rounding_snr_db": round(snr_db, 1)})
        overlap.write(part, overlap.read(model))
        shutil.move(part, out / name)
    return name, snr_db


def difference_db(before: Generator, after: Generator, sample_rate: int) -> float:
    """Power of the output of a model over that of its change, in dB.

    The input is two seconds of harmonics, which begin and end as syllables do, in noise.
    """
    draw, time_s = np.random.default_rng(0), np.arange(2 * sample_rate) / sample_rate
    voice = sum(np.sin(2 * np.pi * 140 * k * time_s + k) / k for k in range(1, 25))
    wave = 0.05 * voice * np.clip(np.sin(2 * np.pi * 3 * time_s), 0, None)
    noisy = torch.from_numpy(wave + 0.01 * draw.standard_normal(len(time_s))).float()[None, None]
    with torch.inference_mode():
        one, other = before(noisy).double(), after(noisy).double()
    return float(10 * torch.log10(one.square().sum() / (one - other).square().sum()))


if __name__ == "__main__":
    main()
