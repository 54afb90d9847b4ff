#!/usr/bin/env python3
"""The table of a model's card: test utterances under several conditions, before and after. Prints
Markdown.

    card.py [--jobs N] [--subset N] MODEL DATADIR

Conditions: the default procedure; background noise of conf/noise_recorded.yaml and
conf/noise_synthetic.yaml (the part `test`, which training has not heard; NOISE_DIR names the folder
of the recordings) at 0, 5 and 10 dB; clean speech.
"""

from __future__ import annotations

import functools
from functools import partial
from pathlib import Path

import numpy as np

from gan_denoise import audio, datadir, noise, terminal, workers
from gan_denoise.config import read_yaml
from gan_denoise.metrics import METRICS, Signals
from gan_denoise.terminal import program, progress
from options import positive

CONF = Path(__file__).resolve().parents[1] / "conf"
SHOWN = ("pesq_wb", "estoi", "si_sdr")
CONDITIONS = (
    "default",
    *(f"{kind} {snr} dB" for kind in ("recorded", "synthetic") for snr in (0, 5, 10)),
    "clean",
)


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("--jobs", type=positive, default=1)
    parser.add_argument(
        "--subset", type=positive, help="of the test utterances, evenly spread (all)"
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATADIR", help="as egs/vctk/data/test")
    arguments = parser.parse_args()
    data = datadir.read(arguments.data)
    utt_ids = data.utt_ids[:: max(1, len(data) // (arguments.subset or len(data)))]
    tasks = [(utt_id, data.wav[utt_id]) for utt_id in utt_ids]
    rows: dict[str, list[np.ndarray]] = {condition: [] for condition in CONDITIONS}
    outcomes = workers.each(
        partial(measure, model=arguments.model), tasks, jobs=arguments.jobs, always_isolated=True
    )
    for outcome in progress(outcomes, total=len(tasks), label="card", unit="utterances"):
        for condition, values in outcome.value().items():
            rows[condition].append(values)
    print("| input | " + " | ".join(METRICS[name].heading for name in SHOWN) + " |")
    print("|---|" + "---|" * len(SHOWN))
    for condition in CONDITIONS:
        before, after = np.mean(rows[condition], axis=0)
        cells = [
            f"{b:.{digits}f} → {a:.{digits}f} ({a - b:+.{digits}f})"
            for b, a, digits in zip(
                before, after, (METRICS[name].decimals for name in SHOWN), strict=True
            )
        ]
        print(f"| {condition} | " + " | ".join(cells) + " |")


@functools.cache
def procedure(condition: str) -> noise.Procedure | None:
    if condition in ("default", "clean"):
        return noise.default() if condition == "default" else None
    kind, snr, _ = condition.split()
    path = CONF / f"noise_{kind}.yaml"
    parameters = read_yaml(path)
    parameters["mix"]["snr_db"] = [float(snr), float(snr)]
    return noise.Procedure(parameters, source=str(path), folder=CONF)


@functools.cache
def denoiser(model: Path):
    import torch

    from gan_denoise.enhance import Denoiser

    torch.set_num_threads(1)
    return Denoiser.load(model)


def measure(task: tuple[str, Path], *, model: Path) -> dict[str, np.ndarray]:
    """Condition -> (2, metrics): before and after."""
    utt_id, path = task
    clean, sample_rate = audio.read_mono(path, dtype="float64")
    values = {}
    for condition in CONDITIONS:
        damage = procedure(condition)
        noisy = damage.apply(clean, utt_id, sample_rate) if damage else clean
        enhanced = denoiser(model)(noisy, sample_rate).astype(np.float64)
        values[condition] = np.array(
            [
                [METRICS[name].function(Signals(clean, wave, None, sample_rate)) for name in SHOWN]
                for wave in (noisy, enhanced)
            ]
        )
    return values


if __name__ == "__main__":
    main()
