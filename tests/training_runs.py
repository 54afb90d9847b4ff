"""train.py: as a program, in this process, in forks that are killed; two runs compared."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.forkserver import ForkServer
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from conftest import ROOT, run
from gan_denoise import audio, checkpoint, scoring
from gan_denoise.metrics import Signals, si_sdr
from gan_denoise.system import workers
from training import logbook, stopping

TRAIN = ROOT / "recipes/train.py"


def train(*arguments: Any, **options: Any) -> subprocess.CompletedProcess:
    return run("python", TRAIN, *arguments, **options)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run train.py in this process, without its validation's scoring processes.

    Raises SystemExit unless it succeeds.
    """
    import train as program

    def call(*arguments: Any) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        handlers = {
            number: signal.getsignal(number)
            for number in (*stopping.SIGNALS, stopping.FROM_A_WORKER)
        }
        try:
            program.main()
        except SystemExit as left:
            if left.code:
                raise
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    monkeypatch.setattr("training.validation.dev_metrics", lambda sample_rate: ("si_sdr",))
    monkeypatch.setattr("training.validation.scoring.score", score_here)
    return call


def score_here(pairs: Any, *, jobs: int, metrics: tuple[str, ...]) -> Iterator[Any]:
    for pair in pairs:
        clean, enhanced = (audio.read_mono(path)[0] for path in (pair.clean, pair.enhanced))
        value = round(si_sdr(Signals(clean, enhanced, None, 16000)), scoring.DECIMALS)
        yield {"utt_id": pair.utt_id, "si_sdr": value}


def weights(exp: Path) -> tuple[bytes, dict]:
    return (exp / "model/model.safetensors").read_bytes(), checkpoint.load_state(
        exp / "checkpoint.pt"
    )


# accelerate's launcher starts one process for --cpu --num_processes 2 where there is no MPI
TWO_PROCESSES = ["torchrun", "--standalone", "--nproc_per_node", 2]


ON_THE_CPU = {"ACCELERATE_USE_CPU": "true"}


def forked(call: Callable[[], None], *, processes: int = 1) -> set[int | None]:
    """What torchrun would start, as forks of this process, without importing torch anew.

    The others are killed as soon as one fails. Returns their exit statuses.
    """
    common = {"WORLD_SIZE": processes, "TORCHELASTIC_RUN_ID": "forked"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": server.getsockname()[1]}

    def start(rank: int) -> None:
        os.environ.update(ON_THE_CPU)
        if processes > 1:
            variables = common | {"RANK": rank, "LOCAL_RANK": rank}
            os.environ.update({name: str(value) for name, value in variables.items()})
        # Its own: the parent's is no child of it
        ForkServer.__init__(multiprocessing.forkserver._forkserver)
        workers._PRELOADED.clear()  # what other tests have asked for
        call()

    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=start, args=[rank]) for rank in range(processes)]
    statuses: set[int | None] = set()
    for process in running:
        process.start()
    while running:
        multiprocessing.connection.wait([process.sentinel for process in running])
        ended = [process for process in running if not process.is_alive()]
        running = [process for process in running if process not in ended]
        statuses |= {process.exitcode for process in ended}
        if statuses - {0}:
            for process in running:
                process.kill()
    return statuses


def dying(moment: str, count: int, call: Callable[[], None]) -> Callable[[], None]:
    """`call`, which is killed at a moment of its count-th checkpoint or update.

    moment: "before" or "after" the checkpoint comes to its place, or "update". For `forked`: what
    it changes stays changed.
    """

    def counted() -> None:
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def saving(act: Callable) -> Callable:
        def act_and_count(source: Any, target: Any, **options: Any) -> None:
            refused = act is link and os.path.exists(target)  # what is there is replaced
            counts = str(target).endswith("checkpoint.pt") and not refused
            if counts and moment == "before":
                counted()
            act(source, target, **options)
            if counts and moment == "after":
                counted()

        return act_and_count

    def measuring(*arguments: Any, **values: Any) -> None:
        counted()
        measure(*arguments, **values)

    def run_until_then() -> None:
        if moment == "update":
            pytest.MonkeyPatch().setattr(logbook.Meter, "measure", measuring)
        else:
            os.link, os.replace = saving(os.link), saving(os.replace)
        call()

    link, measure = os.link, logbook.Meter.measure
    return run_until_then


def assert_same(one: Path, other: Path) -> None:
    """Two runs ended with the same bits and logged the same.

    The bits are those of the generator, EMA, discriminators and both optimizers.
    """
    (model, state), (other_model, other_state) = weights(one), weights(other)
    assert model == other_model
    assert_same_state(state["modules"], other_state["modules"])
    logs = [
        [json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()]
        for exp in (one, other)
    ]
    assert [entry["update"] for entry in logs[0]] == [entry["update"] for entry in logs[1]]
    # Scored in this process or in one of its own, whose sums may differ in their last bit
    scores = [entries[-1]["dev/si_sdr"] for entries in logs]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def assert_same_state(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_same_state(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (part, others) in enumerate(zip(one, other, strict=True)):
            assert_same_state(part, others, f"{where}/{number}")
    else:
        assert one == other, where
