#!/usr/bin/env python3
"""Check before a long training whether the data and the settings are fit for it.

    python recipes/check.py [recipes/experiments/gan.yaml] [--data DIR] [--out DIR] [key=value ...]

It shows what the data are like, whether the generator can overfit one batch, and which learning
rate suits it. It takes a minute or two on two cores and leaves out the adversary. It writes
DIR/check.html. The exit status is 1 if the batch is not learnt, since the training would fail as
well.
"""

from __future__ import annotations

import os
from pathlib import Path

from checking import recordings
from checking.plots import batch_by_heart, learning_rates
from checking.rehearsal import ByHeart, RangeTest, by_heart, range_test
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import program, say, tell
from reporting.plain import as_text, figure, page, table
from training.corpus import Corpus
from training.draws import Draws
from training.experiment import PRECISIONS, Experiment, read_experiment, sorted_out
from training.launch import build_accelerator
from training.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]
PROCEDURES = ROOT / "egs/vctk/conf"
UPDATES = 120  # of each rehearsal
SHARE = 0.6  # of the noisy batch's own loss


@program
def main() -> int:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / "egs/vctk/data",
        metavar="DIR",
        help="folder that holds train and dev (default egs/vctk/data)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for check.html (default egs/vctk/exp/check_NAME)",
    )
    parser.add_argument(
        "--updates",
        type=int,
        default=UPDATES,
        metavar="N",
        help=f"number of updates in each of the two short trainings (default {UPDATES})",
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="EXPERIMENT.yaml | key=value",
        help="experiment file (default recipes/experiments/gan.yaml) and changes to its settings",
    )
    arguments = parser.parse_intermixed_args()
    paths, overrides = sorted_out(arguments.settings)
    if len(paths) > 1:
        parser.error(f"one experiment at a time, found {' '.join(map(str, paths))}")
    if arguments.updates < 20:
        parser.error("--updates: expected a whole number from 20")
    path = paths[0] if paths else ROOT / "recipes/experiments/gan.yaml"
    experiment = read_experiment(path, overrides, PROCEDURES)
    corpus = Corpus.read(arguments.data, experiment, PROCEDURES)
    out = arguments.out or ROOT / "egs/vctk/exp" / f"check_{path.stem}"

    splits = {"train": corpus.train, "dev": corpus.dev}
    by_split = recordings.measure_all(splits, jobs=len(os.sched_getaffinity(0)))
    about = recordings.rows(splits, by_split)
    warnings = list(recordings.warnings(splits, by_split))
    tell(*as_text(about), *(f"WARNING: {line}" for line in warnings))

    learnt, tried = rehearse(experiment, corpus, arguments.updates)
    said = [sentence(learnt), advice(tried, experiment.optimizer.lr)]
    tell(*said)
    body = table("data", about) + "".join(f"<p>{line}</p>" for line in warnings)
    body += figure("One batch, again and again", batch_by_heart(learnt))
    body += figure("All learning rates in a row", learning_rates(tried))
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "check.html", page(f"check of {path.stem}", " ".join(said), body))
    say(f"pictures: {out / 'check.html'}")
    if learnt.problem:
        raise InputError(f"{path}: a batch is not learnt: {learnt.problem}")
    return 0


def rehearse(experiment: Experiment, corpus: Corpus, updates: int) -> tuple[ByHeart, RangeTest]:
    """Both short trainings, on the segments with which the long one begins."""
    accelerator = build_accelerator(PRECISIONS["float32"][0], [])
    schedule = Schedule(updates, updates, 0, False)
    draws = Draws(corpus, experiment, schedule, accelerator)
    try:
        batches = []
        for update in range(1, updates + 1):
            batch = draws.next(update)
            batches.append((batch["noisy"], batch["clean"]))
    finally:
        draws.close()
    rate = corpus.sample_rate
    learnt = by_heart(experiment, rate, batches[0], updates=updates, share=SHARE)
    return learnt, range_test(experiment, rate, iter(batches), updates=updates)


def sentence(learnt: ByHeart) -> str:
    """What became of the batch."""
    reached = min(learnt.losses[-10:])
    verdict = "not learnt" if learnt.problem else "learnt"
    return (
        f"One batch is {verdict}: loss {learnt.of_input:.4f} of the noisy input, {reached:.4f}"
        f" after {len(learnt.losses)} updates, at most {learnt.target:.4f} wanted."
    )


def advice(tried: RangeTest, lr: float) -> str:
    """What the range test says about the experiment's learning rate."""
    if tried.suggestion is None:
        return "Learning rates: the loss falls at none of them."
    end = tried.rates[-1]
    text = f"Learning rates: the loss is lowest at {tried.lowest_at:.1e}"
    text += f" and diverges from {end:.1e}" if end < 0.9 else ""
    ratio = lr / tried.suggestion
    fits = "fits" if 0.2 <= ratio <= 5.0 else "is low" if ratio < 1 else "is high"
    return f"{text}; suggested: {tried.suggestion:.1e}. optimizer.lr={lr:g} {fits}."


if __name__ == "__main__":
    main()
