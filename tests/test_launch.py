"""How train.py is started: one process or several, by accelerate, torchrun or alone; its memory."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT, one_error_line, run
from gan_denoise.errors import InputError
from training.launch import check_environment
from training_runs import assert_same, forked, train, weights


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2: no launcher has started this process: unset WORLD_SIZE RANK LOCAL_RANK",
        ),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "no launcher has started this process"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: is not a number of processes"),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "ACCELERATE_USE_DEEPSPEED=true: this training does not know DEEPSPEED",
        ),
        ({"ACCELERATE_USE_FSDP": "1"}, "ACCELERATE_USE_FSDP=1: this training does not know FSDP"),
    ],
)
def test_a_launch_that_cannot_be_is_one_line(environment: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        check_environment(environment)
    assert expected in str(refused.value)


def test_what_is_launched_is_what_was_asked_for(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accumulation, compiler and precision of the environment have no effect: the same bits."""
    assert check_environment({"WORLD_SIZE": "2", "RANK": "1", "TORCHELASTIC_RUN_ID": "x"}) == 2
    assert (
        check_environment(
            {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1", "ACCELERATE_USE_CPU": "true"}
        )
        == 1
    )
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "plain")
    for name, value in {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "eager",
    }.items():
        monkeypatch.setenv(name, value)
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "other")
    assert_same(tmp_path / "plain", tmp_path / "other")


def test_two_launched_processes_of_which_accelerate_makes_one_are_refused(
    prepared: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    """As `accelerate launch --multi_gpu --num_processes 2` does it where torch sees no GPU."""
    launched = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1", "TORCHELASTIC_RUN_ID": "none"}
    result = train(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp", env=launched)
    one_error_line(
        result, "2 processes were launched", "accelerate made 1", "ACCELERATE_USE_CPU=true"
    )
    assert not (tmp_path / "exp").exists()


def test_two_processes_with_a_batch_of_b_equal_one_with_2b(
    prepared: Path, tiny_gan: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    """Two processes on the CPU (gloo) and one process train alike in float64.

    They have the same weights after 20 updates of the generator, and the same logged losses.
    """
    options = [
        "generator.dropout=0.0",
        "steps=20",
        "batch_size=4",
        "precision=float64",
        "--data",
        prepared,
    ]
    for name, processes in (("one", 1), ("two", 2)):
        call = partial(in_process, tiny_gan, "--exp", tmp_path / name, *options)
        assert forked(call, processes=processes) == {0}
    one, two = (weights(tmp_path / name)[1]["modules"] for name in ("one", "two"))
    for part in (
        lambda state: state["generator"],
        lambda state: state["adversary"]["discriminators"],
    ):
        for name, tensor in part(one).items():
            assert tensor.dtype == torch.float64 or not tensor.is_floating_point()
            assert torch.allclose(tensor, part(two)[name], rtol=0, atol=1e-9), name
    assert json.loads((tmp_path / "two/model/config.json").read_text())["processes"] == 2
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    for entry, other in zip(*(map(json.loads, log) for log in logs), strict=True):
        for name in ("loss", "l1", "discriminator_loss", "score_real", "gradient_norm"):
            if name in entry or name in other:
                assert entry[name] == pytest.approx(other[name], rel=1e-6), (entry["update"], name)


FREEING = """
import resource, torch
from training.launch import keep_freed_memory

def pages():  # that the system gives for ten blocks of 16 MB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = pages()
keep_freed_memory()
pages()
print(pages(), given_back)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="malloc is not glibc's")
def test_what_an_update_frees_is_not_given_back() -> None:
    """In a program of its own: how a heap lies that others have used is theirs."""
    pages = run("python", "-c", FREEING, cwd=ROOT / "recipes").stdout.split()
    kept, given_back = (int(number) for number in pages)
    assert kept < given_back / 10
