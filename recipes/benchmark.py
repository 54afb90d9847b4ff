#!/usr/bin/env python3
"""How fast it is, on this machine: figures that tests must not depend on, as ratios against a reference of the same run.

benchmark.py corrupt [--seconds N]      stage 1: speed against real time on one core, two jobs against one
benchmark.py enhance [--model DIR]      a generator on one thread: real-time factor, against one FFT pass of the same audio
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from logbook import machine

from gan_denoise import datadir, generators
from gan_denoise.checkpoint import load_model
from gan_denoise.stft import STFT
from gan_denoise.terminal import program

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_RATE, UTTERANCE_S = 16000, 4.0


@program
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("corrupt", "enhance"))
    parser.add_argument("--seconds", type=float, default=3600.0, help="amount of audio for `corrupt` (3600)")
    parser.add_argument("--model", type=Path, help="for `enhance` (the default generator, untrained)")
    arguments = parser.parse_args()
    print(machine())
    if arguments.what == "corrupt":
        corrupt(arguments.seconds)
    else:
        enhance(arguments.model)


def corrupt(seconds: float) -> None:
    """The whole stage 1 as run.sh starts it, without the audit."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav = {}
        for number in range(round(seconds / UTTERANCE_S)):
            wav[f"a_{number:06d}"] = folder / f"a_{number:06d}.wav"
            wave = 0.05 * draw.standard_normal(round(UTTERANCE_S * SAMPLE_RATE))
            sf.write(wav[f"a_{number:06d}"], wave, SAMPLE_RATE, subtype="PCM_16")
        took = {1: math.inf, 2: math.inf}  # the faster of two runs each, since a shared machine has slow moments
        for run in range(2):
            for jobs in took:
                data = folder / f"run{run}_jobs{jobs}"
                datadir.DataDir(wav, dict.fromkeys(wav, "a"), dict.fromkeys(wav, UTTERANCE_S)).write(data)
                command = [sys.executable, ROOT / "egs/vctk/local/corrupt.py", "--no-audit", "--jobs", str(jobs), data]
                started = time.monotonic()
                subprocess.run(command, check=True)
                took[jobs] = min(took[jobs], time.monotonic() - started)
    print(f"corrupt, 1 job: {seconds / took[1]:.0f} x real time, starting included")
    print(f"corrupt, 2 jobs: {took[1] / took[2]:.2f} x one job")


def enhance(model: Path | None) -> None:
    torch.set_num_threads(1)
    if model:
        generator, _ = load_model(model)
    else:
        generator = generators.build({"name": "convnext"}, sample_rate=SAMPLE_RATE).eval()
    noisy = 0.05 * torch.randn(1, 1, round(30 * SAMPLE_RATE))
    stft = STFT(512, 128)

    def seconds(function) -> float:
        times = []
        with torch.inference_mode():
            function()
            for _ in range(5):
                started = time.perf_counter()
                function()
                times.append(time.perf_counter() - started)
        return float(np.median(times))

    own, reference = seconds(lambda: generator(noisy)), seconds(lambda: stft.inverse(stft(noisy[0]), noisy.shape[-1]))
    print(f"enhance, 1 thread, 30 s: real-time factor {own / 30:.4f}, {own / reference:.1f} x an STFT and its inverse")


if __name__ == "__main__":
    main()
