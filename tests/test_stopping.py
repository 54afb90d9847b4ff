"""Signals to a training, to whichever of its processes: it saves and leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gan_denoise import checkpoint
from training import stopping
from training_runs import TRAIN


@pytest.mark.parametrize("number", [*stopping.SIGNALS, stopping.FROM_A_WORKER])
def test_every_signal_is_a_request_and_twice_at_once_is_one(number: Any) -> None:
    handlers = {
        each: signal.getsignal(each) for each in (*stopping.SIGNALS, stopping.FROM_A_WORKER)
    }
    try:
        stop = stopping.StopSignal(SimpleNamespace(num_processes=1))
        assert not stop.requested()
        for _ in range(2):  # a terminal and a parent may both send it
            os.kill(os.getpid(), number)
        assert stop.requested() and stop.received
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def to_the_group(process: psutil.Process) -> None:
    # To the data worker too, as `timeout` and batch systems do
    os.killpg(process.pid, signal.SIGTERM)


def to_a_data_worker(process: psutil.Process) -> None:
    process.children()[0].terminate()


def kill_the_launcher(process: psutil.Process) -> None:
    process.kill()


@pytest.mark.parametrize("strike", [to_the_group, to_a_data_worker, kill_the_launcher])
def test_a_signal_to_any_process_saves_and_leaves(
    strike: Any, prepared: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    exp = tmp_path / "exp"
    launch = [sys.executable]
    if strike is kill_the_launcher:
        launch += ["-m", "accelerate.commands.launch", "--num_processes", "1"]
    command = [
        *launch,
        TRAIN,
        tiny_experiment,
        "--data",
        prepared,
        "--exp",
        exp,
        "workers=1",
        "steps=100000",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stderr
    assert any("step 3/" in line for line in process.stderr)
    tree = psutil.Process(process.pid).children(recursive=True)
    strike(psutil.Process(process.pid))
    stderr = process.stderr.read()
    status = process.wait(timeout=60)
    assert status == (-signal.SIGKILL if strike is kill_the_launcher else 75), stderr
    assert "Traceback" not in stderr
    assert not psutil.wait_procs(tree, timeout=20)[1]  # nothing goes on
    status = json.loads((exp / "status.json").read_text())
    assert status["state"] == "interrupted" and status["step"] >= 3
    assert checkpoint.load_state(exp / "checkpoint.pt")["update"] == status["update"]
    assert not (exp / "model").exists()
