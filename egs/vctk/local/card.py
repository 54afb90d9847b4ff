#!/usr/bin/env python3
"""The tables of a model's card: test utterances of each corpus before and after. Prints Markdown.

    card.py [--jobs N] [--utterances N] MODEL DATADIR NOISE

Each utterance is enhanced three times: with a recording of the folder NOISE added (WAV or FLAC, in
turn, at 0, 5, 10 and 15 dB, in turn), under the default procedure, and clean.
"""

from __future__ import annotations

import functools
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_denoise import audio, datadir, noise, terminal, workers
from gan_denoise.config import read_yaml
from gan_denoise.errors import InputError
from gan_denoise.metrics import METRICS, Signals
from gan_denoise.terminal import program, progress
from options import positive

SHOWN = ("pesq_wb", "estoi", "si_sdr")
SNRS_DB = (0, 5, 10, 15)


class Task(NamedTuple):
    """An utterance, and what is added to it."""

    utt_id: str
    path: Path
    corpus: str
    recording: Path
    snr_db: int


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("--jobs", type=positive, default=1)
    parser.add_argument("--utterances", type=positive, default=40, help="of each corpus (40)")
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATADIR", help="as egs/vctk/data/test")
    parser.add_argument("noise", type=Path, metavar="NOISE")
    arguments = parser.parse_args()
    tasks = choose(arguments.data, arguments.noise, arguments.utterances)
    measured: dict[tuple[str, str], list[np.ndarray]] = {}
    outcomes = workers.each(
        partial(measure, model=arguments.model), tasks, jobs=arguments.jobs, always_isolated=True
    )
    outcomes = progress(outcomes, total=len(tasks), label="card", unit="utterances")
    for outcome in outcomes:  # in the order of their completion
        task = outcome.item
        for condition, values in outcome.value().items():
            snr = f"{task.snr_db} dB"
            groups = (snr, task.corpus, "all") if condition == "noise" else (task.corpus, "all")
            for group in groups:
                measured.setdefault((condition, group), []).append(values)
    corpora = list(dict.fromkeys(task.corpus for task in tasks))
    order = [*(("noise", f"{snr} dB") for snr in SNRS_DB)]
    order += [(kind, own) for kind in ("noise", "default", "clean") for own in (*corpora, "all")]
    print("| input | files | " + " | ".join(METRICS[name].heading for name in SHOWN) + " |")
    print("|---|---|" + "---|" * len(SHOWN))
    for condition, group in dict.fromkeys(order):
        if found := measured.get((condition, group)):
            print(row(f"{condition}, {group}", found))


def choose(folder: Path, recordings: Path, count: int) -> list[Task]:
    """`count` utterances of each corpus, evenly spread. Raises InputError."""
    data = datadir.read(folder)
    found = sorted(path for path in recordings.glob("*") if path.suffix in (".wav", ".flac"))
    if not found:
        raise InputError(f"{recordings}: holds no WAV or FLAC file: name a folder of recordings")
    corpora = read_yaml(folder.parent / "corpus.yaml").get("corpora")
    speakers = {name: set().union(*own.values()) for name, own in (corpora or {}).items()}
    tasks: list[Task] = []
    for corpus, own in (speakers or {folder.name: set(data.spk2utt)}).items():
        utt_ids = [utt_id for utt_id in data.utt_ids if data.utt2spk[utt_id] in own]
        for place in datadir.spread(len(utt_ids), count):
            utt_id, number = utt_ids[place], len(tasks)
            recording = found[number % len(found)]
            snr_db = SNRS_DB[number % len(SNRS_DB)]
            tasks.append(Task(utt_id, data.wav[utt_id], corpus, recording, snr_db))
    return tasks


def row(name: str, found: list[np.ndarray]) -> str:
    before, after = np.mean(found, axis=0)
    cells = [name, str(len(found))]
    for b, a, metric in zip(before, after, SHOWN, strict=True):
        digits = METRICS[metric].decimals
        cells.append(
            f"{a:.{digits}f}"
            if name.startswith("clean")
            else f"{b:.{digits}f} → {a:.{digits}f} ({a - b:+.{digits}f})"
        )
    return f"| {' | '.join(cells)} |"


@functools.cache
def denoiser(model: Path):
    import torch

    from gan_denoise.enhance import Denoiser

    torch.set_num_threads(1)
    return Denoiser.load(model)


def measure(task: Task, *, model: Path) -> dict[str, np.ndarray]:
    """Condition -> (2, metrics): before and after."""
    clean, sample_rate = audio.read_mono(task.path, dtype="float64")
    added, rate = audio.read_mono(task.recording, dtype="float64")
    added = audio.resample(added, rate, sample_rate)
    start = zlib.crc32(task.utt_id.encode()) % max(1, len(added) - len(clean))
    added = np.resize(added[start : start + len(clean)], len(clean))
    level = np.sqrt(np.sum(clean**2) / (np.sum(added**2) + 1e-12) / 10.0 ** (task.snr_db / 10.0))
    conditions = {
        "noise": clean + level * added,
        "default": noise.default().apply(clean, task.utt_id, sample_rate),
        "clean": clean,
    }
    values = {}
    for condition, noisy in conditions.items():
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
