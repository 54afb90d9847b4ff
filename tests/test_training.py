"""Training: data order, learning rate, exact resume after any kill, refusals, fine-tuning, two processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, one_error_line, run, speech_like

from gan_denoise import checkpoint, datadir, generators
from gan_denoise.errors import InputError
from gan_denoise.segments import Batches, Segments

TRAIN = ROOT / "recipes/train.py"


def segments(prepared, **changes) -> Segments:
    options = {"length": 8000, "sample_rate": 16000, "gain_db": [-6.0, 6.0], "seed": 3, **changes}
    return Segments(datadir.read(prepared / "train", noisy=True), **options)


def test_segments_are_a_function_of_seed_and_position(prepared, monkeypatch):
    forwards, backwards = segments(prepared), segments(prepared)
    wanted = {position: forwards[position] for position in range(30)}
    for position in reversed(range(30)):
        item = backwards[position]
        assert item["utt_id"] == wanted[position]["utt_id"]
        assert torch.equal(item["noisy"], wanted[position]["noisy"])
    count = len(datadir.read(prepared / "train"))
    for epoch in range(2):  # every utterance once an epoch, in another order each time
        assert len({wanted[epoch * count + i]["utt_id"] for i in range(count)}) == count
    assert any(wanted[i]["utt_id"] != wanted[count + i]["utt_id"] for i in range(count))
    others = [segments(prepared, seed=4), segments(prepared, stream="discriminator")]
    assert all(any(other[i]["utt_id"] != wanted[i]["utt_id"] for i in range(count)) for other in others)
    monkeypatch.setattr("gan_denoise.segments._CACHE_BYTES", 0)  # a corpus too large for memory reads the same
    assert torch.equal(segments(prepared)[7]["clean"], wanted[7]["clean"])


def test_segments_are_aligned_pairs_with_one_gain(prepared):
    data = datadir.read(prepared / "train", noisy=True)
    longer = segments(prepared, length=20000)  # most recordings are shorter: zeros follow
    for position in range(8):
        item = longer[position]
        clean, noisy = item["clean"][0].numpy(), item["noisy"][0].numpy()
        length = round(data.utt2dur[item["utt_id"]] * 16000)
        assert not clean[length:].any() and not noisy[length:].any()
        assert 0.5 < (clean @ noisy) / (clean @ clean) < 1.5


def test_batches_do_not_depend_on_the_number_of_processes():
    whole = list(Batches(5, 8, batch_size=6))
    shares = [list(Batches(5, 8, batch_size=6, process=process, processes=2)) for process in range(2)]
    assert whole == [first + second for first, second in zip(*shares, strict=True)]
    assert whole[0] == list(range(30, 36)) and len(Batches(5, 8, batch_size=6)) == 3
    with pytest.raises(InputError, match="batch_size=5 cannot be shared by 2"):
        Batches(0, 1, batch_size=5, processes=2)


def test_learning_rate_is_a_function_of_the_step():
    from train import learning_rate

    settings = {"lr": 1.0, "warmup_steps": 10, "lr_final": 0.1}
    rates = [learning_rate(step, 110, settings) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[59] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)


def train(*arguments, **options) -> subprocess.CompletedProcess:
    return run("python", TRAIN, *arguments, **options)


def weights(exp: Path) -> tuple[bytes, dict]:
    return (exp / "model/model.safetensors").read_bytes(), checkpoint.load_state(exp / "checkpoint.pt")


KILLER = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
moment, count = sys.argv.pop(2), int(sys.argv.pop(2))
sys.argv.pop(0)
replace = os.replace
def counting(source, target):
    global count
    if str(target).endswith("checkpoint.pt"):
        count -= 1
        if count == 0 and moment == "before": os.kill(os.getpid(), 9)
        replace(source, target)
        if count == 0: os.kill(os.getpid(), 9)
    else:
        replace(source, target)
os.replace = counting
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_and_resumed_equals_uninterrupted(prepared, tiny_experiment, tmp_path):
    """kill -9 inside a save, right after a save, and between saves; then the same command."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    result = train(tiny_experiment, "--data", prepared, "--exp", straight)
    assert result.returncode == 0, result.stderr
    command = [tiny_experiment, "--data", prepared, "--exp", broken]
    for moment, count, step in (("before", 1, None), ("after", 1, 4), ("before", 1, 4)):
        if (broken / "log.jsonl").exists():
            (broken / "log.jsonl").write_text((broken / "log.jsonl").read_text() + '{"step": 1')  # half a line
        result = run("python", "-c", KILLER, TRAIN, moment, count, *command)
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert not (broken / "model").exists()
        assert json.loads((broken / "status.json").read_text())["state"] == "running"
        if step is None:
            assert not (broken / "checkpoint.pt").exists()
        else:
            assert checkpoint.load_state(broken / "checkpoint.pt")["step"] == step
    result = train(*command)
    assert result.returncode == 0, result.stderr
    (model, state), (model_resumed, state_resumed) = weights(straight), weights(broken)
    assert model == model_resumed
    for part in ("generator", "ema"):
        assert all(torch.equal(value, state_resumed[part][name]) for name, value in state[part].items())
    for number, moments in state["optimizer"]["state"].items():
        assert all(
            torch.equal(value, state_resumed["optimizer"]["state"][number][name]) for name, value in moments.items()
        )
    logs = [[json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()] for exp in (straight, broken)]
    assert [entry["step"] for entry in logs[1]] == [entry["step"] for entry in logs[0]] == [3, 6, 9, 12, 12]
    assert logs[0][-1]["dev/si_sdr"] == logs[1][-1]["dev/si_sdr"]
    assert json.loads((straight / "status.json").read_text())["state"] == "finished"
    assert (straight / "model_best/model.safetensors").is_file()

    again = train(tiny_experiment, "--data", prepared, "--exp", straight)  # a finished run stays as it is
    assert again.returncode == 0 and weights(straight)[0] == model
    changed = train(tiny_experiment, "--data", prepared, "--exp", straight, "optimizer.lr=1e-4")
    one_error_line(changed, "was started with other settings", "optimizer.lr was 0.002, is 0.0001", "--exp")
    other = tmp_path / "other"
    shutil.copytree(prepared, other)
    noise = (other / "train/noise.yaml").read_text()
    (other / "train/noise.yaml").write_text(noise.replace("fingerprint: ", "fingerprint: x"))
    one_error_line(train(tiny_experiment, "--data", other, "--exp", straight), "noise differs", "--data")
    (straight / "checkpoint.pt").write_bytes(b"PK but no zip")
    one_error_line(train(tiny_experiment, "--data", prepared, "--exp", straight), "checkpoint.pt", "remove it")

    tuned = tmp_path / "tuned"  # fine-tuning
    result = train(
        tiny_experiment, "--data", prepared, "--exp", tuned, f"init={straight / 'model'}", "steps=1", "optimizer.lr=0"
    )
    assert result.returncode == 0, result.stderr
    assert weights(tuned)[0] == model


def test_sigterm_saves_and_leaves(prepared, tiny_experiment, tmp_path):
    exp = tmp_path / "exp"
    command = [
        sys.executable,
        str(TRAIN),
        str(tiny_experiment),
        "--data",
        str(prepared),
        "--exp",
        str(exp),
        "workers=1",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "steps=100000"], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    for line in process.stderr:
        if "step 3/" in line:
            os.killpg(process.pid, signal.SIGTERM)  # to the data worker too, as `timeout` and batch systems do
            break
    stderr = process.stderr.read()
    assert process.wait(timeout=60) == 75, stderr
    status = json.loads((exp / "status.json").read_text())
    assert status["state"] == "interrupted" and status["step"] >= 3
    assert checkpoint.load_state(exp / "checkpoint.pt")["step"] == status["step"]
    assert not (exp / "model").exists()


def test_two_processes_see_the_batch_of_one(prepared, tiny_experiment, tmp_path):
    """accelerate's launcher, two processes on the CPU: the same losses as one process within rounding."""
    options = ["generator.dropout=0.0", "steps=3", "log_every=1", "--data", prepared]
    launch = ["accelerate", "launch", "--cpu", "--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no"]
    result = run(*launch, "--dynamo_backend", "no", TRAIN, tiny_experiment, "--exp", tmp_path / "two", *options)
    assert result.returncode == 0, result.stderr
    result = train(tiny_experiment, "--exp", tmp_path / "one", *options)
    assert result.returncode == 0, result.stderr
    first, second = (
        [json.loads(line)["gradient_norm"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()[:3]]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(first, second, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer.lrr=1"], 'unknown key "lrr" (did you mean "lr"?)'),
        (["step=5"], 'unknown key "step" (did you mean "steps"?)'),
        (["steps=0"], "steps: expected a whole number from 1, found 0"),
        (["precision=fp16"], "expected float32 or bf16"),
        (["losses.l1=null", "losses.l2=1"], 'losses: unknown key "l2"'),
        (["losses.l1=.nan"], "losses: l1: expected a number from 0"),
        (["generator=convnext"], "generator: expected name: and sizes"),
        (["generator.width=-1"], "generator convnext"),
        (["generator.hop_ms=0"], "generator convnext"),
        (["optimizer.betas=[0.9, 1.0]"], "betas: expected a number from 0.9 to 0.9999"),
        (["seed=99999999999"], "seed: expected a whole number from 0"),
        (["clip_norm=null"], '"clip_norm" is missing'),
        (["init=nowhere"], "nowhere: is no model directory"),
    ],
)
def test_bad_settings_are_one_line(arguments, expected, prepared, tiny_experiment, tmp_path, capsys):
    """In this process, since importing torch anew for each would cost minutes."""
    import train as program

    old_argv, old_handlers = sys.argv, {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    sys.argv = ["train.py", str(tiny_experiment), "--data", str(prepared), "--exp", str(tmp_path / "exp"), *arguments]
    try:
        with pytest.raises(SystemExit) as left:
            program.main()
    finally:
        sys.argv = old_argv
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert left.value.code == 1 and len(errors) == 1 and expected in errors[0], errors
    assert not (tmp_path / "exp").exists()


def test_bf16_keeps_its_output_in_float32():
    torch.manual_seed(0)
    generator = generators.build({"name": "convnext", "width": 16, "blocks": 1}, sample_rate=16000).eval()
    noisy = torch.from_numpy(speech_like(0)).float()[None, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halved = generator(noisy)
    assert halved.dtype == torch.float32
    assert torch.allclose(halved, generator(noisy), atol=5e-3)


def test_a_loss_that_is_not_finite_stops_the_run(prepared, tiny_experiment, tmp_path):
    exp = tmp_path / "exp"
    result = train(
        tiny_experiment, "--data", prepared, "--exp", exp, "optimizer.lr=1e30", "optimizer.warmup_steps=0", "steps=50"
    )
    one_error_line(result, "not finite", "utterances", "keeps its last checkpoint")
    state = checkpoint.load_state(exp / "checkpoint.pt") if (exp / "checkpoint.pt").exists() else None
    assert state is None or all(torch.isfinite(value).all() for value in state["generator"].values())
