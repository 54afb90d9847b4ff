"""Shared fixtures: signals that behave like speech, small corpora, a prepared data folder.

They work offline and on the CPU.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from gan_denoise import scoring
from gan_denoise.config import dump_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.metrics import METRICS
from gan_denoise.provenance import code
from gan_denoise.provenance.inputs import FORMAT, file_digest

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / "egs/vctk/local"
CONF = ROOT / "egs/vctk/conf"
sys.path[:0] = [str(ROOT / "recipes"), str(LOCAL)]
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of programs start here: what they import is compiled once
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
atexit.register(gc.freeze)  # as gan_denoise.system.terminal does
gc.set_threshold(100_000, 50, 50)  # looking through all that torch holds takes longer than it frees
scoring.preload()  # whichever test starts the first worker


# Modules whose fixtures any test may ask for
FIXTURES = ("small_models", "training_runs", "service_here", "service_process", "browsing")


def pytest_configure(config: pytest.Config) -> None:
    """Where tests run: the process that hands them out does without torch."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        for name in FIXTURES:
            config.pluginmanager.import_plugin(name)
        # A script's `&` and nohup have programs ignore these. These tests go on doing so, but what
        # they start heeds them: an exec undoes a handler, and not SIG_IGN.
        for number in (signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they ask for, and begin with those that take longest.

    What waits for Slurm begins first, beside the others; what is marked slow follows.
    """
    for item in items:
        for fixture, marker in (("cluster", "slurm"), ("browser", "browser")):
            if isinstance(item, pytest.Function) and fixture in item.fixturenames:
                item.add_marker(marker)
                item.add_marker("slow")
    first = ("slurm", "slow")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in first])


def pytest_collection_finish() -> None:
    """Where tests run, as above."""
    import torch
    import torch._dynamo  # two seconds, which the first optimizer of every fork would take

    torch.set_num_threads(1)


def speech_like(seed: int, seconds: float = 1.0, sample_rate: int = 16000) -> np.ndarray:
    """Harmonics with a moving pitch, syllables and pauses, -20 dBFS: (T,) float64."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    pitch_hz = 120 + 60 * draw.random() + 20 * np.sin(2 * np.pi * (2 + draw.random()) * time)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    tilt = 1.0 + draw.random()
    wave = sum(np.sin(k * phase + k) / k**tilt for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time + draw.random()), 0.0, None)
    wave = (wave + 0.05 * draw.standard_normal(len(time))) * syllables
    return 0.1 * wave / np.sqrt(np.mean(wave**2))


def write(path: Path, wave: np.ndarray, sample_rate: int = 16000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, sample_rate, **options)
    return path


def run(*command: Any, cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess:
    """Run a program as a user would; its output is text."""
    arguments = [sys.executable if word == "python" else str(word) for word in command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | options.pop("env", {})
    return subprocess.run(
        arguments, cwd=cwd, capture_output=True, text=True, env=environment, timeout=300, **options
    )


def here(main: Callable, *command: Any) -> subprocess.CompletedProcess:
    """A program in this process, which spares its start: what `run` returns for it."""
    words, status = [str(word) for word in command], 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as left:
            assert not isinstance(left.code, str)
            status = left.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def cli(*arguments: Any) -> subprocess.CompletedProcess:
    """gan-denoise in this process."""
    from gan_denoise.__main__ import main

    return here(main, "gan-denoise", *arguments)


def local(name: str, *arguments: Any) -> subprocess.CompletedProcess:
    """A program of egs/vctk/local in this process."""
    return here(importlib.import_module(name).main, LOCAL / f"{name}.py", *arguments)


def one_error_line(result: subprocess.CompletedProcess, *expected: str, status: int = 1) -> None:
    """The program failed with one line that holds all expected words, and without a traceback."""
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for words in expected:
        assert words in errors[0], errors[0]


def write_scores(
    folder: Path, rows: list[dict], data: DataDir, enhanced: dict[str, Path], **about: Any
) -> None:
    """scores.csv and scores.yaml as stage 4 writes them, with these rows."""
    scoring.write_csv(folder / "scores.csv", rows)
    metrics = [name for name in rows[0] if name in METRICS]
    pairs = scoring.pairs_of(data, enhanced)
    record = {
        "format": FORMAT,
        "made_from": scoring.identity(pairs, metrics),
        "code": code.of_scores(),
        "metrics": metrics,
        **about,
    }
    record["is"] = file_digest(folder / "scores.csv")
    (folder / "scores.yaml").write_text(dump_yaml(record))


@pytest.fixture(scope="session")
def plain_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five speakers (ann, bob, spk1, spk10, zoe) with four recordings of 1 to 1.6 s each.

    Each speaker has a folder.
    """
    folder = tmp_path_factory.mktemp("corpus")
    for index, speaker in enumerate(("ann", "bob", "spk1", "spk10", "zoe")):
        for number in range(4):
            wave = speech_like(10 * index + number, 1.0 + 0.2 * number)
            write(folder / speaker / f"rec{number}.wav", wave, subtype="PCM_16")
    return folder


@pytest.fixture(scope="session")
def prepared(plain_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages 0 and 1 on the plain corpus, without the audit."""
    data = tmp_path_factory.mktemp("prepared") / "data"
    result = local("prepare", "--corpus", plain_corpus, "--sample-rate", 16000, data)
    assert result.returncode == 0, result.stderr
    result = local("corrupt", "--no-audit", data / "train", data / "dev", data / "test")
    assert result.returncode == 0, result.stderr
    return data


TINY = """
generator: {width: 8, blocks: 1, level_ms: 64.0, dropout: 0.1}
steps: 12
batch_size: 2
segment_s: 0.5
workers: 0
log_every: 3
checkpoint_every: 4
validate_every: 100
validate_utterances: 1
validate_examples: 1
"""


def experiment_file(path: Path, changes: str) -> Path:
    """gan.yaml with changes, as an experiment of its own."""
    path.write_text(f"base: {ROOT / 'recipes/experiments/gan.yaml'}\n{changes}")
    return path


@pytest.fixture
def tiny_experiment(tmp_path: Path) -> Path:
    """The l1 experiment, made small enough for a test."""
    return experiment_file(
        tmp_path / "tiny.yaml", f"adversary: null\nlosses: {{mrstft: null}}\n{TINY}"
    )


@pytest.fixture
def tiny_gan(tmp_path: Path) -> Path:
    """The gan experiment, made small enough for a test.

    It has 4 steps of warm start, 3 of the discriminators, 8 of both.
    """
    adversary = """
warm_start_steps: 4
discriminator_steps: 3
adversary:
  discriminators: {mpd: {channels: 2, periods: [2, 3]}, msd: {channels: 4, scales: 2, groups: 4}}
  segment_s: 0.25
"""
    return experiment_file(tmp_path / "tiny_gan.yaml", f"{TINY}{adversary}")


def wait_for(condition: Callable[[], Any], seconds: float = 60.0, every_s: float = 0.05) -> Any:
    """What `condition` says, once it is true."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end
        time.sleep(every_s)
    return answer


def queued(cluster: dict[str, str], name: str, state: str) -> str:
    """The id of the job with this name and state, or nothing."""
    command = ["squeue", "--noheader", f"--name={name}", f"--states={state}", "--format=%i"]
    return run(*command, env=cluster).stdout.split("\n")[0]


installed = all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged"))
if not installed and os.environ.get("CI"):
    pytest.fail(
        "the tests of Slurm need Debian's packages slurm-wlm and munge, as .ci/run installs"
    )
needs_slurm = pytest.mark.skipif(
    not installed or os.geteuid() != 0, reason="needs root, slurm-wlm and munge"
)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a cluster's user."""
    folder = tmp_path_factory.mktemp("slurm")
    started = run("bash", ROOT / "tests/slurm.sh", "start", folder)
    assert started.returncode == 0, started.stderr
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    run("bash", ROOT / "tests/slurm.sh", "stop", folder)
