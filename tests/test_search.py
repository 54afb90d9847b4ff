"""search.py: the question it reads, its trials, and what it leaves.

Trials are pruned, fail, or lose their worker. Most trainings here are a script that makes a log as
train.py does.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from conftest import ROOT, needs_slurm, one_error_line, queued, run, wait_for
from gan_denoise.config import dump_yaml, load_experiment
from gan_denoise.errors import InputError
from reporting import study as report
from search import open_study
from searching import trial as trials
from searching.space import Space, names

EXPERIMENTS = ROOT / "recipes/experiments"
# Its PESQ is 2 + 1e-3 per step, less how far lr is from 1e-3; with seed=7 it fails
FAKE = """
import json, pathlib, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv if "=" in word)
exp = pathlib.Path(sys.argv[sys.argv.index("--exp") + 1])
exp.mkdir(exist_ok=True)
if words["seed"] == "7":
    sys.exit("error: no such thing")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
log = exp / "log.jsonl"
done = len(log.read_text().splitlines()) if log.exists() else 0
for step in range(10 * (done + 1), 51, 10):
    pesq = 2.0 + 1e-3 * step - 10 * abs(float(words["optimizer.lr"]) - 1e-3)
    with log.open("a") as file:
        file.write(json.dumps({"step": step, "dev/pesq_wb": pesq}) + chr(10))
    time.sleep(float(words.get("gain_db", "[0.05,").strip("[").split(",")[0]))
"""
SEARCH = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import search, searching.trial
searching.trial.TRAIN = __import__("pathlib").Path(sys.argv.pop(1))
searching.trial.identity = lambda command, data: {"experiment": repr(command)}
searching.trial._LOOK_EVERY_S = 0.02
search._HEARTBEAT_S, search._STALE_S, search._WAIT_S = 1, 2, 0.2
search.main()
"""


def space(path: Path, **changes: Any) -> Path:
    written = {
        "experiment": "l1.yaml",
        "trials": 12,
        "settings": {"steps": 50},
        "space": {"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}, "steps": [50, 51]},
    }
    path.write_text(dump_yaml(written | changes))
    return path


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., list[str]]:
    """The command, with trainings that are a script."""
    (tmp_path / "data/train").mkdir(parents=True)
    (tmp_path / "train.py").write_text(FAKE)

    def command(path: Path, *arguments: Any) -> list[str]:
        begin = [sys.executable, "-c", SEARCH, str(ROOT / "recipes"), str(tmp_path / "train.py")]
        words = [path, "--data", tmp_path / "data", "--out", tmp_path / "out", *arguments]
        return [*begin, *map(str, words)]

    return command


def rows(folder: Path) -> list[dict]:
    return list(csv.DictReader((folder / "trials.csv").open()))


def test_it_finds_prunes_and_leaves_what_runs(
    search: Callable[..., list[str]], tmp_path: Path
) -> None:
    shared = f"sqlite:///{tmp_path}/elsewhere.db"
    command = search(space(tmp_path / "lr.yaml"), "--workers", 2, "--storage", shared)
    result = run(*command)
    assert result.returncode == 0, result.stderr
    table = rows(tmp_path / "out")
    assert 12 <= len(table) <= 13  # two workers may begin a last one each
    best = table[0]
    assert float(best["PESQ"]) == max(float(row["PESQ"]) for row in table if not row["state"])
    pruned = [row for row in table if row["state"] == "pruned"]
    assert pruned and any(int(row["last step"]) < 50 for row in pruned)
    experiment = load_experiment(tmp_path / "out/best.yaml")
    assert f"{experiment['optimizer']['lr']:.3g}" == best["lr"] and experiment["steps"] in (50, 51)
    assert "adversary" not in experiment and "mrstft" not in experiment["losses"]  # as in l1
    page = (tmp_path / "out/search.html").read_text()
    assert page.count("<svg") >= 2 and "https://" not in page
    assert "is best: PESQ" in result.stdout and best["lr"] in result.stdout

    again = run(*command)  # a finished search begins no trial
    assert again.returncode == 0 and rows(tmp_path / "out") == table
    other = space(tmp_path / "lr.yaml", space={"optimizer.lr": [1e-3, 1e-4]})
    one_error_line(
        run(*search(other, "--storage", shared)), "was begun with other settings", "--out"
    )


def test_a_study_that_goes_on_draws_what_it_has_not_drawn(tmp_path: Path) -> None:
    """Stopped and extended: the same settings as in one go."""
    storage, drawn = f"sqlite:///{tmp_path}/study.db", {}
    for name, parts in (("parts", (2, 2)), ("whole", (4,))):
        for count in parts:
            study = open_study(storage, name, 0, {"space": "1"})
            study.optimize(lambda trial: trial.suggest_float("lr", 1e-5, 1e-1), n_trials=count)
        drawn[name] = [trial.params["lr"] for trial in study.trials]
    assert drawn["parts"] == drawn["whole"] and len(set(drawn["whole"])) == 4


def test_a_study_is_of_its_data_code_and_whole_experiment(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By content, the base's as well."""
    data, base, derived = tmp_path / "data", tmp_path / "base.yaml", tmp_path / "own.yaml"
    shutil.copytree(prepared, data)
    base.write_text(dump_yaml(load_experiment(EXPERIMENTS / "l1.yaml")))
    derived.write_text("base: base.yaml\nsteps: 20\n")

    def ask(name: str) -> None:
        asked = {"space": "1"} | trials.identity([str(derived), "seed=0"], data)
        open_study(f"sqlite:///{tmp_path}/study.db", name, 0, asked)

    ask("a")
    ask("a")
    base.write_text(base.read_text().replace("clip_norm: 5", "clip_norm: 6"))
    with pytest.raises(InputError, match=r"a: .* other settings \(experiment\)"):
        ask("a")
    ask("b")
    (data / "dev/noisy.made").unlink()  # as in a folder that other tools have made
    scp = (data / "dev/noisy.scp").read_text().splitlines()
    names, files = zip(*(line.split(" ", 1) for line in scp), strict=True)
    pairs = zip(names, files[::-1], strict=True)
    (data / "dev/noisy.scp").write_text("".join(f"{name} {file}\n" for name, file in pairs))
    with pytest.raises(InputError, match=r"b: .* other settings \(data\)"):
        ask("b")
    monkeypatch.setattr("gan_denoise.provenance.code.of_training", lambda experiment: "other")
    with pytest.raises(InputError, match=r"b: .* other settings \(data, code\)"):
        ask("b")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_trial_whose_worker_ended_is_taken_up_again(
    search: Callable[..., list[str]], tmp_path: Path, number: Any
) -> None:
    # gain_db, which the script takes for its seconds between two validations
    path = space(tmp_path / "slow.yaml", trials=2, settings={"gain_db": [0.5, 1.0]})
    worker = subprocess.Popen(search(path), stderr=subprocess.PIPE, cwd=tmp_path)
    log = tmp_path / "out/trials/0000/log.jsonl"
    deadline = time.monotonic() + 60
    while not log.exists() or not log.read_text().count("\n") >= 2:
        assert time.monotonic() < deadline and worker.poll() is None
        time.sleep(0.05)
    os.kill(worker.pid, number)
    worker.communicate(timeout=30)
    begun = log.read_text()
    result = run(*search(path))
    assert result.returncode == 0, result.stderr
    assert log.read_text().startswith(begun)  # it went on where it stood
    table = rows(tmp_path / "out")
    assert len(table) == 2 and "resumed" in {row["state"] for row in table}
    assert sorted(path.name for path in (tmp_path / "out/trials").iterdir() if path.is_dir()) in (
        ["0000", "0001"],
        ["0000", "0002"],
    )


@needs_slurm
def test_workers_are_an_array_job_of_slurm(
    search: Callable[..., list[str]], cluster: dict[str, str], tmp_path: Path
) -> None:
    """One of which is queued again in the middle of a trial, by an administrator."""
    path = space(tmp_path / "a.yaml", trials=4, settings={"gain_db": [0.5, 1.0]})
    command, out = search(path, "--workers", 2, "--cmd", "slurm"), tmp_path / "out"
    with subprocess.Popen(
        command, env=os.environ | cluster, stderr=subprocess.PIPE, text=True
    ) as program:
        for trial in ("0000", "0001"):  # both workers are in the middle of one
            wait_for((out / f"trials/{trial}/log.jsonl").exists)
        task = queued(cluster, "search-a", "RUNNING")
        assert run("scontrol", "requeue", task, env=cluster).returncode == 0
        _, said = program.communicate(timeout=120)
    assert program.returncode == 0, said
    assert "2 workers are the tasks of job" in said and "4/4 trials" in said
    assert len(rows(out)) >= 4 and "resumed" in {row["state"] for row in rows(out)}
    logs = [path.read_text() for path in (out / "slurm").glob("search-a-*.log")]
    assert len(logs) == 2 and sum("start 2" in log for log in logs) == 1

    again = run(*command, env=cluster)  # begins no job
    assert again.returncode == 0 and "slurm: " not in again.stderr
    bad = search(space(tmp_path / "bad.yaml", seed=7), "--cmd", "slurm")
    one_error_line(run(*bad, env=cluster), "after 3 of 12 trials", "no such thing", "search-bad-")
    one_error_line(run(*bad, "--slurm", "partition=none", env=cluster), "sbatch refused search-bad")
    one_error_line(run(*bad, "--slurm", "nodes=2", env=cluster), "one process on one node")


def test_the_page_says_what_matters() -> None:
    study = optuna.create_study(study_name="<b>", direction="maximize")
    free = {"a.lr": FloatDistribution(1e-4, 1e-1, log=True), "b": CategoricalDistribution([1, 2])}
    for number in range(12):
        params = {"a.lr": 10 ** (-4 + number / 4), "b": 1 + number % 2}
        trial = optuna.create_trial(params=params, distributions=free, value=1.0 + number / 10)
        study.add_trial(trial)
    shares = report.importances(study)
    assert list(shares) == ["a.lr", "b"] and shares["a.lr"] > 0.8
    page = report.render_page(study, names(free), "so", "x: 1")
    assert page.count("<svg") == 3 and "<b>" not in page and 'aria-label="importance"' in page


def test_trainings_that_fail_are_said(search: Callable[..., list[str]], tmp_path: Path) -> None:
    result = run(*search(space(tmp_path / "bad.yaml", seed=7)))
    one_error_line(result, "every trial failed", "no such thing")
    result = run(*search(space(tmp_path / "lr.yaml"), "--storage", "nosql://me:secret@here/db"))
    one_error_line(result, "nosql://here/db")
    assert "secret" not in result.stderr


def test_a_real_training_is_a_trial(prepared: Path, tiny_gan: Path, tmp_path: Path) -> None:
    free = {"adversary.losses.lsgan": {"low": 0.1, "high": 1.0}}
    path = space(tmp_path / "a.yaml", trials=1, experiment=str(tiny_gan), settings={}, space=free)
    out = tmp_path / "out"
    command = ["python", ROOT / "recipes/search.py", path, "--data", prepared, "--out", out]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    assert float(rows(out)[0]["PESQ"]) > 1.0 and (out / "trials/0000/model/config.json").is_file()
    assert len(list((out / "warm_starts").glob("*.pt"))) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experiment": "none.yaml"}, "none.yaml"),
        ({"space": {}}, "space: names nothing"),
        ({"space": {"steps": {"low": 1}}}, "steps: high: expected a number"),
        ({"space": {"steps": {"low": 9, "high": 1}}}, "steps"),
        ({"space": {"steps": {"low": 1, "high": 2, "by": 1}}}, 'unknown key "by"'),
        ({"space": {"steps": [[1], [2]]}}, "expected a list of plain values"),
        ({"trials": 0}, "trials: expected a whole number from 1"),
        ({"spaces": {}}, 'did you mean "space"'),
    ],
)
def test_a_question_that_makes_no_sense(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        Space.read(space(tmp_path / "a.yaml", **changes), EXPERIMENTS)


def test_a_key_that_no_experiment_has_is_refused_before_any_trial(
    prepared: Path, tmp_path: Path
) -> None:
    path = space(tmp_path / "a.yaml", space={"optimizer.speed": [1, 2]})
    command = ["python", ROOT / "recipes/search.py", path, "--data", prepared]
    result = run(*command, "--out", tmp_path / "out")
    one_error_line(result, "no trial could run", 'unknown key "speed"')
    assert not (tmp_path / "out").exists()


def test_what_it_ends_with_is_the_experiment_of_the_trial(tmp_path: Path) -> None:
    """Whether the experiment has a base or not; what it deletes stays deleted."""
    for name, key in (
        ("gan", "adversary.losses.lsgan"),
        ("mrd", "adversary.discriminators.mrd.x"),
        ("metricgan", "adversary.metric.weight"),  # whose nulls lie deep
        ("l1_mrstft", "losses.l1"),
    ):
        changes = {"experiment": f"{name}.yaml", "settings": {"losses.mrstft": None}}
        path = space(tmp_path / "a.yaml", **changes, space={key: [0.25, 0.5]})
        asked = Space.read(path, EXPERIMENTS)
        overrides = asked.overrides({key: 0.25})
        (tmp_path / "best.yaml").write_text(dump_yaml(asked.as_experiment({key: 0.25}, tmp_path)))
        expected = load_experiment(EXPERIMENTS / f"{name}.yaml", overrides)
        assert load_experiment(tmp_path / "best.yaml") == expected
    shown = names(["optimizer.lr", "adversary.optimizer.lr", "steps"])
    assert list(shown.values()) == ["optimizer.lr", "adversary.optimizer.lr", "steps"]
