#!/usr/bin/env python3
"""Measure what the procedure does to speech, with the project's own code, for FINDINGS.md.

    analyse_noise.py [--utterances N] [--jobs N] DATADIR

This is not a stage of run.sh. For zeroing alone it prints the SI-SDR that the redundancy predicts,
and that of an inversion that knows the mask. For every manipulation alone it prints what the best
gain within [0, 1] repairs, and what the clean magnitude would repair.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

import recipe_path  # noqa: F401
from gan_denoise import audio, datadir, scoring
from gan_denoise.corruption.noise import Procedure
from gan_denoise.metrics import Signals, si_sdr
from gan_denoise.system import terminal, workers
from gan_denoise.system.terminal import program, progress
from kaldi.options import positive
from kaldi.oracles import oracle

CONF = Path(__file__).resolve().parents[1] / "conf"
SHARES = (0.1, 0.2, 0.3, 0.5)
LONGEST_S = 3.0  # the inversion of longer ones takes long
METRICS = ("pesq_wb", "si_sdr")


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--utterances",
        type=positive,
        default=24,
        metavar="N",
        help="number of recordings to measure (default 24)",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument("data", type=Path, metavar="DATADIR", help="data directory of clean speech")
    arguments = parser.parse_args()
    data = datadir.read(arguments.data)
    files = [(utt_id, data.wav[utt_id]) for utt_id in data.spread(arguments.utterances)]

    print("| zeroed | redundancy | predicted | measured | mask known | another's mask |")
    print("|-------:|-----------:|----------:|---------:|-----------:|---------------:|")
    for share in SHARES:
        for redundancy in (2, 4):
            work = partial(zeroing, share=share, redundancy=redundancy)
            outcomes = list(workers.each(work, files, jobs=arguments.jobs))
            measured, same, other = np.mean([outcome.value() for outcome in outcomes], axis=0)
            predicted = 10 * np.log10((1 - share) * redundancy / share)
            print(
                f"| {share:.0%} | {redundancy} | {predicted:.1f} | {measured:.1f} | {same:.1f} |"
                f" {other:.1f} |",
                flush=True,
            )

    print(
        "\n| PESQ-WB / SI-SDR dB | noisy | oracle mask | oracle magnitude |\n|---|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("zero", "scale", "add", "default", "heavy"):
            noise = CONF / ("noise.yaml" if name == "default" else f"noise_{name}.yaml")
            write = partial(write_oracles, noise=noise, folder=Path(folder) / name)
            written = {
                outcome.item[0]: outcome.value()
                for outcome in workers.each(write, files, jobs=arguments.jobs)
            }
            cells = []
            for kind in range(3):
                pairs = [
                    scoring.Pair(utt_id, clean, written[utt_id][kind]) for utt_id, clean in files
                ]
                rows = list(
                    progress(
                        scoring.score(pairs, jobs=arguments.jobs, metrics=METRICS),
                        total=len(pairs),
                        label=name,
                    )
                )
                cells.append(
                    " / ".join(
                        f"{np.mean([row[metric] for row in rows]):.2f}" for metric in METRICS
                    )
                )
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def zeroing(task: tuple[str, Path], *, share: float, redundancy: int) -> list[float]:
    """SI-SDR in dB of the zeroed utterance, and of two inversions of the zeroing.

    One inversion knows the utterance's own mask; the other one uses another utterance's mask.
    Zeroing is linear: the procedure itself, applied to any signal under the same utt_id, is the
    operator to invert.
    """
    utt_id, path = task
    clean, sample_rate = audio.read_mono(path, dtype="float64")
    clean = clean[: round(LONGEST_S * sample_rate)]
    stft = {"n_fft": 1024, "hop_length": 1024 // redundancy, "window": "hann"}
    procedure = Procedure({"seed": 0, "stft": stft, "manipulations": [{"zero": {"share": share}}]})
    noisy = procedure.apply(clean, utt_id, sample_rate)
    scores = [si_sdr(Signals(clean, noisy, None, sample_rate))]
    for name in (utt_id, f"not {utt_id}"):
        corrupt = LinearOperator(
            (len(clean),) * 2, lambda wave, name=name: procedure.apply(wave, name, sample_rate)
        )
        inverted, _ = gmres(corrupt, noisy, rtol=1e-6, restart=40, maxiter=2)
        scores.append(si_sdr(Signals(clean, inverted, None, sample_rate)))
    return scores


def write_oracles(task: tuple[str, Path], *, noise: Path, folder: Path) -> list[Path]:
    """The noisy utterance, and what the two oracles make of it, as files."""
    utt_id, path = task
    clean, sample_rate = audio.read_mono(path, dtype="float64")
    noisy = Procedure.load(noise).apply(clean, utt_id, sample_rate)
    waves = (noisy, *(oracle(clean, noisy, sample_rate, kind) for kind in ("mask", "magnitude")))
    files = [folder / f"{utt_id}_{kind}.wav" for kind in range(3)]
    for file, wave in zip(files, waves, strict=True):
        audio.write_wav(file, wave, sample_rate)
    return files


if __name__ == "__main__":
    main()
