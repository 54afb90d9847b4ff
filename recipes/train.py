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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gan_denoise import checkpoint
from gan_denoise.contract import takes_strength
from gan_denoise.errors import InputError
from gan_denoise.losses import weighted_sum
from gan_denoise.provenance import code, origin
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from training import lineage, trackers
from training.corpus import Corpus
from training.draws import Draws
from training.experiment import PRECISIONS, Experiment, check_name, read_experiment, sorted_out
from training.launch import build_accelerator
from training.logbook import Logbook, Meter, said_finished
from training.models import Models
from training.optimizer import set_learning_rate
from training.resume import (
    Standing,
    check_agreement,
    identify,
    is_finished,
    lend,
    snapshot,
    standing,
    sweep,
    warm_start_key,
)
from training.schedule import Schedule, random_number
from training.stopping import INTERRUPTED, StopSignal
from training.validation import Validation

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
    try:
        with contextlib.ExitStack() as owned:
            return train(accelerator, path, experiment, corpus, exp, arguments.warm_starts, owned)
    finally:
        trackers.finish(accelerator)


def train(
    accelerator: Accelerator,
    path: Path,
    experiment: Experiment,
    corpus: Corpus,
    exp: Path,
    warm_starts: Path | None,
    owned: contextlib.ExitStack,
) -> int:
    stop, leader = StopSignal(accelerator), accelerator.is_main_process
    seed, schedule = experiment.seed, Schedule.of(experiment)
    finished = exp / "model/model.safetensors"
    build = partial(Models, accelerator, experiment, schedule, corpus.sample_rate)
    try:  # models that cannot be built are refused before any file changes
        models = None if finished.is_file() else build()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

    # Where it stands
    if leader and exp.is_dir():  # a command that is refused leaves no folder
        owned.enter_context(owning(exp, busy="refuse"))
    if leader and warm_starts and warm_starts.is_dir():
        sweep(warm_starts)
    identity = identify(experiment, corpus)
    own_path = exp / "checkpoint.pt"
    warm_path = warm_starts / f"{warm_start_key(identity, accelerator)}.pt" if warm_starts else None
    if finished.is_file() and not own_path.exists() and is_finished(exp, identity, schedule.steps):
        if leader:
            say(f"{exp.name}: finished already, {schedule.steps} steps")
        return 0
    stands = standing(own_path, warm_path, identity)
    if stands.update == schedule.updates and finished.is_file():
        if leader:
            say_finished(accelerator, schedule, exp, stands, code.of_training(experiment.decides))
        return 0
    models = models or build()
    trained_by = lineage.by_code(experiment, stands, exp, speaks=leader)
    stands.restore(models.states)
    if experiment.start and not stands.path:
        generator, options = models.bare_generator, experiment.generator
        checkpoint.initialise(generator, experiment.start, options, corpus.sample_rate)
    check_agreement(stands.update, accelerator, exp)
    draws = Draws(corpus, experiment, schedule, accelerator)
    owned.callback(draws.close)
    if models.critic:
        owned.callback(models.critic.close)
    if leader:
        owned.enter_context(owning(exp, busy="refuse"))
        splits = {"train": corpus.train, "dev": corpus.dev}
        about = identity | {
            "name": path.stem,
            "origin": origin.program() | {"split": origin.who(splits), "training": trained_by},
        }
        met = lineage.people(experiment, corpus)
        logbook = open_logbook(accelerator, experiment, schedule, exp, stands, about, met)
        owned.push(logbook.leave)
        validation = Validation(
            corpus.dev,
            exp / "validation",
            count=experiment.validate_utterances,
            examples=experiment.validate_examples,
            sample_rate=corpus.sample_rate,
            jobs=torch.get_num_threads(),
        )

    meter, best = Meter(accelerator), stands.best
    for update in range(stands.update + 1, schedule.updates + 1):
        phase, step = schedule.phase(update), schedule.step(update)
        waiting = time.monotonic()
        batch = draws.next(update)
        waited_s = time.monotonic() - waiting
        noisy, clean = (
            batch[name].to(accelerator.device, models.dtype, non_blocking=True)
            for name in ("noisy", "clean")
        )
        strength = None
        if takes_strength(models.bare_generator):
            strength = batch["strength"].to(accelerator.device, models.dtype)
        # The random numbers of dropout
        torch.manual_seed(random_number(seed, *schedule.draw(update), accelerator.process_index))
        measures, rates = learn(
            accelerator, models, experiment, schedule, update, clean, noisy, strength
        )
        decisive = [
            value for key, value in measures.items() if key.endswith(("loss", "gradient_norm"))
        ]
        # The sum is the one number per update for which the CPU waits
        if not math.isfinite(float(sum(decisive))):
            raise InputError(not_finite(step, measures, batch["utt_id"], own_path))

        # What people see, and what survives
        leaving = stop.requested()
        last = leaving or update == schedule.updates
        meter.measure(waited_s, **measures)
        logged = last or update % experiment.log_every == 0 or update in schedule.borders
        means = meter.means() if logged else {}
        if leader:
            logbook.count()
            if logged:
                logbook.log(update, means, **rates)
            if phase != "discriminator" and (
                step == schedule.steps or step % experiment.validate_every == 0
            ):
                scores = logbook.validate(update, validation, models.averaged)
                score = scores.get(validation.decisive, -math.inf)
                if score > best:
                    best = score
                    logbook.save_model("model_best", models.averaged, step)
                meter.go_on()
            if update == schedule.warm_start:
                best = -math.inf  # later scores must not depend on whose warm start this is
            if last or update % experiment.checkpoint_every == 0 or update in schedule.borders:
                state = snapshot(
                    update, best, logbook.elapsed_s, trained_by, identity, models.states
                )
                if warm_path and update == schedule.warm_start and not warm_path.exists():
                    lend(warm_path, state, exp.name, logbook.text)
                checkpoint.save_state(own_path, state)
        if leaving and update != schedule.updates:
            if leader:
                logbook.close("interrupted", update)
            return INTERRUPTED

    if leader:
        logbook.save_model("model", models.averaged, schedule.steps)
        logbook.close("finished", schedule.updates)
    return 0


def learn(
    accelerator: Accelerator,
    models: Models,
    experiment: Experiment,
    schedule: Schedule,
    update: int,
    clean: torch.Tensor,
    noisy: torch.Tensor,
    strength: torch.Tensor | None,
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """One update of the networks on a batch: what was measured, and the learning rates.

    clean, noisy: (B, 1, T). strength: (B,), for generators that take one, or None.
    """
    phase, step = schedule.phase(update), schedule.step(update)
    generator, adversary, critic = models.generator, models.adversary, models.critic
    measures: dict[str, torch.Tensor] = {}
    rates: dict[str, float] = {}

    # The discriminators; a critic learns further down, when the PESQ values are there
    with torch.set_grad_enabled(phase != "discriminator"):
        told = () if strength is None else (strength,)
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
        terms = models.terms(enhanced, clean, noisy, strength)
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


def open_logbook(
    accelerator: Accelerator,
    experiment: Experiment,
    schedule: Schedule,
    exp: Path,
    stands: Standing,
    about: dict[str, Any],
    people: str,
) -> Logbook:
    """The records of a run, continued from where it stands.

    about: facts for the config.json of its models, besides the experiment's settings. people: the
    speakers that its models were trained on.
    """
    if stands.lender:
        say(
            f"{exp.name}: starts at step {stands.update}, with the warm start of {stands.lender}"
            f" ({stands.path})"
        )
    config = about | {"generator": experiment.generator, "seed": experiment.seed}
    config["processes"] = accelerator.num_processes
    if experiment.licence is not None:
        config["licence"] = experiment.licence
    return Logbook(
        exp,
        config,
        accelerator,
        schedule,
        first=stands.update,
        spent_s=stands.spent_s,
        history=stands.history,
        people=people,
    )


def say_finished(
    accelerator: Accelerator, schedule: Schedule, exp: Path, stands: Standing, now: str
) -> None:
    """Say that a run is finished and needs no further update.

    A run that was killed between its last two records gets the last one. now: digest of the present
    code.
    """
    other = f"; by other code than is here now: to train again, remove {exp}"
    changed = stands.code and stands.code != (now,)
    say(f"{exp.name}: finished already, {schedule.steps} steps{other if changed else ''}")
    if not said_finished(exp):
        first, spent_s = stands.update, stands.spent_s
        book = Logbook(exp, {}, accelerator, schedule, first=first, spent_s=spent_s)
        book.close("finished", first)


def not_finite(
    step: int, measures: dict[str, torch.Tensor], utt_ids: list[str], checkpoint_path: Path
) -> str:
    """The error message for an update whose loss or gradient is not finite."""
    values = {name: float(value.detach()) for name, value in measures.items()}
    readings = ", ".join(f"{name} {value:g}" for name, value in values.items())
    kept = (
        f"{checkpoint_path} is kept" if checkpoint_path.exists() else "there is no checkpoint yet"
    )
    adversarial = any(
        name.startswith("discriminator") and not math.isfinite(value)
        for name, value in values.items()
    )
    return (
        f"step {step}: a loss or its gradient is not finite ({readings}), utterances"
        f" {' '.join(utt_ids)}; {kept}: lower {'adversary.' if adversarial else ''}optimizer.lr,"
        " or look at these files"
    )


def level(enhanced: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """RMS of the generator's output, relative to the clean batch: near 0 where it has died."""
    return enhanced.detach().square().mean().sqrt() / clean.square().mean().sqrt().clamp_min(1e-6)


if __name__ == "__main__":
    main()
