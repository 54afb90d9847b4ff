"""The experiments: each builds and takes a step; what settings and overrides may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gan_denoise
from conftest import CONF, ROOT
from gan_denoise import generators
from gan_denoise.discriminators import Bank
from gan_denoise.errors import InputError
from reporting.experiments import EXPERIMENTS, read_notes
from small_models import save_halver
from training.experiment import read_experiment
from training_runs import weights


def test_an_override_cannot_undo_what_an_experiment_is_about() -> None:
    """--train-opts go to every experiment, and must leave each what it is about.

    l1 must not silently get the STFT loss, nor half an adversary.
    """
    l1 = ROOT / "recipes/experiments/l1.yaml"
    for override in ("losses.mrstft=1", "adversary.losses.lsgan=0.5"):
        with pytest.raises(InputError, match="l1.yaml: (losses.mrstft|adversary) is null there"):
            read_experiment(l1, [override], CONF)
    assert read_experiment(l1, ["adversary=null", "losses.l1=2"], CONF).adversary is None


def test_without_its_adversary_gan_is_l1_mrstft_to_the_bit(
    prepared: Path, tiny_gan: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    """The adversary is switched off, or is there with a weight that vanishes.

    Neither data, nor dropout, nor steps differ.
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


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "recipes/experiments").glob("*.yaml"))
)
def test_every_experiment_builds_and_takes_a_step(
    name: Any,
    prepared: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
        assert whole.adversary is not None
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
        (["init=nowhere"], "nowhere: is not a model directory"),
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
    arguments: list[str],
    expected: str,
    prepared: Path,
    tiny_gan: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    in_process: Callable[..., None],
) -> None:
    """In this process, since importing torch anew for each would cost minutes."""
    with pytest.raises(SystemExit) as left:
        in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "exp", *arguments)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert left.value.code == 1 and len(errors) == 1 and expected in errors[0], errors
    assert errors[0].startswith((f"error: {tiny_gan}: ", "error: nowhere: "))
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compare_with: 3", "compare_with: expected an experiment's name or a list of names"),
        ("compare_with: mine", "compare_with: mine is this experiment"),
        ("summary: [a]", "summary: expected a sentence"),
    ],
)
def test_what_an_experiment_is_compared_with_is_checked(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}\n")
    with pytest.raises(InputError, match=message):
        read_notes(path)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_says_what_it_is_and_is_compared_with(path: Any) -> None:
    notes = read_notes(path)
    assert notes["summary"] and "compare_with" in notes
    assert all((EXPERIMENTS / f"{other}.yaml").is_file() for other in notes["compare_with"])
    with pytest.raises(InputError, match="compare_with belongs in the file"):
        read_experiment(path, ["compare_with=l1"], CONF)
