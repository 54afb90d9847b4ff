#!/usr/bin/env python3
"""Measure speed on this machine, as ratios against a reference that is measured in the same run.

benchmark.py corrupt [--seconds N]
    the speed of stage 1 against real time on one core, and of two jobs against one
benchmark.py enhance [--model DIR]
    the real-time factor of every generator, or of one model, on one thread, against one FFT pass of
    the same audio
benchmark.py stream [--model DIR]
    a live model hop by hop on one thread: its graph in onnxruntime, the whole live stream of the
    library, and torch, each against products of matrices
benchmark.py quality [--data DIR] [--experiment FILE]
    CPU minutes, validations included, until a training reaches a PESQ-WB of 2.40 on dev
benchmark.py gan [--experiment FILE]
    an update of the GAN phase against the textbook's, each saving by itself, and rejected variants
"""

# Tests must not depend on these figures.

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.textbook import SAMPLE_RATE, Update
from benchmarks.variants import (
    halve,
    moved,
    stack_scales,
    unfold,
    unfold_channels_last,
    unfuse,
)
from gan_denoise import datadir, generators
from gan_denoise.checkpoint import load_model
from gan_denoise.contract import streams
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.export import export
from gan_denoise.graph import session
from gan_denoise.packaged import BOXED
from gan_denoise.provenance.origin import machine
from gan_denoise.signal.stft import STFT
from gan_denoise.signal.streaming import Stream
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program
from training.experiment import read_experiment

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS, PROCEDURES = ROOT / "recipes/experiments", ROOT / "egs/vctk/conf"
UTTERANCE_S = 4.0
PRODUCTS, SIZE = 20, 64  # products of square matrices, the reference of `stream`


def arguments_parser() -> argparse.ArgumentParser:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "what",
        choices=("corrupt", "enhance", "stream", "gan", "quality"),
        help="what to measure, as above",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=3600.0,
        metavar="S",
        help="seconds of audio for `corrupt` (default 3600)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help=(
            "model directory for `enhance` (default: every generator, untrained) and `stream`"
            " (default: the packaged model live)"
        ),
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="FILE",
        help=(
            "experiment file for `gan` (default gan.yaml) and `quality` (default"
            " l1_mrstft_muon.yaml)"
        ),
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / "egs/vctk/data",
        metavar="DIR",
        help="folder of train and dev for `quality` (default egs/vctk/data)",
    )
    parser.add_argument(
        "--goal",
        type=float,
        default=2.4,
        metavar="PESQ",
        help="PESQ-WB on dev at which `quality` stops (default 2.4)",
    )
    parser.add_argument(
        "--updates",
        type=positive,
        default=8,
        metavar="N",
        help="number of updates of each variant for `gan` (default 8)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="measure torch.compile too, for `gan`; takes minutes"
    )
    return parser


@program
def main() -> None:
    arguments = arguments_parser().parse_args()
    print(machine())
    if arguments.what == "corrupt":
        corrupt(arguments.seconds)
    elif arguments.what == "enhance":
        enhance(arguments.model)
    elif arguments.what == "stream":
        stream(arguments.model or BOXED["live"])
    elif arguments.what == "quality":
        experiment = arguments.experiment or EXPERIMENTS / "l1_mrstft_muon.yaml"
        quality(experiment, arguments.data, arguments.goal)
    else:
        gan(arguments.experiment or EXPERIMENTS / "gan.yaml", arguments.updates, arguments.compile)


def corrupt(seconds: float) -> None:
    """Measure the whole stage 1 as run.sh starts it, without the audit."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav = {}
        for number in range(round(seconds / UTTERANCE_S)):
            wav[f"a_{number:06d}"] = folder / f"a_{number:06d}.wav"
            wave = 0.05 * draw.standard_normal(round(UTTERANCE_S * SAMPLE_RATE))
            sf.write(wav[f"a_{number:06d}"], wave, SAMPLE_RATE, subtype="PCM_16")
        # The faster of two runs each, since a shared machine has slow moments
        took = {1: math.inf, 2: math.inf}
        for run in range(2):
            for jobs in took:
                data = folder / f"run{run}_jobs{jobs}"
                datadir.DataDir(
                    wav, dict.fromkeys(wav, "a"), dict.fromkeys(wav, UTTERANCE_S)
                ).write(data)
                script = str(ROOT / "egs/vctk/local/corrupt.py")
                command = [sys.executable, script, "--no-audit", f"--jobs={jobs}", str(data)]
                started = time.monotonic()
                subprocess.run(command, check=True)
                took[jobs] = min(took[jobs], time.monotonic() - started)
    print(f"corrupt, 1 job: {seconds / took[1]:.0f} x real time, starting included")
    print(f"corrupt, 2 jobs: {took[1] / took[2]:.2f} x one job")


def enhance(model: Path | None) -> None:
    torch.set_num_threads(1)
    noisy, stft = 0.05 * torch.randn(1, 1, round(30 * SAMPLE_RATE)), STFT(512, 128)

    def seconds(function: Callable[..., object]) -> float:
        times = []
        with torch.inference_mode():
            function()
            for _ in range(5):
                started = time.perf_counter()
                function()
                times.append(time.perf_counter() - started)
        return float(np.median(times))

    if model:
        chosen = {str(model): load_model(model)[0]}
    else:
        chosen = {
            name: generators.build({"name": name}, sample_rate=SAMPLE_RATE).eval()
            for name in generators.names()
        }
    for name, generator in chosen.items():
        took_s, reference = (
            seconds(lambda generator=generator: generator(noisy)),
            seconds(lambda: there_and_back(stft, noisy[0])),
        )
        size = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
        print(
            f"{name:10s} {size:5.1f} M parameters, 30 s at once: real-time factor"
            f" {took_s / 30:.4f}, {took_s / reference:.1f} x an STFT and its inverse"
        )


def there_and_back(stft: STFT, wave: torch.Tensor) -> torch.Tensor:
    return stft.inverse(stft(wave), wave.shape[-1])


def stream(model: Path) -> None:
    """Measure live use: the time of each chunk, without resampling and files.

    A chunk is the model's own hop; a caller that can wait for longer chunks calls less often. After
    each chunk the same products of matrices are computed, for a ratio that is the same in a
    machine's slow hours.
    """
    torch.set_num_threads(1)
    denoiser = Denoiser.load(model)
    generator, live = denoiser.generator, denoiser.stream()
    assert streams(generator)  # or there were no `live`
    hop, chunks = generator.hop_length, 12000
    noisy = 0.05 * np.random.default_rng(0).standard_normal((chunks, hop)).astype(np.float32)
    in_torch = Stream(generator, 1, SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as name:
        list(export(model, Path(name) / "model.onnx"))
        run = session((Path(name) / "model.stream.onnx").read_bytes()).run
    state = {key: value.numpy() for key, value in generator.initial_state().items()}
    matrix = torch.eye(SIZE)

    def step(samples: np.ndarray) -> None:
        nonlocal state
        _, *after = run(None, {"noisy": samples[None], **state})
        state = dict(zip(state, after, strict=True))

    def fixed() -> None:
        for _ in range(PRODUCTS):
            torch.mm(matrix, matrix)

    for what, hops, function in (
        ("onnxruntime", 1, step),
        ("onnxruntime", 2, step),
        ("onnxruntime", 4, step),
        ("stream()", 1, lambda samples: live.push(samples[:, None])),
        ("torch", 1, lambda samples: in_torch.push(samples[:, None])),
    ):
        each_s = []
        for samples in noisy.reshape(-1, hops * hop):
            started = time.perf_counter()
            function(samples)
            ended = time.perf_counter()
            fixed()
            each_s.append((ended - started, time.perf_counter() - ended))
        took_s, fixed_s = np.array(each_s[100:]).T  # the first ones warm up
        chunk_s = hops * hop / SAMPLE_RATE
        print(
            f"{what:12s} chunks of {1e3 * chunk_s:.0f} ms: real-time factor"
            f" {took_s.mean() / chunk_s:.4f} (fastest twentieth"
            f" {np.quantile(took_s, 0.05) / chunk_s:.4f}), {took_s.mean() / fixed_s.mean():.2f} x"
            f" {PRODUCTS} products of {SIZE} x {SIZE} matrices, 99.9th percentile"
            f" {1e3 * np.quantile(took_s, 0.999):.2f} ms, slowest {1e3 * took_s.max():.2f} ms"
        )


def quality(path: Path, data: Path, goal: float) -> None:
    """Train on one thread until the dev score is reached, and measure the CPU time.

    All processes of the training count, and waiting for a core does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = ["validate_every=250", "checkpoint_every=100000", "workers=0"]
        program = [sys.executable, str(ROOT / "recipes/train.py"), str(path)]
        command = [*program, "--data", str(data), "--exp", folder, *settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        training = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        reached = 0
        while training.poll() is None and not reached:
            time.sleep(1.0)
            reached = next((step for step, score in dev_scores(Path(folder)) if score >= goal), 0)
        training.terminate()
        training.wait()
        scores = dev_scores(Path(folder))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (used.ru_utime + used.ru_stime) / 60
    print(*(f"step {step}: dev PESQ-WB {score:.3f}" for step, score in scores), sep="\n")
    if not scores or max(score for _, score in scores) < goal:
        raise InputError(
            f"{path.stem}: dev PESQ-WB {goal:g} was not reached in {minutes:.1f} CPU minutes"
        )
    print(f"{path.stem}: dev PESQ-WB {goal:g} in {minutes:.1f} CPU minutes")


def dev_scores(exp: Path) -> list[tuple[int, float]]:
    """(step, PESQ-WB) of a run's validations so far."""
    log = exp / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("}") and "dev/pesq_wb" in line]
    return [(entry["step"], entry["dev/pesq_wb"]) for entry in entries]


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number from 1")
    return int(text)


def gan(path: Path, updates: int, compiled: bool) -> None:
    """Compare the update of the GAN phase with the textbook's and with rejected variants.

    Variants take turns, so that a slow moment of a shared machine affects all of them alike;
    medians are compared.
    """
    experiment = read_experiment(path, [], PROCEDURES)
    if experiment.adversary is None:
        raise InputError(f"{path}: has no adversary: name an experiment that has one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    savings = ("joint", "frozen", "detached", "silent")
    settings = {
        "the textbook's": {},
        **{f"{saving} alone": {saving: True} for saving in savings},
        "ours": {"ours": True},
    }
    exact: dict[str, Callable] = {}
    rounded = {"ours, optimizers not fused": unfuse, "ours, discriminators in bf16": halve}
    if "mpd" in experiment.adversary.discriminators:
        exact["ours, mpd in two dimensions"] = unfold
        exact["ours, the same, channels last"] = unfold_channels_last
    if "msd" in experiment.adversary.discriminators:
        exact["ours, msd's scales in one"] = stack_scales
    if compiled:
        rounded["ours, discriminators compiled"] = lambda update: (
            update.adversary.bare_bank.compile()
        )
    differences = moved(experiment, device, settings, exact)
    variants = {name: Update(experiment, device, **options) for name, options in settings.items()}
    tried = {name: Update(experiment, device, ours=True) for name in exact | rounded}
    for name, change in (exact | rounded).items():
        change(tried[name])
    draw = torch.Generator().manual_seed(0)
    shape = (experiment.batch_size, 1, round(experiment.segment_s * SAMPLE_RATE))
    took: dict[str, list[float]] = {name: [] for name in variants | tried}
    for number in range(updates + 1):
        clean = 0.05 * torch.randn(shape, generator=draw).to(device)
        noisy = clean + 0.02 * torch.randn(shape, generator=draw).to(device)
        for name, update in (variants | tried).items():
            started = time.perf_counter()
            update(noisy, clean)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first warms up
                took[name].append(time.perf_counter() - started)
    reference = float(np.median(took["the textbook's"]))
    for name in variants | tried:
        median_s = float(np.median(took[name]))
        apart = f"  weights differ by {differences[name]:.1e}" if name in differences else ""
        print(
            f"{name:32s} {1.0 / median_s:6.2f} updates/s"
            f"  {reference / median_s:5.2f} x the textbook's{apart}"
        )
    if device.type == "cuda":
        print(
            "peak memory of all variants together:"
            f" {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    main()
