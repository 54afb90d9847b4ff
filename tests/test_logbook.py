"""The log of a training and its alarms; MLflow and other trackers, present, silent or gone."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training import trackers
from training.logbook import find_alarms


def test_a_spoiled_log_and_a_full_disk_for_plots_end_no_run(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, exp = (tiny_experiment, "--data", prepared, "--exp"), tmp_path / "exp"
    in_process(*command, exp, "steps=3")
    with open(exp / "log.jsonl", "ab") as file:
        file.write(b"\xff\xfe no UTF-8\n")
    before = (exp / "model/model.safetensors").read_bytes()
    in_process(*command, exp, "steps=3")  # finished already
    assert (exp / "model/model.safetensors").read_bytes() == before

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.board.SummaryWriter.add_scalar", full)
    capsys.readouterr()
    in_process(*command, tmp_path / "full", "steps=3")
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert (tmp_path / "full/model/model.safetensors").read_bytes() == before


def test_what_goes_wrong_raises_an_alarm() -> None:
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
    prepared: Path,
    tiny_gan: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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
    assert "RESULTS.md: mlflow could not store it" in capsys.readouterr().err
    (exp / "checkpoint.pt").unlink()
    shutil.rmtree(exp / "model")  # or it were finished already
    mlflow.end_run()
    with pytest.raises(SystemExit):
        in_process(*command)
    assert "mlflow_run: mlflow does not know this run" in capsys.readouterr().err


def test_a_tracker_that_does_not_answer_is_one_line(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    exp = tmp_path / "exp"
    in_process(tiny_experiment, "--data", prepared, "--exp", exp, "trackers=[mlflow]", "steps=3")
    said = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
    assert len(said) == 1 and "goes on without its trackers" in said[0] and "127.0.0.1" in said[0]
    assert (exp / "model/model.safetensors").is_file()


def test_a_tracker_that_goes_away_is_asked_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Tracker:
        name, heard = "mlflow", []

        def log(self, values: Any, step: Any) -> None:
            if 2 <= step < 8:
                raise ConnectionError("no route\nto the host")
            self.heard.append(step)

        def finish(self) -> None:
            raise ConnectionError("gone")

    accelerator = SimpleNamespace(
        trackers=[], init_trackers=lambda *_, **__: None, end_training=lambda: None
    )
    ours = trackers.Trackers(accelerator, tmp_path / "exp", {})
    accelerator.trackers = [Tracker()]
    now = 0.0
    monkeypatch.setattr("training.trackers.time.monotonic", lambda: now)
    for step in range(12):
        now += trackers._PAUSE_S / 4
        ours.log({"loss": 1.0}, step)
    assert Tracker.heard == [0, 1, 10, 11]
    trackers.finish(accelerator)
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("note: ") for line in said] == [
        "exp: goes on without mlflow: no route",
        "exp: mlflow answers again",
        "mlflow was not told that the run ended: gone",
    ]
