"""Training: data order, learning rate, exact resume after any kill, refusals, fine-tuning, two
processes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from accelerate.state import AcceleratorState

import gan_denoise
from conftest import CONF, ROOT, cli, one_error_line, run, speech_like
from gan_denoise import audio, checkpoint, datadir, generators, scoring, workers
from gan_denoise.discriminators import Bank
from gan_denoise.errors import InputError
from gan_denoise.metrics import Signals, si_sdr
from gan_denoise.noise import Procedure
from gan_denoise.segments import Batches, Segments
from test_models import SMALL
from test_owner import holder
from training import logbook, stopping, trackers
from training.experiment import OptimizerSettings, read_experiment
from training.launch import check_environment
from training.logbook import find_alarms
from training.optimizer import build_optimizer, learning_rate
from training.schedule import Schedule, random_number
from training.validation import Validation

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
    others = [segments(prepared, seed=4), segments(prepared, draws="discriminator")]
    assert all(
        any(other[i]["utt_id"] != wanted[i]["utt_id"] for i in range(count)) for other in others
    )
    # A corpus too large for memory reads the same
    monkeypatch.setattr("gan_denoise.segments._CACHE_BYTES", 0)
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
    shares = [
        list(Batches(5, 8, batch_size=6, process=process, processes=2)) for process in range(2)
    ]
    assert whole == [first + second for first, second in zip(*shares, strict=True)]
    assert whole[0] == list(range(30, 36)) and len(Batches(5, 8, batch_size=6)) == 3
    with pytest.raises(InputError, match="batch_size=5 cannot be shared by 2"):
        Batches(0, 1, batch_size=5, processes=2)


def test_a_segment_can_begin_on_the_procedures_grid(prepared):
    data = datadir.read(prepared / "train", noisy=True)
    cut, free = segments(prepared, cut=256), segments(prepared)
    for position in range(6):
        segment, other = cut[position], free[position]
        whole, _ = audio.read_mono(data.wav[segment["utt_id"]])
        windows = np.lib.stride_tricks.sliding_window_view(whole, segment["clean"].shape[-1])
        starts = []
        for each in (segment, other):
            wave = each["clean"][0].numpy()
            match = windows @ wave / (np.linalg.norm(windows, axis=1) * np.linalg.norm(wave) + 1e-9)
            starts.append(int(match.argmax()))
        assert starts[0] == starts[1] - starts[1] % 256


def test_fresh_noise_is_the_same_procedure_drawn_anew_at_every_visit(prepared):
    record = datadir.read_noise(prepared / "train")
    procedure = Procedure.of_data(record, prepared / "train")
    drawn, fresh = segments(prepared), segments(prepared, fresh_noise=procedure)
    count = len(datadir.read(prepared / "train"))
    snr_db = []
    for position in range(count):
        item, other = drawn[position], fresh[position]
        assert torch.equal(item["clean"], other["clean"]) and not torch.equal(
            item["noisy"], other["noisy"]
        )
        for pair in (item, other):
            clean, noise = pair["clean"], pair["noisy"] - pair["clean"]
            snr_db.append(10 * float(torch.log10(clean.square().sum() / noise.square().sum())))
    assert np.mean(snr_db[::2]) == pytest.approx(np.mean(snr_db[1::2]), abs=1.0)
    # Resumable
    assert torch.equal(segments(prepared, fresh_noise=procedure)[3]["noisy"], fresh[3]["noisy"])
    again = next(p for p in range(count, 2 * count) if fresh[p]["utt_id"] == fresh[0]["utt_id"])
    assert fresh[again]["utt_id"] == fresh[0]["utt_id"] and not torch.equal(
        fresh[again]["noisy"], fresh[0]["noisy"]
    )
    with pytest.raises(InputError, match="cannot be drawn anew: set fresh_noise=false"):
        Procedure.of_data({**record, "procedure": "given by the corpus"}, prepared / "train")
    with pytest.raises(InputError, match="has changed since"):
        Procedure.of_data({**record, "fingerprint": "0"}, prepared / "train")


def test_learning_rate_is_a_function_of_the_step():
    settings = OptimizerSettings(
        lr=1.0, warmup_steps=10, lr_final=0.1, weight_decay=0.0, betas=[0.8, 0.99]
    )
    rates = [learning_rate(step, 110, settings) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[59] == pytest.approx(0.55) and rates[-1] == pytest.approx(0.1)


def test_muon_moves_matrices_by_orthogonal_steps_and_the_rest_as_adamw_does():
    settings = OptimizerSettings(
        lr=0.01, warmup_steps=0, lr_final=0.01, weight_decay=0.1, betas=[0.9, 0.99]
    )

    def moved(saved: bool = True, **choice) -> dict[str, torch.Tensor]:
        """By two updates, and a third, after a save and a load or without."""
        torch.manual_seed(0)
        module = torch.nn.ModuleDict(
            {
                name: torch.nn.Linear(*shape)
                for name, shape in {"embed": (8, 24), "tall": (24, 96), "wide": (96, 24)}.items()
            }
        )
        before = {name: own.detach().clone() for name, own in module.named_parameters()}
        optimizer = build_optimizer(module, replace(settings, **choice))
        for update in range(3):
            if update == 2 and saved:
                state = optimizer.state_dict()
                optimizer = build_optimizer(module, replace(settings, **choice))
                optimizer.load_state_dict(state)
            draw = torch.Generator().manual_seed(update)
            for own in module.parameters():
                own.grad = torch.randn(own.shape, generator=draw)
            optimizer.step()
            if update == 1:
                second = {name: own.detach().clone() for name, own in module.named_parameters()}
        after = {name: own.detach() for name, own in module.named_parameters()}
        return {
            name: torch.stack([second[name] - before[name], own - second[name]])
            for name, own in after.items()
        }

    adamw, muon, at_once = moved(), moved(muon=0.95), moved(saved=False, muon=0.95)
    for name, movement in muon.items():
        torch.testing.assert_close(movement, at_once[name], rtol=0.0, atol=0.0)
        if name not in ("tall.weight", "wide.weight"):
            torch.testing.assert_close(movement, adamw[name], rtol=0.0, atol=0.0)
            continue
        decay = settings.lr * settings.weight_decay / np.sqrt(3 * min(movement.shape[1:]))
        size = settings.lr * 0.2 * np.sqrt(96)
        values = torch.linalg.svdvals(movement[1]) / size
        assert values.min() > 0.6 and values.max() < 1.25 + decay / size
    # The same by torch's own, which multiplies in bf16
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(96, 24))
    module = torch.nn.ParameterDict({"weight": weight})
    start, steps = weight.detach().clone(), []
    for theirs in (False, True):
        weight.data.copy_(start)
        optimizer = (
            torch.optim.Muon([weight], lr=0.01, adjust_lr_fn="match_rms_adamw")
            if theirs
            else build_optimizer(module, replace(settings, muon=0.95))
        )
        for update in range(3):
            weight.grad = torch.randn(96, 24, generator=torch.Generator().manual_seed(update))
            optimizer.step()
        steps.append((weight.detach() - start).flatten())
    assert torch.nn.functional.cosine_similarity(*steps, dim=0) > 0.995
    assert steps[0].norm() == pytest.approx(float(steps[1].norm()), rel=0.02)
    with pytest.raises(InputError, match="muon: there are no weight matrices"):
        build_optimizer(torch.nn.Conv1d(1, 1, 3), replace(settings, muon=0.95))


def test_phases_are_a_function_of_the_update():
    schedule = Schedule(steps=10, warm_start=4, alone=3, adversarial=True)
    assert schedule.updates == 13 and schedule.borders == {4, 7}
    assert [schedule.phase(update)[0] for update in range(1, 14)] == list("rrrrdddgggggg")
    steps = [1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9, 10]
    assert [schedule.step(update) for update in range(1, 14)] == steps
    assert [schedule.discriminator_only(update) for update in (0, 4, 5, 7, 13)] == [0, 0, 1, 3, 3]
    without = Schedule(steps=10, warm_start=4, alone=0, adversarial=False)
    assert without.updates == 10 and {without.phase(update) for update in range(1, 11)} == {
        "reconstruction"
    }


def test_random_numbers_are_a_function_of_their_key():
    keys = [(0, 1, 0), (0, 1, 1), (1, 1, 0), (0, 11, 0), (0, "excerpt", 1)]
    numbers = [random_number(*key) for key in keys]
    assert len(set(numbers)) == len(keys) and numbers == [random_number(*key) for key in keys]
    assert all(0 <= number < 2**63 for number in numbers)
    assert random_number(0, 1, 0) == 3582676679848224305  # on every machine


def train(*arguments, **options) -> subprocess.CompletedProcess:
    return run("python", TRAIN, *arguments, **options)


@pytest.fixture
def in_process(monkeypatch):
    """train.py in this process, without its validation's scoring processes: raises SystemExit
    unless it succeeds.
    """
    import train as program

    def call(*arguments) -> None:
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


def score_here(pairs, *, jobs: int, metrics: tuple[str, ...]):
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


def forked(call: Callable[[], None], *, processes: int = 1) -> set[int]:
    """What torchrun would start, without its importing torch anew: forks of this process, the
    others killed as soon as one fails. Returns their exit statuses.
    """
    common = {"WORLD_SIZE": processes, "TORCHELASTIC_RUN_ID": "forked"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": server.getsockname()[1]}

    def start(rank: int) -> None:
        os.environ.update(ON_THE_CPU)
        if processes > 1:
            own = common | {"RANK": rank, "LOCAL_RANK": rank}
            os.environ.update({name: str(value) for name, value in own.items()})
        multiprocessing.forkserver._forkserver.__init__()  # its own: the parent's is no child of it
        workers._PRELOADED.clear()  # what other tests have asked for
        call()

    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=start, args=[rank]) for rank in range(processes)]
    statuses: set[int] = set()
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
    """`call`, killed before or after the count-th time that a checkpoint comes to its place, or in
    the count-th update. For `forked`: what it changes stays changed.
    """

    def counted() -> None:
        nonlocal count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def saving(act: Callable) -> Callable:
        def act_and_count(source, target, **options):
            refused = act is link and os.path.exists(target)  # what is there is replaced
            counts = str(target).endswith("checkpoint.pt") and not refused
            if counts and moment == "before":
                counted()
            act(source, target, **options)
            if counts and moment == "after":
                counted()

        return act_and_count

    def measuring(*arguments, **values) -> None:
        counted()
        measure(*arguments, **values)

    def run_until_then() -> None:
        if moment == "update":
            logbook.Meter.measure = measuring
        else:
            os.link, os.replace = saving(os.link), saving(os.replace)
        call()

    link, measure = os.link, logbook.Meter.measure
    return run_until_then


def assert_same(one: Path, other: Path) -> None:
    """Two runs ended with the same bits: generator, EMA, discriminators, both optimizers; and
    logged the same.
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


def assert_same_state(one, other, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_same_state(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for number, (own, others) in enumerate(zip(one, other, strict=True)):
            assert_same_state(own, others, f"{where}/{number}")
    else:
        assert one == other, where


def test_killed_and_resumed_equals_uninterrupted(prepared, tiny_experiment, tmp_path, in_process):
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
    prepared, tiny_experiment, tmp_path, in_process, capsys
):
    exp = tmp_path / "exp"
    command = [tiny_experiment, "--data", prepared, "--exp"]
    in_process(*command, exp)
    model = weights(exp)[0]
    in_process(*command, exp)
    assert "finished already" in capsys.readouterr().err and weights(exp)[0] == model

    def refused(*arguments) -> str:
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


def own_copy(prepared: Path, data: Path) -> dict[str, Path]:
    """A copy of a prepared folder, with noisy files of its own; returns those of train."""
    shutil.copytree(prepared, data)
    for split in ("train", "dev"):
        noisy = {
            utt_id: data / split / f"noisy/{utt_id}.wav"
            for utt_id in datadir.read(data / split).wav
        }
        datadir.write_table(data / split / "noisy.scp", noisy)
    return {
        utt_id: data / f"train/noisy/{utt_id}.wav" for utt_id in datadir.read(data / "train").wav
    }


def test_a_spoiled_log_and_a_full_disk_for_plots_end_no_run(
    prepared, tiny_experiment, tmp_path, in_process, capsys, monkeypatch
):
    command, exp = (tiny_experiment, "--data", prepared, "--exp"), tmp_path / "exp"
    in_process(*command, exp, "steps=3")
    with open(exp / "log.jsonl", "ab") as file:
        file.write(b"\xff\xfe no UTF-8\n")
    before = (exp / "model/model.safetensors").read_bytes()
    in_process(*command, exp, "steps=3")  # finished already
    assert (exp / "model/model.safetensors").read_bytes() == before

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.board.SummaryWriter.add_scalar", full)
    capsys.readouterr()
    in_process(*command, tmp_path / "full", "steps=3")
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert (tmp_path / "full/model/model.safetensors").read_bytes() == before


UNREADABLE = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv.pop(0)
from gan_denoise.errors import InputError
from gan_denoise.segments import Segments
def unreadable(self, position):
    raise InputError("rec.wav: cannot be read any more")
Segments.__getitem__ = unreadable  # inherited by the forked worker
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_a_data_worker_meets_is_its_one_line(prepared, tiny_experiment, tmp_path):
    """And ends the run: workers that outlived the error have kept the process for ever."""
    options = (tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp", "workers=1")
    result = run("python", "-c", UNREADABLE, TRAIN, *options)
    one_error_line(result, "error: rec.wav: cannot be read any more")
    assert json.loads((tmp_path / "exp/status.json").read_text())["state"] == "failed"


def test_a_run_knows_its_data_by_content(prepared, tiny_experiment, tmp_path, in_process, capsys):
    data, exp = tmp_path / "data", tmp_path / "exp"
    path = next(iter(own_copy(prepared, data).values()))
    command = [tiny_experiment, "--data", data, "--exp", exp]
    in_process(*command)
    wave, rate = audio.read_mono(path)
    audio.write_wav(path, wave[::-1], rate)  # as long as before
    for message in (
        f"{path}: is not what stage 1 has made of",
        "exp: was trained on other data (data differs)",
    ):
        with pytest.raises(SystemExit):
            in_process(*command)
        assert message in capsys.readouterr().err
        # As in a folder that other tools have made
        (data / "train/noisy.made").unlink(missing_ok=True)


@pytest.mark.parametrize("cached", [True, False])
def test_pairs_that_are_not_equally_long_are_refused(cached, prepared, tmp_path, monkeypatch):
    if not cached:
        monkeypatch.setattr("gan_denoise.segments._CACHE_BYTES", 0)
    utt_id, path = next(iter(own_copy(prepared, tmp_path / "data").items()))
    wave, rate = audio.read_mono(path)

    def refusal() -> str:
        own = Segments(
            datadir.read(tmp_path / "data/train", noisy=True),
            length=8000,
            sample_rate=16000,
            gain_db=[0.0, 0.0],
            seed=0,
        )
        with pytest.raises(InputError) as refused:
            [own[position] for position in range(20)]
        return str(refused.value)

    audio.write_wav(path, wave[:-100], rate)
    assert f"{path}: {utt_id}: has {len(wave) - 100} samples, its clean counterpart" in refusal()
    audio.write_wav(path, wave[: len(wave) // 2], rate)
    assert f"{path}: {utt_id}: lasts" in refusal()


def test_a_checkpoint_of_another_version_is_one_line(
    prepared, tiny_experiment, tmp_path, in_process, capsys
):
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


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2: no launcher has started this process: unset WORLD_SIZE RANK LOCAL_RANK",
        ),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "no launcher has started this process"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: is no number of processes"),
        (
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "ACCELERATE_USE_DEEPSPEED=true: this training does not know DEEPSPEED",
        ),
        ({"ACCELERATE_USE_FSDP": "1"}, "ACCELERATE_USE_FSDP=1: this training does not know FSDP"),
    ],
)
def test_a_launch_that_cannot_be_is_one_line(environment, expected):
    with pytest.raises(InputError) as refused:
        check_environment(environment)
    assert expected in str(refused.value)


def test_what_is_launched_is_what_was_asked_for(
    prepared, tiny_experiment, tmp_path, in_process, monkeypatch
):
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
    prepared, tiny_experiment, tmp_path
):
    """As `accelerate launch --multi_gpu --num_processes 2` does it where torch sees no GPU."""
    launched = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1", "TORCHELASTIC_RUN_ID": "none"}
    result = train(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp", env=launched)
    one_error_line(
        result, "2 processes were launched", "accelerate made 1", "ACCELERATE_USE_CPU=true"
    )
    assert not (tmp_path / "exp").exists()


def test_an_exp_has_one_writer(prepared, tiny_experiment, tmp_path, in_process, capsys):
    writer = holder(tmp_path / "exp")
    with pytest.raises(SystemExit):
        in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")
    line = f"exp: is being written by -c, process {writer.pid}"
    assert line in capsys.readouterr().err and writer.poll() is None
    writer.kill()
    writer.wait()
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")


def test_below_16_khz_the_narrow_band_decides_which_model_is_best(prepared, tmp_path):
    data = datadir.read(prepared / "dev", noisy=True)
    validations = {
        rate: Validation(data, tmp_path, count=1, examples=1, sample_rate=rate, jobs=1)
        for rate in (8000, 16000, 48000)
    }
    assert [own.decisive for own in validations.values()] == ["pesq_nb", "pesq_wb", "pesq_wb"]
    at_8_khz = {kind: {} for kind in ("wav", "noisy")}
    for kind, files in at_8_khz.items():
        for utt_id, path in getattr(data, kind).items():
            wave, _ = audio.read_mono(path, sample_rate=8000)
            files[utt_id] = tmp_path / f"{kind}/{utt_id}.wav"
            audio.write_wav(files[utt_id], wave, 8000)
    narrow = Validation(
        replace(data, **at_8_khz), tmp_path / "own", count=1, examples=1, sample_rate=8000, jobs=1
    )
    generator = generators.build({"name": "convnext", "width": 8, "blocks": 1}, sample_rate=8000)
    scores = narrow(generator, torch.device("cpu"))
    assert list(scores) == ["pesq_nb", "estoi", "si_sdr"] and 1.0 < scores["pesq_nb"] < 4.6


@pytest.mark.parametrize("processes", [1, 2])
def test_a_gan_killed_at_a_random_update_and_resumed_equals_uninterrupted(
    processes, prepared, tiny_gan, tmp_path, in_process
):
    """kill -9 in the discriminators' phase, of one process, and in the GAN's; of two, both are
    killed. A critic learns beside the discriminators.
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


def test_an_override_cannot_undo_what_an_experiment_is_about():
    """--train-opts go to every experiment: l1 must not silently get the STFT loss, nor half an
    adversary.
    """
    l1 = ROOT / "recipes/experiments/l1.yaml"
    for override in ("losses.mrstft=1", "adversary.losses.lsgan=0.5"):
        with pytest.raises(InputError, match="l1.yaml: (losses.mrstft|adversary) is null there"):
            read_experiment(l1, [override], CONF)
    assert read_experiment(l1, ["adversary=null", "losses.l1=2"], CONF).adversary is None


def test_without_its_adversary_gan_is_l1_mrstft_to_the_bit(
    prepared, tiny_gan, tmp_path, in_process
):
    """Switched off, or there with a weight that vanishes: neither data, nor dropout, nor steps
    differ.
    """
    runs = {
        "l1_mrstft": ["adversary=null"],
        "weightless": ["adversary.losses.lsgan=1e-40", "adversary.losses.feature_matching=null"],
        "gan": [],
    }
    for name, changes in runs.items():
        in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / name, *changes)
    models = {name: weights(tmp_path / name)[0] for name in runs}
    assert models["l1_mrstft"] == models["weightless"] != models["gan"]


def test_a_shared_warm_start_changes_nothing(prepared, tiny_gan, tmp_path, in_process):
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
    assert [path.read_bytes() for path in (tmp_path / "warm").glob("*.pt")] == [kept]
    # These do not agree so far
    for changed in ("optimizer.lr=1e-3", "losses.mrstft=null", "seed=1"):
        in_process(
            tiny_gan, "--data", prepared, "--exp", tmp_path / changed, "steps=12", changed, *shared
        )
    assert len(list((tmp_path / "warm").glob("*.pt"))) == 4


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "recipes/experiments").glob("*.yaml"))
)
def test_every_experiment_builds_and_takes_a_step(
    name, prepared, tmp_path, in_process, monkeypatch
):
    """All phases once: an update of the warm start, of the discriminators alone, and of both."""
    changes = [
        "steps=2",
        "warm_start_steps=1",
        "batch_size=1",
        "segment_s=0.3",
        "workers=0",
        "log_every=1",
        "validate_utterances=1",
    ]
    path = ROOT / f"recipes/experiments/{name}.yaml"
    monkeypatch.setenv("TEACHER", str(save_halver(tmp_path / "teacher")))
    if read_experiment(path, [], CONF).adversary:
        changes += ["discriminator_steps=1", "adversary.segment_s=0.2"]
    if name.startswith("boxed"):  # whose recordings are not there
        changes += ["scenes.recordings=[]", "scenes.synthetic.kinds=[wind]", "scenes.rooms=null"]
    if name.endswith("_full"):  # the papers' sizes, which take gigabytes to train
        whole = read_experiment(path, [], CONF)
        generators.build(whole.generator, sample_rate=16000)
        Bank(whole.adversary.discriminators, conditional=whole.adversary.conditional, seed=0)
        narrow = {"convnext": "width=128", "segan": "channels=[16, 32, 64]"}
        changes += [f"generator.{narrow[whole.generator.get('name', 'convnext')]}"]
        sizes = ("mpd.channels=4", "msd.channels=16")
        changes += [f"adversary.discriminators.{size}" for size in sizes]
    monkeypatch.setattr("train.checkpoint.save_state", lambda path, state: None)
    exp = tmp_path / name
    in_process(path, "--data", prepared, "--exp", exp, *changes)
    # The last is dev's
    entries = [json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()[:-1]]
    last, experiment = entries[-1], read_experiment(path, changes, CONF)
    opponents, terms = experiment.adversary, set(experiment.losses)
    terms |= {"distil"} if experiment.distil else set()
    if opponents:
        terms |= opponents.losses.keys() | ({"metric"} if opponents.metric else set())
    assert terms <= last.keys() and {"gradient_norm", "level", "data_wait_share"} <= last.keys()
    if opponents:
        assert [entry["phase"] for entry in entries] == ["reconstruction", "discriminator", "gan"]
        logged = {
            "discriminator": {"score_real", "score_fake"} if opponents.losses else set(),
            "metric": {"metric_predicted", "metric_true"} if opponents.metric else set(),
        }
        assert any(logged.values())
        for kind, names in logged.items():
            if names:
                names |= {f"{kind}_loss", f"{kind}_gradient_norm"}
            assert names <= last.keys() and names <= entries[1].keys()
    generator = gan_denoise.load(exp / "model").generator  # what was trained can be used
    assert sum(parameter.numel() for parameter in generator.parameters()) > 1e4


def test_what_goes_wrong_raises_an_alarm():
    good = {"loss": 1.0, "gradient_norm": 0.1, "discriminator_loss": 0.4, "level": 0.9}
    assert find_alarms(good) == [] and find_alarms({"loss": 1.0}) == []
    for changes, expected in {
        ("discriminator_loss", 0.001): "tell real from fake without fail",
        ("level", 0.001): "nearly silent",
        ("gradient_norm", 0.0): "no gradient reaches",
    }.items():
        (alarm,) = find_alarms(good | dict([changes]))
        assert expected in alarm


def test_an_alarm_is_in_the_log_and_on_the_terminal(
    prepared, tiny_gan, tmp_path, in_process, capsys, monkeypatch
):
    monkeypatch.setattr("training.logbook.DISCRIMINATOR_HAS_WON", 10.0)
    in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "exp")
    entries = [json.loads(line) for line in (tmp_path / "exp/log.jsonl").read_text().splitlines()]
    assert [
        bool(entry.get("alarms")) for entry in entries if "loss" in entry or "score_real" in entry
    ] == [entry["phase"] == "gan" for entry in entries if "loss" in entry or "score_real" in entry]
    assert (
        "exp: ALARM at update 15: the discriminators tell real from fake" in capsys.readouterr().err
    )


def test_other_trackers_are_accelerates_own(
    prepared, tiny_experiment, tmp_path, in_process, monkeypatch, capsys
):
    with pytest.raises(SystemExit):
        in_process(
            tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp", "trackers=[wandb]"
        )
    assert "trackers: wandb is not there" in capsys.readouterr().err
    logged = []
    monkeypatch.setattr(
        "training.trackers.Trackers.log",
        lambda self, values, step: logged.append((step, set(values))),
    )
    in_process(tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp")
    assert [step for step, _ in logged] == [3, 6, 9, 12, 12] and {"l1", "loss", "lr"} <= logged[0][
        1
    ]


def test_mlflow_has_parameters_curves_the_model_and_the_results(
    prepared, tiny_experiment, tmp_path, in_process, monkeypatch, capsys
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # where its artefacts go by default
    exp = tmp_path / "exp/tiny"
    command = [tiny_experiment, "--data", prepared, "--exp", exp, "trackers=[mlflow]"]
    with monkeypatch.context() as patch:
        patch.setattr("train.StopSignal.requested", lambda self: True)
        with pytest.raises(SystemExit):
            in_process(*command)
        mlflow.end_run()
    in_process(*command)  # goes on in the same run
    (run_,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    assert run_.info.run_name == "tiny" and run_.data.params["experiment.optimizer.lr"] == "0.002"
    client = mlflow.MlflowClient()
    curve = client.get_metric_history(run_.info.run_id, "loss")
    assert [point.step for point in curve] == [1, 3, 6, 9, 12]
    (exp.parent / "RESULTS.md").write_text("# Results")
    trackers.keep(exp, exp.parent / "RESULTS.md")
    trackers.keep(tmp_path / "none", exp.parent / "RESULTS.md")  # mlflow knows nothing of it
    kept = [client.list_artifacts(run_.info.run_id, place) for place in ("", "model")]
    assert [file.path for file in kept[0]] == ["RESULTS.md", "model"]
    names = ("config.json", "model.safetensors", "trained_on.txt")
    assert [file.path for file in kept[1]] == [f"model/{name}" for name in names]
    (exp / "mlflow_run").write_text("0" * 32)  # of another store
    trackers.keep(exp, exp.parent / "RESULTS.md")
    assert "RESULTS.md: mlflow does not keep it" in capsys.readouterr().err
    (exp / "checkpoint.pt").unlink()
    shutil.rmtree(exp / "model")  # or it were finished already
    mlflow.end_run()
    with pytest.raises(SystemExit):
        in_process(*command)
    assert "mlflow_run: mlflow does not know this run" in capsys.readouterr().err


def test_a_tracker_that_does_not_answer_is_one_line(
    prepared, tiny_experiment, tmp_path, in_process, monkeypatch, capsys
):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    exp = tmp_path / "exp"
    in_process(tiny_experiment, "--data", prepared, "--exp", exp, "trackers=[mlflow]", "steps=3")
    said = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
    assert len(said) == 1 and "goes on without its trackers" in said[0] and "127.0.0.1" in said[0]
    assert (exp / "model/model.safetensors").is_file()


def test_a_tracker_that_goes_away_is_asked_again_after_a_while(tmp_path, monkeypatch, capsys):
    class Tracker:
        name, heard = "mlflow", []

        def log(self, values, step):
            if 2 <= step < 8:
                raise ConnectionError("no route\nto the host")
            self.heard.append(step)

        def finish(self):
            raise ConnectionError("gone")

    accelerator = SimpleNamespace(
        trackers=[], init_trackers=lambda *_, **__: None, end_training=lambda: None
    )
    own = trackers.Trackers(accelerator, tmp_path / "exp", {})
    accelerator.trackers = [Tracker()]
    now = 0.0
    monkeypatch.setattr("training.trackers.time.monotonic", lambda: now)
    for step in range(12):
        now += trackers._PAUSE_S / 4
        own.log({"loss": 1.0}, step)
    assert Tracker.heard == [0, 1, 10, 11]
    trackers.finish(accelerator)
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("note: ") for line in said] == [
        "exp: goes on without mlflow: no route",
        "exp: mlflow answers again",
        "mlflow has not heard of the end: gone",
    ]


@pytest.mark.parametrize("number", [*stopping.SIGNALS, stopping.FROM_A_WORKER])
def test_every_signal_is_a_request_and_twice_at_once_is_one(number):
    handlers = {
        known: signal.getsignal(known) for known in (*stopping.SIGNALS, stopping.FROM_A_WORKER)
    }
    try:
        signal.signal(number, signal.SIG_DFL)  # under nohup a hang-up is ignored, and stays so
        stop = stopping.StopSignal(SimpleNamespace(num_processes=1))
        assert not stop.requested()
        for _ in range(2):  # a terminal and a parent may both send it
            os.kill(os.getpid(), number)
        assert stop.requested() and stop.received
    finally:
        for known, handler in handlers.items():
            signal.signal(known, handler)


def to_the_group(process: psutil.Process) -> None:
    # To the data worker too, as `timeout` and batch systems do
    os.killpg(process.pid, signal.SIGTERM)


def to_a_data_worker(process: psutil.Process) -> None:
    process.children()[0].terminate()


def kill_the_launcher(process: psutil.Process) -> None:
    process.kill()


@pytest.mark.parametrize("strike", [to_the_group, to_a_data_worker, kill_the_launcher])
def test_a_signal_to_any_process_saves_and_leaves(strike, prepared, tiny_experiment, tmp_path):
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


def test_two_processes_with_a_batch_of_b_equal_one_with_2b(
    prepared, tiny_gan, tmp_path, in_process
):
    """Two processes on the CPU (gloo), float64: the same weights after 20 updates of the generator,
    and the same logged losses.
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
    for own, other in zip(*(map(json.loads, log) for log in logs), strict=True):
        for name in ("loss", "l1", "discriminator_loss", "score_real", "gradient_norm"):
            if name in own or name in other:
                assert own[name] == pytest.approx(other[name], rel=1e-6), (own["update"], name)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["optimizer.lrr=1"], 'unknown key "lrr" (did you mean "lr"?)'),
        (["step=5"], 'unknown key "step" (did you mean "steps"?)'),
        (["steps=0"], "steps: expected a whole number from 1, found 0"),
        (["precision=fp16"], "expected one of float32, bf16, float64"),
        (["fresh_noise=1"], "fresh_noise: expected true, false, or shares"),
        (["trackers=wandb"], "trackers: expected a list of names"),
        (["adversary.lr=1"], 'adversary: unknown key "lr"'),
        (["adversary.conditional=maybe"], "conditional: expected true or false"),
        (["adversary.optimizer.lr=-1"], "adversary: optimizer: lr: expected a number from 0"),
        (["adversary.discriminators.mpe={}"], 'unknown key "mpe" (did you mean "mpd"?)'),
        (["adversary.discriminators={mpd: null, msd: null}"], "there is none"),
        (["adversary.losses={hinge: 1.0}"], "expected a weight for one of lsgan and hinge"),
        (["adversary.discriminators.msd.channels=3"], "discriminator msd"),
        (["losses.l1=null", "losses.l2=1"], 'losses: unknown key "l2"'),
        (["losses.l1=.nan"], "losses: l1: expected a number from 0"),
        (["generator=convnext"], "generator: expected name: and sizes"),
        (["generator.width=-1"], "generator convnext"),
        (["generator.hop_ms=0"], "generator convnext"),
        (["optimizer.betas=[0.9, 1.0]"], "betas: expected a number from 0 to 0.9999"),
        (["seed=99999999999"], "seed: expected a whole number from 0"),
        (["clip_norm=null"], '"clip_norm" is missing'),
        (["init=nowhere"], "nowhere: is no model directory"),
        (["init=3"], "init: expected a model directory"),
        (["precision=[bf16]"], "expected one of float32, bf16, float64"),
        (["trackers=[tensorboard]"], "tensorboard is always written"),
        (["warm_start_steps=12"], "leaves the adversary none of steps=12"),
        (["adversary.segment_s=0.6"], "segment_s: expected a number from 0.001 to 0.5"),
        (
            ["adversary.discriminators.mpd.periods=3"],
            "periods: expected a list of whole numbers, found 3",
        ),
        (
            ["adversary.discriminators.mpd.periods=[]"],
            "periods: expected a list of whole numbers, found []",
        ),
        (
            ["adversary.discriminators.mpd.channels=0"],
            "channels: expected a whole number from 1, found 0",
        ),
        (
            ["adversary.discriminators.mpd.channels='8'"],
            "channels: expected a whole number from 1, found '8'",
        ),
        (["generator.dropout=1.5"], "generator convnext"),
        (["generator={name: segan, channels: []}"], "channels: expected a list of whole numbers"),
        (["generator={name: hifigan, scales: 0}"], "scales: expected a whole number from 1"),
        (["optimizer.muon=0.95", "generator={name: segan, channels: [8]}"], "no weight matrices"),
    ],
)
def test_bad_settings_are_one_line(
    arguments, expected, prepared, tiny_gan, tmp_path, capsys, in_process
):
    """In this process, since importing torch anew for each would cost minutes."""
    with pytest.raises(SystemExit) as left:
        in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "exp", *arguments)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert left.value.code == 1 and len(errors) == 1 and expected in errors[0], errors
    assert errors[0].startswith((f"error: {tiny_gan}: ", "error: nowhere: "))
    assert not (tmp_path / "exp").exists()


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
def test_what_an_update_frees_is_not_given_back():
    """In a program of its own: how a heap lies that others have used is theirs."""
    pages = run("python", "-c", FREEING, cwd=ROOT / "recipes").stdout.split()
    kept, given_back = (int(number) for number in pages)
    assert kept < given_back / 10


def test_bf16_keeps_its_output_in_float32():
    torch.manual_seed(0)
    generator = generators.build(
        {"name": "convnext", "width": 16, "blocks": 1}, sample_rate=16000
    ).eval()
    noisy = torch.from_numpy(speech_like(0)).float()[None, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halved = generator(noisy)
    assert halved.dtype == torch.float32
    assert torch.allclose(halved, generator(noisy), atol=5e-3)


def test_a_gan_trains_in_bf16_with_outputs_and_losses_in_float32(
    prepared, tiny_gan, tmp_path, in_process
):
    for precision in ("bf16", "float32"):
        in_process(
            tiny_gan, "--data", prepared, "--exp", tmp_path / precision, f"precision={precision}"
        )
    logs = [
        (tmp_path / precision / "log.jsonl").read_text().splitlines()
        for precision in ("bf16", "float32")
    ]
    for halved, whole in zip(*(map(json.loads, log) for log in logs), strict=True):
        for name in ("loss", "discriminator_loss", "mrstft"):
            if name in whole:
                assert halved[name] == pytest.approx(whole[name], rel=0.02), (name, whole["update"])
    modules = weights(tmp_path / "bf16")[1]["modules"]
    # The weights themselves are whole
    assert modules["generator"]["head.weight"].dtype == torch.float32
    assert not torch.equal(
        modules["generator"]["head.weight"],
        weights(tmp_path / "float32")[1]["modules"]["generator"]["head.weight"],
    )


def test_a_discriminator_that_is_not_finite_stops_the_run(
    prepared, tiny_gan, tmp_path, in_process, capsys
):
    changes = [
        "adversary.optimizer.lr=1e30",
        "adversary.optimizer.lr_final=1e30",
        "checkpoint_every=1",
    ]
    with pytest.raises(SystemExit):
        in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "exp", *changes)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (
        "discriminator_gradient_norm" in line
        and "utterances" in line
        and "checkpoint.pt is kept" in line
    )
    assert "lower adversary.optimizer.lr" in line
    assert json.loads((tmp_path / "exp/status.json").read_text())["state"] == "failed"
    state = checkpoint.load_state(tmp_path / "exp/checkpoint.pt")
    discriminators = state["modules"]["adversary"]["discriminators"]
    assert all(torch.isfinite(value).all() for value in discriminators.values())


def test_a_loss_that_is_not_finite_stops_the_run(prepared, tiny_experiment, tmp_path):
    exp = tmp_path / "exp"
    result = train(
        tiny_experiment,
        "--data",
        prepared,
        "--exp",
        exp,
        "optimizer.lr=1e30",
        "optimizer.warmup_steps=0",
        "steps=50",
        env={"PYTHONSAFEPATH": "1"},  # its own modules are found all the same
    )
    one_error_line(
        result, "not finite", "utterances", "there is no checkpoint yet: lower optimizer.lr"
    )
    state = (
        checkpoint.load_state(exp / "checkpoint.pt") if (exp / "checkpoint.pt").exists() else None
    )
    assert state is None or all(
        torch.isfinite(value).all() for value in state["modules"]["generator"].values()
    )


def test_a_model_leads_back_to_its_inputs(prepared, tiny_experiment, tmp_path, in_process):
    exp = tmp_path / "exp"
    in_process(tiny_experiment, "--data", prepared, "--exp", exp)
    model, changed = exp / "model", tmp_path / "data"
    result = cli("explain", "--data", prepared, model)
    assert result.returncode == 0 and "✗" not in result.stdout and not result.stderr
    marks = re.findall(r"^.. ([✓ ]) (\S+)", result.stdout, re.MULTILINE)
    parts = ["weights", "experiment", "data/train", "data/dev", "split", "noise", "code"]
    assert [name for _, name in marks] == [*parts, "versions", "machine"]
    assert {name for mark, name in marks if mark == " "} == {"experiment", "machine"}
    commit = json.loads((model / "config.json").read_text())["origin"]["code"]["commit"]
    assert commit is None or commit[:12] in result.stdout

    # What was replaced since is said, and what is not here cannot be
    shutil.copytree(prepared, changed)
    noise = (changed / "train/noise.yaml").read_text()
    (changed / "train/noise.yaml").write_text(noise.replace("fingerprint: ", "fingerprint: a"))
    with (model / "model.safetensors").open("ab") as weights:
        weights.write(b" ")
    (exp / "scores.csv").write_text("utt_id\n")
    (exp / "scores.yaml").write_text("model: abc\nis: def\n")
    result = cli("explain", "--data", changed, model)
    broken = re.findall(r"✗ (\S+)", result.stdout)
    assert broken == ["weights", "data/train", "noise", "scores.csv"]
    assert "note: 4 of these no longer match" in result.stderr
    assert "✓" not in cli("explain", "--data", tmp_path, model).stdout.split("noise")[0]
    one_error_line(cli("explain", tmp_path), "is no model directory")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"origin": None}))
    assert "not noted" in cli("explain", model).stdout  # one of before this was noted
    for name in ("boxed", "live", "files"):
        assert "✓ weights" in cli("explain", name).stdout


def test_a_teacher_is_followed(
    prepared, tiny_experiment, tmp_path, in_process, monkeypatch, capsys
):
    """One that halves everything: beside its weight clean speech does not count."""
    teacher = save_halver(tmp_path / "teacher")
    monkeypatch.setenv("PLACE", str(tmp_path))
    common = [tiny_experiment, "--data", prepared, "optimizer.lr=3e-3", "optimizer.warmup_steps=0"]
    distil, exp = "distil={teacher: $PLACE/teacher, weight: 1000}", tmp_path / "pupil"
    in_process(*common, "steps=60", "ema_decay=0.9", distil, "--exp", exp)
    wave = speech_like(3, 1.0)
    heard = gan_denoise.load(exp / "model")(wave, 16000)
    assert np.sqrt(np.mean(heard**2) / np.mean(wave**2)) == pytest.approx(0.5, abs=0.1)
    told = cli("explain", "--data", prepared, exp / "model").stdout
    assert re.search(r"✓ teacher +\$PLACE/teacher", told)

    capsys.readouterr()
    other = save_halver(tmp_path / "other", sample_rate=8000)
    for changes, words in {
        f"distil={{teacher: {other}, weight: 1}}": "works at 8000 Hz, needed: 16000 Hz",
        "distil={teacher: nowhere, weight: 1}": "nowhere is no model directory",
        f"distil={{teacher: {teacher}, weight: -1}}": "distil: weight: expected a number from 0",
        f"distil={{teachers: {teacher}}}": 'unknown key "teachers"',
    }.items():
        with pytest.raises(SystemExit):
            in_process(*common, changes, "--exp", tmp_path / "none")
        assert words in capsys.readouterr().err and not (tmp_path / "none").exists()
    shutil.copytree(other, teacher, dirs_exist_ok=True)
    assert re.search(r"✗ teacher", cli("explain", exp / "model").stdout)
    save_halver(teacher, gain=-0.4)
    with pytest.raises(SystemExit):
        in_process(*common, "steps=60", "ema_decay=0.9", distil, "--exp", exp)
    assert "pupil: had another teacher" in capsys.readouterr().err
    config = json.loads((exp / "model/config.json").read_text())
    config["experiment"]["init"] = str(exp / "model")  # a circle
    (exp / "model/config.json").write_text(json.dumps(config))
    assert "init" in cli("explain", exp / "model").stdout
    (exp / "model/config.json").write_text('{"experiment": "x"}')
    one_error_line(cli("explain", exp / "model"), "is no model configuration")


def save_halver(folder: Path, *, sample_rate: int = 16000, gain: float = -0.5) -> Path:
    """A model directory; its output is half of its input, or 1 + gain of it."""
    built = generators.build(SMALL["convnext"], sample_rate=sample_rate)
    with torch.no_grad():
        built.head.weight.zero_()
        built.head.bias.zero_()[: built.stft.bins] = gain
    written = {"generator": SMALL["convnext"]}
    checkpoint.save_model(
        folder, built, {**written, "sample_rate": sample_rate, "experiment": written}
    )
    return folder
