"""Stage 1's look at what the noise does to speech: DATADIR/audit.csv."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_denoise import datadir, scoring
from gan_denoise.metrics import METRICS, lead_metric
from gan_denoise.system.terminal import progress, say

UTTERANCES = 50  # per split
WIPED_OUT_STOI = 0.6


def audit(folder: Path, jobs: int) -> None:
    """Score noisy against clean on up to 50 fixed utterances.

    Prints the scores, keeps them in audit.csv, and warns where speech is lost.
    """
    data = datadir.read(folder, noisy=True)
    pairs = [
        scoring.Pair(utt_id, data.wav[utt_id], data.noisy[utt_id])
        for utt_id in data.spread(UTTERANCES)
    ]
    lead = lead_metric(datadir.read_noise(folder)["sample_rate"])
    metrics = (lead, "stoi", "si_sdr")
    scored = scoring.score(pairs, jobs=jobs, metrics=metrics)
    rows = list(progress(scored, total=len(pairs), label=f"stage 1: audit of {folder.name}"))
    scoring.write_csv(folder / "audit.csv", rows)
    values = {name: [row[name] for row in rows if row[name] is not None] for name in metrics}
    means = {
        name: float(np.mean(scores)) if scores else float("nan") for name, scores in values.items()
    }
    say(
        f"stage 1: audit of {folder.name}: noisy against clean, {len(rows)} utterances: SI-SDR"
        f" {means['si_sdr']:.2f} dB, {METRICS[lead].heading} {means[lead]:.2f}, STOI"
        f" {means['stoi']:.3f} ({folder / 'audit.csv'})"
    )
    gaps = [
        f"{name} {len(rows) - len(scores)} of {len(rows)}"
        for name, scores in values.items()
        if len(scores) < len(rows)
    ]
    if gaps:
        say(f"  without a value: {', '.join(gaps)}")
    if means["stoi"] < WIPED_OUT_STOI:
        say(
            f"  WARNING: STOI is under {WIPED_OUT_STOI}: this procedure wipes the speech out; make"
            " it milder"
        )
