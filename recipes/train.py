#!/usr/bin/env python3
"""Train one experiment.

    accelerate launch recipes/train.py [recipes/experiments/l1.yaml] [--data DIR] [--exp DIR] [key=value ...]

The same command again resumes. SIGTERM or Ctrl-C saves and leaves with exit status 75. `init=DIR` starts from the weights
of a model directory (fine-tuning). Read it from top to bottom: the setup, the loop, the small print.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from experiment import check_same_run, read_experiment, what_decides
from logbook import Logbook
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from validate import Validation

from gan_denoise import checkpoint, datadir, generators
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses
from gan_denoise.noise import digest
from gan_denoise.segments import Batches, Segments
from gan_denoise.terminal import program, say

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = 75  # EX_TEMPFAIL: come again


@program
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT / "egs/vctk/data", help="folder with train and dev (egs/vctk/data)"
    )
    parser.add_argument("--exp", type=Path, help="where the run is kept (egs/vctk/exp/NAME)")
    parser.add_argument(
        "settings", nargs="*", metavar="EXPERIMENT.yaml | key=value", help="e.g. optimizer.lr=1e-3 seed=1"
    )
    arguments = parser.parse_intermixed_args()
    paths = [setting for setting in arguments.settings if "=" not in setting]
    if len(paths) > 1:
        parser.error(f"one experiment at a time, found {' '.join(paths)}")
    path = Path(paths[0]) if paths else ROOT / "recipes/experiments/l1.yaml"
    experiment = read_experiment(path, [setting for setting in arguments.settings if "=" in setting])
    accelerator = Accelerator(mixed_precision={"float32": "no", "bf16": "bf16"}[experiment["precision"]])
    try:
        return train(
            accelerator, path.stem, experiment, arguments.data, arguments.exp or ROOT / "egs/vctk/exp" / path.stem
        )
    finally:
        accelerator.end_training()


def train(accelerator: Accelerator, name: str, experiment: dict, data: Path, exp: Path) -> int:
    stop = StopSignal(accelerator)
    device, leader = accelerator.device, accelerator.is_main_process
    train_data, dev_data = (datadir.read(data / split, noisy=True) for split in ("train", "dev"))
    noise = datadir.read_noise(data / "train")
    seed, steps, sample_rate = experiment["seed"], experiment["steps"], noise["sample_rate"]

    # The model
    torch.manual_seed(seed)
    generator = generators.build(experiment["generator"], sample_rate=sample_rate)
    losses = Losses(experiment["losses"])
    settings = experiment["optimizer"]
    optimizer = torch.optim.AdamW(
        generator.parameters(),
        lr=settings["lr"],
        betas=settings["betas"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    generator, optimizer = accelerator.prepare(generator, optimizer)
    bare_generator = accelerator.unwrap_model(generator)
    ema = AveragedModel(bare_generator, multi_avg_fn=get_ema_multi_avg_fn(experiment["ema_decay"]))

    # Where it stands
    identity = {
        "experiment": what_decides(experiment),
        "noise": noise["fingerprint"],
        "data": digest([sorted(split.utt2dur.items()) for split in (train_data, dev_data)]),
        "sample_rate": sample_rate,
    }
    first, best, spent_s = 0, -math.inf, 0.0
    state_path = exp / "checkpoint.pt"
    if state_path.exists():
        state = checkpoint.load_state(state_path)
        if "identity" not in state:
            raise InputError(f"{state_path}: is no training state of this project: remove it")
        check_same_run(state["identity"], identity, exp)
        bare_generator.load_state_dict(state["generator"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        first, best, spent_s = state["step"], state["best"], state["spent_s"]
        if first == steps and (exp / "model/model.safetensors").is_file():
            if leader:
                say(f"{exp.name}: finished already, {steps} steps")
            return 0
    elif experiment.get("init"):
        initialise(bare_generator, Path(experiment["init"]), experiment["generator"], sample_rate)

    # The data: what an update sees is a function of (seed, step) alone
    segments = Segments(
        train_data,
        length=round(experiment["segment_s"] * sample_rate),
        sample_rate=sample_rate,
        gain_db=experiment["gain_db"],
        seed=seed,
    )
    share = {"process": accelerator.process_index, "processes": accelerator.num_processes}
    batches = Batches(first, steps, batch_size=experiment["batch_size"], **share)
    loader = iter(
        DataLoader(
            segments,
            batch_sampler=batches,
            num_workers=experiment["workers"],
            pin_memory=device.type == "cuda",
            worker_init_fn=leave_signals_to_the_parent,
        )
    )

    if leader:
        config = identity | {"name": name, "generator": experiment["generator"], "seed": seed}
        logbook = Logbook(exp, config, first=first, steps=steps, spent_s=spent_s)
        validation = Validation(
            dev_data,
            exp / "validation",
            count=experiment["validate_utterances"],
            examples=experiment["validate_examples"],
            sample_rate=sample_rate,
            jobs=torch.get_num_threads(),
        )

    for step in range(first + 1, steps + 1):
        # One update of the generator
        waiting = time.monotonic()
        batch = next(loader)
        waited_s = time.monotonic() - waiting
        noisy, clean = (batch[name].to(device, non_blocking=True) for name in ("noisy", "clean"))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, settings)
        torch.manual_seed(step_seed(seed, step, accelerator.process_index))  # dropout: nothing random needs saving
        optimizer.zero_grad()
        loss, terms = losses(generator(noisy), clean, noisy)
        accelerator.backward(loss)
        gradient_norm = accelerator.clip_grad_norm_(generator.parameters(), experiment["clip_norm"])
        if not torch.isfinite(gradient_norm):
            raise InputError(
                f"step {step}: the loss ({float(loss):g}) or its gradient is not finite, utterances {' '.join(batch['utt_id'])}; "
                f"{exp} keeps its last checkpoint: lower optimizer.lr, or look at these files"
            )
        optimizer.step()
        ema.update_parameters(bare_generator)

        # What people see, and what survives
        leaving = stop.requested()
        last = leaving or step == steps
        if leader:
            logbook.measure(waited_s, loss=loss, **terms, gradient_norm=gradient_norm)
            if last or step % experiment["log_every"] == 0:
                logbook.log(step, lr=learning_rate(step, steps, settings))
            if step == steps or step % experiment["validate_every"] == 0:
                scores = validation(ema.module, device)
                logbook.log_validation(step, scores, validation)
                if scores.get("pesq_wb", -math.inf) > best:
                    best = scores["pesq_wb"]
                    logbook.save_model("model_best", ema.module, step)
            if last or step % experiment["checkpoint_every"] == 0:
                state = {"step": step, "best": best, "spent_s": logbook.elapsed_s, "identity": identity}
                modules = {"generator": bare_generator, "ema": ema, "optimizer": optimizer}
                checkpoint.save_state(
                    state_path, state | {name: module.state_dict() for name, module in modules.items()}
                )
        if leaving and step < steps:
            if leader:
                logbook.close("interrupted", step)
            return INTERRUPTED

    if leader:
        logbook.save_model("model", ema.module, steps)
        logbook.close("finished", steps)
    return 0


def learning_rate(step: int, steps: int, settings: dict) -> float:
    """A pure function of the step (1 to steps): a linear warm-up to `lr`, then half a cosine down to `lr_final`."""
    if step <= settings["warmup_steps"]:
        return settings["lr"] * step / settings["warmup_steps"]
    share = (step - settings["warmup_steps"]) / max(1, steps - settings["warmup_steps"])
    return settings["lr_final"] + (settings["lr"] - settings["lr_final"]) * 0.5 * (1.0 + math.cos(math.pi * share))


def step_seed(*numbers: int) -> int:
    """A seed for torch that is a function of the numbers, such as (seed, step, process)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class StopSignal:
    """SIGTERM or SIGINT to any process makes all of them leave after the same step. A second one kills as usual."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator, self._received = accelerator, False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)

    def requested(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self._received
        flag = torch.tensor(float(self._received), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)


def leave_signals_to_the_parent(worker: int) -> None:
    """In a data worker: a signal to the whole process group must not take the data away before the state is saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def initialise(generator: nn.Module, model_dir: Path, options: dict, sample_rate: int) -> None:
    """Start from the weights of a model directory, which must hold the same generator at the same rate."""
    source, config = checkpoint.load_model(model_dir)
    if (config["generator"], config["sample_rate"]) != (options, sample_rate):
        raise InputError(
            f"init={model_dir}: holds {config['generator']} at {config['sample_rate']} Hz, needed: {options} at {sample_rate} Hz"
        )
    generator.load_state_dict(source.state_dict())


if __name__ == "__main__":
    main()
