"""The provenance of a training besides its settings and data: code and starting models."""

from __future__ import annotations

import os
from pathlib import Path

from gan_denoise import datadir
from gan_denoise.provenance import code, overlap
from gan_denoise.system.terminal import say
from training.corpus import Corpus
from training.experiment import Experiment
from training.resume import Standing


def by_code(
    experiment: Experiment, stands: Standing, exp: Path, *, speaks: bool
) -> tuple[str, ...]:
    """Digests of the code that has trained so far, the present one last.

    speaks: whether to say so where they differ.
    """
    now = code.of_training(experiment.decides)
    if stands.lender:  # by its name, a warm start is of the code that is here now
        return (*stands.code[:-1], now)
    if not stands.code or stands.code[-1] == now:
        return stands.code or (now,)
    if speaks:
        say(
            f"{exp.name}: WARNING: the code of training has changed since update {stands.update}:"
            f" the weights rest on both; for this code alone, remove {exp} and train again"
        )
    return (*stands.code, now)


def people(experiment: Experiment, corpus: Corpus) -> str:
    """The speakers that the run's models have been trained on (gan_denoise/provenance/overlap.py).

    Warns where a model that the run starts or learns from was trained on dev or test.
    """
    folders = [experiment.start, experiment.distil and experiment.distil.teacher]
    models = [Path(folder) for folder in folders if folder]
    for model in models:
        for split in ("dev", "test"):
            folder = corpus.folder / split
            listed = (folder / "wav.scp").is_file()
            if listed and (met := overlap.met(model, datadir.read(folder))):
                say(f"WARNING: {model} was trained on {met} of {folder}")
    return overlap.people(corpus.train, models, jobs=os.cpu_count() or 1)
