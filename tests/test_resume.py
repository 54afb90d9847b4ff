"""A training that is killed, repeated or begun from a shared start: the same bits, or one line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from gan_denoise import checkpoint
from test_owner import holder
from training_runs import (
    ON_THE_CPU,
    TRAIN,
    TWO_PROCESSES,
    assert_same,
    dying,
    forked,
    train,
    weights,
)


def test_killed_and_resumed_equals_uninterrupted(
    prepared: Path, tiny_experiment: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    """kill -9 inside a save, right after a save, and between saves; then the same command."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    in_process(tiny_experiment, "--data", prepared, "--exp", straight)
    command = [tiny_experiment, "--data", prepared, "--exp", broken]
    for moment, count, step in (("before", 1, None), ("after", 1, 4), ("before", 1, 4)):
        if (broken / "log.jsonl").exists():
            # Half a line
            (broken / "log.jsonl").write_text((broken / "log.jsonl").read_text() + '{"step": 1')
        assert forked(dying(moment, count, partial(in_process, *command))) == {-signal.SIGKILL}
        assert not (broken / "model").exists()
        assert json.loads((broken / "status.json").read_text())["state"] == "running"
        if step is None:
            assert not (broken / "checkpoint.pt").exists()
        else:
            assert checkpoint.load_state(broken / "checkpoint.pt")["update"] == step
    result = train(*command)
    assert result.returncode == 0, result.stderr
    assert_same(straight, broken)
    assert json.loads((straight / "status.json").read_text())["state"] == "finished"
    assert (straight / "model_best/model.safetensors").is_file()


def test_a_finished_run_stays_and_another_is_refused(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    exp = tmp_path / "exp"
    command = [tiny_experiment, "--data", prepared, "--exp"]
    in_process(*command, exp)
    model = weights(exp)[0]
    in_process(*command, exp)
    assert "finished already" in capsys.readouterr().err and weights(exp)[0] == model

    def refused(*arguments: Any) -> str:
        with pytest.raises(SystemExit):
            in_process(*arguments)
        (line,) = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")
        ]
        return line

    line = refused(*command, exp, "optimizer.lr=1e-4")
    assert (
        "was started with other settings (optimizer.lr was 0.002, is 0.0001)" in line
        and "--exp" in line
    )
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    noise = (other / "train/noise.yaml").read_text()
    (other / "train/noise.yaml").write_text(noise.replace("fingerprint: ", "fingerprint: x"))
    (other / "train/noisy.made").unlink()
    line = refused(tiny_experiment, "--data", other, "--exp", exp)
    assert "noise differs" in line and "--data" in line

    # Fine-tuning
    in_process(*command, tmp_path / "tuned", f"init={exp / 'model'}", "steps=1", "optimizer.lr=0")
    assert weights(tmp_path / "tuned")[0] == model
    start = [tmp_path / "other", f"init={exp / 'model'}", "steps=1", "optimizer.lr=0"]
    line = refused(*command, *start, "generator.kernel_size=3")
    assert "holds {'name': 'convnext'" in line and "'kernel_size': 3" in line
    in_process(*command, *start, "generator.level_ms=512")  # of another option with these weights
    assert weights(tmp_path / "other")[0] == model
    (exp / "checkpoint.pt").write_bytes(b"PK but no zip")
    line = refused(*command, exp)
    assert "checkpoint.pt" in line and "remove it" in line


def test_a_checkpoint_of_another_version_is_one_line(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "exp/checkpoint.pt"
    checkpoint.save_state(path, {"update": 3, "modules": {}, "identity": {}})

    def refusal() -> str:
        with pytest.raises(SystemExit):
            in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")
        return capsys.readouterr().err

    assert "checkpoint.pt: was not written by this version" in refusal()
    path.unlink()
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")
    state = checkpoint.load_state(path) | {"update": 3}
    state["modules"]["generator"] = {
        f"old.{name}": value for name, value in state["modules"]["generator"].items()
    }
    checkpoint.save_state(path, state)
    assert "checkpoint.pt: does not fit this version of the recipe" in refusal()


def test_an_exp_has_one_writer(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    writer = holder(tmp_path / "exp")
    with pytest.raises(SystemExit):
        in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")
    line = f"exp: is being written by -c, process {writer.pid}"
    assert line in capsys.readouterr().err and writer.poll() is None
    writer.kill()
    writer.wait()
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_gan_killed_at_a_random_update_and_resumed_equals_uninterrupted(
    processes: int, prepared: Path, tiny_gan: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    """kill -9 strikes one process in the discriminators' phase and in the GAN's.

    Of two processes both are killed. A critic learns beside the discriminators.
    """
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    critic = "adversary.metric={weight: 0.1, discriminators: {metric: {channels: 2, n_fft: 256}}}"
    command = [tiny_gan, critic, "--data", prepared, "--exp"]
    assert forked(partial(in_process, *command, straight), processes=processes) == {0}
    assert json.loads((straight / "model/config.json").read_text())["processes"] == processes
    draw = random.Random(os.getpid())
    for low, high in ((5, 7), (8, 14))[processes - 1 :]:
        state_path, update = broken / "checkpoint.pt", draw.randint(low, high)
        done = checkpoint.load_state(state_path)["update"] if state_path.exists() else 0
        killed = dying("update", update - done, partial(in_process, *command, broken))
        assert forked(killed, processes=processes) == {-signal.SIGKILL}
        assert not (broken / "model").exists(), (update, done)
    assert 0 < checkpoint.load_state(broken / "checkpoint.pt")["update"] < 15
    if processes == 1:
        in_process(*command, broken)
    else:  # as a user starts them
        result = run(*TWO_PROCESSES, TRAIN, *command, broken, env=ON_THE_CPU)
        assert result.returncode == 0, result.stderr
    assert_same(straight, broken)
    state = weights(straight)[1]["modules"]
    for opponent in ("adversary", "critic"):
        assert state[opponent]["optimizer"]["state"][0]["step"] == 11.0
    assert state["optimizer"]["state"][0]["step"] == 12.0


def test_a_shared_warm_start_changes_nothing(
    prepared: Path, tiny_gan: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    shared = ["--warm-starts", tmp_path / "warm"]
    in_process(
        tiny_gan, "--data", prepared, "--exp", tmp_path / "l1_mrstft", "adversary=null", *shared
    )
    (saved,) = (tmp_path / "warm").glob("*.pt")
    kept = saved.read_bytes()
    in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "heir", *shared)
    in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "own")
    assert_same(tmp_path / "own", tmp_path / "heir")
    best = [(tmp_path / name / "model_best/model.safetensors").exists() for name in ("own", "heir")]
    assert best[0] == best[1]
    configs = [checkpoint.load_model(tmp_path / name / "model")[1] for name in ("own", "heir")]
    assert configs[0]["origin"]["training"] == configs[1]["origin"]["training"]  # of one code
    assert [path.read_bytes() for path in (tmp_path / "warm").glob("*.pt")] == [kept]
    # These do not agree so far
    for changed in ("optimizer.lr=1e-3", "losses.mrstft=null", "seed=1"):
        in_process(
            tiny_gan, "--data", prepared, "--exp", tmp_path / changed, "steps=12", changed, *shared
        )
    assert len(list((tmp_path / "warm").glob("*.pt"))) == 4
