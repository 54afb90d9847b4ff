#!/usr/bin/env python3
"""Train one experiment.

    accelerate launch recipes/train.py [recipes/experiments/gan.yaml] [--data DIR] [--exp DIR]
                                       [key=value ...]

The same command again resumes. SIGTERM or Ctrl-C saves the state and ends with exit status 75.
After a kill without warning the training resumes at its last checkpoint (`checkpoint_every`).
`init=DIR` starts from the weights of a model directory (fine-tuning).
"""

# Read it from top to bottom: the setup, the loop, an update, the small print.

from __future__ import annotations

import importlib.util
import os
import signal
import sys

if __name__ == "__main__":
    # PYTHONSAFEPATH leaves the program's folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: torch is not here: activate the environment: . egs/vctk/path.sh")
    # While the libraries are imported there is nothing to save; status 75 asks to come again
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(75))

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch

from gan_denoise import checkpoint
from gan_denoise.contract import takes_strength
from gan_denoise.errors import InputError
from gan_denoise.losses import weighted_sum
from gan_denoise.provenance import code
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from training import lineage, trackers
from training.corpus import Corpus
from training.draws import Draws
from training.experiment import PRECISIONS, check_name, read_experiment, sorted_out
from training.launch import build_accelerator
from training.logbook import Meter
from training.models import Models
from training.optimizer import set_learning_rate
from training.records import Records, Setup, finished_already
from training.resume import (
    check_agreement,
    identify,
    is_finished,
    standing,
    sweep,
    warm_start_key,
)
from training.schedule import Schedule, random_number
from training.stopping import INTERRUPTED, StopSignal

ROOT = Path(__file__).resolve().parents[1]
PROCEDURES = ROOT / "egs/vctk/conf"  # noise_NAME.yaml, which `fresh_noise` may name


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
        "--exp",
        type=Path,
        metavar="DIR",
        help="folder for the model, checkpoint and logs (default egs/vctk/exp/NAME)",
    )
    parser.add_argument(
        "--warm-starts",
        type=Path,
        metavar="DIR",
        help=(
            "folder in which trainings whose settings agree share the updates before the adversary"
            " enters (default: none)"
        ),
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="EXPERIMENT.yaml | key=value",
        help=(
            "experiment file (default recipes/experiments/gan.yaml) and changes to its settings,"
            " such as optimizer.lr=1e-3 seed=1"
        ),
    )
    arguments = parser.parse_intermixed_args()
    paths, overrides = sorted_out(arguments.settings)
    if len(paths) > 1:
        parser.error(f"one experiment at a time, found {' '.join(map(str, paths))}")
    path = paths[0] if paths else ROOT / "recipes/experiments/gan.yaml"
    exp = arguments.exp or ROOT / "egs/vctk/exp" / path.stem
    check_name(exp)
    experiment = read_experiment(path, overrides, PROCEDURES)
    mixed_precision, _ = PRECISIONS[experiment.precision]
    accelerator = build_accelerator(mixed_precision, experiment.trackers)
    corpus = Corpus.read(arguments.data, experiment, PROCEDURES)
    schedule = Schedule.of(experiment)
    setup = Setup(accelerator, experiment, schedule, corpus, path, exp, arguments.warm_starts)
    try:
        with contextlib.ExitStack() as owned:
            return train(setup, owned)
    finally:
        trackers.finish(accelerator)


def train(setup: Setup, owned: contextlib.ExitStack) -> int:
    """Take up a run where it stands, and train to its end; returns the exit status.

    owned: closes all that the training holds, however it ends.
    """
    accelerator, experiment = setup.accelerator, setup.experiment
    corpus, exp, stop = setup.corpus, setup.exp, StopSignal(accelerator)
    try:  # models that cannot be built are refused before any file changes
        models = None if setup.model.is_file() else build(setup)
    except InputError as error:
        raise InputError(f"{setup.path}: {error}") from error
    if setup.leader and exp.is_dir():  # a command that is refused leaves no folder
        owned.enter_context(owning(exp, busy="refuse"))
    if setup.leader and setup.warm_starts and setup.warm_starts.is_dir():
        sweep(setup.warm_starts)

    # Where it stands
    identity, steps, warm_path = identify(experiment, corpus), setup.schedule.steps, None
    if setup.warm_starts:
        warm_path = setup.warm_starts / f"{warm_start_key(identity, accelerator)}.pt"
    done = setup.model.is_file() and not setup.checkpoint.exists()
    if done and is_finished(exp, identity, steps):
        if setup.leader:
            say(f"{exp.name}: finished already, {steps} steps")
        return 0
    stands = standing(setup.checkpoint, warm_path, identity)
    if stands.update == setup.schedule.updates and setup.model.is_file():
        if setup.leader:
            finished_already(setup, stands, code.of_training(experiment.decides))
        return 0

    # From there
    models = models or build(setup)
    trained_by = lineage.by_code(experiment, stands, exp, speaks=setup.leader)
    stands.restore(models.states)
    if experiment.start and not stands.path:
        generator, options = models.bare_generator, experiment.generator
        checkpoint.initialise(generator, experiment.start, options, corpus.sample_rate)
    check_agreement(stands.update, accelerator, exp)
    draws, records = Draws(corpus, experiment, setup.schedule, accelerator), None
    owned.callback(draws.close)
    if models.critic:
        owned.callback(models.critic.close)
    if setup.leader:
        owned.enter_context(owning(exp, busy="refuse"))
        records = Records(setup, models, stands, identity, trained_by, warm_path)
        owned.push(records.leave)
    return update_by_update(setup, models, draws, records, stop, stands.update)


def build(setup: Setup) -> Models:
    return Models(setup.accelerator, setup.experiment, setup.schedule, setup.corpus.sample_rate)


def update_by_update(
    setup: Setup, models: Models, draws: Draws, records: Records | None, stop: StopSignal, done: int
) -> int:
    """The updates after `done`; returns the exit status. records: None in all but one process."""
    accelerator, schedule, meter = setup.accelerator, setup.schedule, Meter(setup.accelerator)
    for update in range(done + 1, schedule.updates + 1):
        waiting = time.monotonic()
        batch = draws.next(update)
        waited_s = time.monotonic() - waiting
        # The random numbers of dropout
        torch.manual_seed(
            random_number(setup.experiment.seed, *schedule.draw(update), accelerator.process_index)
        )
        measures, rates = learn(setup, models, update, batch)
        check_finite(setup, schedule.step(update), measures, batch["utt_id"])

        # What people see, and what survives
        leaving = stop.requested()
        last = leaving or update == schedule.updates
        meter.measure(waited_s, **measures)
        logged = last or update % setup.experiment.log_every == 0 or update in schedule.borders
        means = meter.means() if logged else {}
        if records and records.keep(update, means, rates, last=last):
            meter.go_on()
        if leaving and update != schedule.updates:
            if records:
                records.interrupted(update)
            return INTERRUPTED
    if records:
        records.finished()
    return 0


def learn(
    setup: Setup, models: Models, update: int, batch: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """One update of the networks on a batch: what was measured, and the learning rates."""
    accelerator, experiment, schedule = setup.accelerator, setup.experiment, setup.schedule
    phase, step = schedule.phase(update), schedule.step(update)
    generator, adversary, critic = models.generator, models.adversary, models.critic
    names = ["noisy", "clean", "strength"][: 3 if takes_strength(models.bare_generator) else 2]
    noisy, clean, *told = (  # (B, 1, T) twice, and (B,) for generators that take a strength
        batch[name].to(accelerator.device, models.dtype, non_blocking=True) for name in names
    )
    measures: dict[str, torch.Tensor] = {}
    rates: dict[str, float] = {}

    # The discriminators; a critic learns further down, when the PESQ values are there
    with torch.set_grad_enabled(phase != "discriminator"):
        enhanced = (models.bare_generator if phase == "discriminator" else generator)(noisy, *told)
    if adversary and phase != "reconstruction":
        shown = adversary.excerpts(update, clean, enhanced, noisy)
        measures |= adversary.learn(update - schedule.warm_start, *shown)
        rates["discriminator_lr"] = adversary.optimizer.param_groups[0]["lr"]
    if critic and phase != "reconstruction":
        asked = critic.ask(clean, enhanced)

    # The generator
    if phase != "discriminator":
        rates["lr"] = set_learning_rate(
            models.optimizer, step, schedule.steps, experiment.optimizer
        )
        terms = models.terms(enhanced, clean, noisy, *told)
        if adversary and phase == "gan":
            terms |= adversary.terms(*shown)
        if critic and phase == "gan":
            terms |= critic.terms(asked)
        loss = weighted_sum(terms, models.weights(phase))
        models.optimizer.zero_grad()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(generator.parameters(), experiment.clip_norm)
        models.optimizer.step()
        models.ema.update_parameters(models.bare_generator)
        signals = {"gradient_norm": norm, "level": level(enhanced, clean)}
        measures |= {"loss": loss.detach(), **terms, **signals}
    if critic and phase != "reconstruction":
        measures |= critic.learn(update - schedule.warm_start, asked)
    return measures, rates


def check_finite(
    setup: Setup, step: int, measures: dict[str, torch.Tensor], utt_ids: list[str]
) -> None:
    """Raises InputError where a loss or a gradient of an update is not finite."""
    decisive = [value for key, value in measures.items() if key.endswith(("loss", "gradient_norm"))]
    # The sum is the one number per update for which the CPU waits
    if math.isfinite(float(sum(decisive))):
        return
    values = {name: float(value.detach()) for name, value in measures.items()}
    readings = ", ".join(f"{name} {value:g}" for name, value in values.items())
    written = setup.checkpoint.exists()
    kept = f"{setup.checkpoint} is kept" if written else "there is no checkpoint yet"
    adversarial = any(
        name.startswith("discriminator") and not math.isfinite(value)
        for name, value in values.items()
    )
    raise InputError(
        f"step {step}: a loss or its gradient is not finite ({readings}), utterances"
        f" {' '.join(utt_ids)}; {kept}: lower {'adversary.' if adversarial else ''}optimizer.lr,"
        " or look at these files"
    )


def level(enhanced: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """RMS of the generator's output, relative to the clean batch: near 0 where it has died."""
    return enhanced.detach().square().mean().sqrt() / clean.square().mean().sqrt().clamp_min(1e-6)


if __name__ == "__main__":
    main()
