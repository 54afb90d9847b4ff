"""plan.py: what a training would refuse is refused before the first stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import LoggerType

import plan
from conftest import ROOT, experiment_file, here, one_error_line, run
from gan_denoise.config import load_experiment
from training.experiment import TRACKERS, sorted_out

EXPERIMENTS = ROOT / "recipes/experiments"


def planned(exp: Path, experiments: str, *settings: Any, seeds: str = "0") -> Any:
    """plan.py, as run.sh calls it."""
    words = []
    for name in experiments.split():
        path = Path(name) if name.endswith(".yaml") else EXPERIMENTS / f"{name}.yaml"
        for seed in seeds.split():
            folder = exp / (path.stem if seed == "0" else f"{path.stem}_seed{seed}")
            words += ["--run", seed, folder, path]
    return here(plan.main, "plan.py", *words, *settings)


@pytest.mark.parametrize(
    ("experiments", "settings", "words"),
    [
        ("l1 gan", ["seed=5"], ['--seeds "5"']),
        ("gan l1", ["adversary.losses.lsgan=1"], ["l1.yaml", "adversary is null there"]),
        ("l1 gan", ["adversary=null", "optimizer.speed=1"], ['unknown key "speed"']),
        ("l1", ["gain_db=[6, -12]"], ["gain_db: 6 is above -12: swap the two"]),
        ("l1 stream_distilled", [], ["teacher", "$TEACHER"]),
        ("l1 gan", ["init=nowhere"], ["l1.yaml: init: nowhere: is not a model directory"]),
        ("l1 gan", ["trackers=[nothing]"], ["nothing is not there"]),
        ("l1 boxed", [], ["boxed.yaml: scenes: recordings", "no such folder"]),
        ("l1", ["lr"], ['expected key=value, found "lr"']),
        ("l1", ["--noise", "nowhere.yaml"], ["nowhere.yaml"]),
        ("l1", ["--build", "generator.widht=8"], ["l1.yaml", 'did you mean "width"']),
    ],
)
def test_what_a_later_run_would_refuse_is_said_first(
    experiments: str,
    settings: list[Any],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TEACHER", "NOISE_DIR"):
        monkeypatch.delenv(name, raising=False)
    one_error_line(planned(tmp_path / "exp", experiments, *settings, seeds="0 1"), *words)
    assert not (tmp_path / "exp").exists()


def test_a_teacher_may_be_made_by_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER", str(tmp_path / "grid/model"))
    assert planned(tmp_path, "grid stream_distilled").returncode == 0
    one_error_line(
        planned(tmp_path, "stream_distilled grid"), "grid/model is not a model directory"
    )
    one_error_line(planned(tmp_path, "grid stream_distilled", "--side-by-side"), "not a model")
    assert planned(tmp_path, "grid gan", f"init={tmp_path}/grid/model").returncode == 1  # grid's


def test_names_that_mean_something_else(tmp_path: Path) -> None:
    for name, words in {"noisy": "is not the name of", "a_seed1": "seed of a run"}.items():
        path = experiment_file(tmp_path / f"{name}.yaml", "steps: 5000\n")
        one_error_line(planned(tmp_path, str(path)), name, words)
    l1 = experiment_file(tmp_path / "l1.yaml", "steps: 5000\n")
    one_error_line(planned(tmp_path, f"l1 {l1}"), "l1, as", "does: rename one")


def test_a_finished_run_with_other_settings_is_refused_before_another_is_trained(
    tmp_path: Path,
) -> None:
    """One with the same settings builds nothing."""
    model = tmp_path / "l1/model"
    model.mkdir(parents=True)
    settings = load_experiment(EXPERIMENTS / "l1.yaml", ["seed=0"])
    decides = {key: settings[key] for key in settings if not key.startswith(("validate", "log_"))}
    for key in ("workers", "checkpoint_every", "trackers", "compare_with"):
        del decides[key]
    (model / "config.json").write_text(json.dumps({"experiment": decides}))
    (model / "model.safetensors").write_bytes(b"")
    assert planned(tmp_path, "l1", "--build").returncode == 0
    result = planned(tmp_path, "gan l1", "clip_norm=7")
    one_error_line(result, "l1: was started with other settings (clip_norm was 5.0, is 7)")


def test_reading_takes_no_torch(tmp_path: Path) -> None:
    """The first second."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import plan\n"
    code += "try: plan.main()\nexcept SystemExit: print('torch' in sys.modules)"
    command = ["python", "-c", code, ROOT / "recipes"]
    result = run(*command, "--run", 0, tmp_path / "gan", EXPERIMENTS / "gan.yaml")
    assert (result.stdout, result.stderr) == ("False\n", "")
    assert set(TRACKERS) == {str(kind) for kind in LoggerType} - {"all", "tensorboard"}


def test_a_path_may_hold_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.yaml").write_text("")
    words = ["a=b.yaml", "/x=y/gan.yaml", "./c=d.yaml", "seed=1", "adversary.losses.lsgan=0.5"]
    paths, settings = sorted_out(words)
    assert [str(path) for path in paths] == ["a=b.yaml", "/x=y/gan.yaml", "c=d.yaml"]
    assert settings == words[3:]
