"""The critic: a discriminator that learns PESQ, which workers compute meanwhile."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from pebble import ProcessExpired

from conftest import CONF, ROOT, experiment_file, speech_like
from gan_denoise.errors import InputError
from training.critic import Critic
from training.experiment import (
    AdversarySettings,
    MetricSettings,
    OptimizerSettings,
    read_experiment,
)
from training.judge import Judged, judge


def critic(*, self_correcting: bool = False, **optimizer: Any) -> Critic:
    rates: dict[str, Any]
    rates = {"lr": 2e-3, "lr_final": 2e-3, "betas": [0.8, 0.99], "weight_decay": 0.0}
    metric = MetricSettings(
        weight=0.2,
        discriminators={"metric": {"channels": 4, "n_fft": 256}},
        self_correcting=self_correcting,
    )
    adversary = AdversarySettings(
        conditional=False,
        metric=metric,
        optimizer=OptimizerSettings(warmup_steps=0, **(rates | optimizer)),
        segment_s=0.25,
        pre_emphasis=0.0,
        clip_norm=10.0,
    )
    parts: dict[str, Any] = {"sample_rate": 16000, "seed": 0, "updates": 1000, "jobs": 1}
    return Critic(Accelerator(cpu=True), metric, adversary, **parts)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Clean (3, 1, 16000), and the same with more and more noise."""
    clean = np.stack([speech_like(number) for number in range(3)])
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    noisy = clean + noise * np.array([0.001, 0.01, 0.1])[:, None]
    one, other = (torch.from_numpy(wave).float()[:, None] for wave in (clean, noisy))
    return one, other


def pesq(clean: np.ndarray, enhanced: np.ndarray) -> float:
    """Of a pair that has one."""
    value = judge(Judged(clean, enhanced, 16000))
    assert value is not None
    return value


def test_pesq_is_normalised() -> None:
    clean, noisy = (wave[:, 0].numpy() for wave in batch())
    values = [pesq(clean[n], noisy[n]) for n in range(3)]
    assert 1.0 > values[0] > values[1] > values[2] > 0.0
    assert judge(Judged(clean[0], clean[0], 16000)) == pytest.approx(1.0, abs=1e-3)
    assert judge(Judged(clean[0][::2], clean[0][::2], 8000)) == pytest.approx(1.0, abs=1e-3)
    assert judge(Judged(np.zeros(16000), noisy[0], 16000)) is None  # PESQ finds no utterance


def test_a_critic_learns_what_pesq_says_and_leads_the_generator_there() -> None:
    learner, (clean, noisy) = critic(), batch()
    noisy.requires_grad_()
    truths = [pesq(clean[n, 0].numpy(), noisy[n, 0].detach().numpy()) for n in range(3)]
    asked = learner.ask(clean, noisy)
    before = learner.terms(asked)
    assert before.keys() == learner.weights.keys() == {"metric"}
    before["metric"].backward()
    assert noisy.grad is not None and noisy.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in learner.bare_bank.parameters())
    first = learner.learn(1, asked)
    assert first["metric_true"].item() == pytest.approx(np.mean(truths), abs=1e-5)
    for number in range(2, 121):
        last = learner.learn(number, asked)
    assert float(last["metric_loss"]) < 0.003 < float(first["metric_loss"])
    assert float(last["metric_predicted"]) == pytest.approx(np.mean(truths), abs=0.03)
    # Towards the clean wave its term falls
    steps = [clean + share * (noisy.detach() - clean) for share in (1.0, 0.0)]
    worse, best = (float(learner.terms(learner.ask(clean, wave))["metric"]) for wave in steps)
    assert best < 0.01 < worse
    learner.close()


@pytest.mark.parametrize("against", [True, False])
def test_parts_of_the_loss_do_not_undo_each_other(against: bool) -> None:
    """A step makes no part of the loss grow.

    Of gradients g and h that point against each other, what is orthogonal to the other stays.
    Others are added as they are.
    """
    learner = critic(self_correcting=True)
    parameter = torch.nn.Parameter(torch.zeros(2))
    learner.bare_bank = torch.nn.ParameterList([parameter])
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([-3.0 if against else 3.0, 4.0])
    cosine = learner._corrected_backward(parameter @ one, parameter @ other)
    assert float(cosine) == pytest.approx(-0.6 if against else 0.6)
    expected = [0.64, 4.48] if against else [4.0, 4.0]
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx(expected)
    assert parameter.grad @ one > 0 and parameter.grad @ other > 0


def test_a_self_correcting_critic_learns_as_well() -> None:
    learner, (clean, noisy) = critic(self_correcting=True), batch()
    asked = learner.ask(clean, noisy)
    measures = [learner.learn(number, asked) for number in range(1, 61)]
    first, last = (float(measures[number]["metric_loss"]) for number in (0, -1))
    assert last < 0.2 * first
    assert all(abs(float(one["metric_agreement"])) <= 1.0 + 1e-6 for one in measures)
    learner.close()


def test_what_has_no_pesq_is_left_out_and_a_worker_that_died_changes_nothing() -> None:
    learner, twin, (clean, noisy) = critic(), critic(), batch()
    clean[2] = 0.0
    asked, whole = twin.ask(clean, noisy), learner.ask(clean, noisy)
    dead: Future = Future()
    dead.set_exception(ProcessExpired("killed", -9))
    broken = asked._replace(answers=[dead, *asked.answers[1:]])
    results = [one.learn(1, its) for one, its in ((learner, whole), (twin, broken))]
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert all(
        torch.equal(*weights)
        for weights in zip(learner.bank.parameters(), twin.bank.parameters(), strict=True)
    )
    truths = [pesq(clean[n, 0].numpy(), noisy[n, 0].numpy()) for n in range(2)]
    assert results[0]["metric_true"].item() == pytest.approx(np.mean(truths), abs=1e-5)
    nothing = learner.learn(2, learner.ask(torch.zeros_like(clean), noisy))
    assert torch.isfinite(nothing["metric_loss"]) and nothing["metric_true"] == 0.0
    learner.close()
    twin.close()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["adversary.metric.weigth=1"], 'unknown key "weigth" \\(did you mean "weight"'),
        (["adversary.metric.weight=-1"], "adversary: metric: weight: expected a number from 0"),
        (["adversary.metric=3"], "adversary: metric"),
        (["adversary.metric.self_correcting=no"], "self_correcting: expected true or false"),
    ],
)
def test_bad_settings_are_refused(changes: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_experiment(ROOT / "recipes/experiments/metricgan.yaml", changes, CONF)


def test_losses_of_discriminators_that_are_not_there_are_refused(tmp_path: Path) -> None:
    metric = "{weight: 1.0, discriminators: {metric: {}}}"
    path = tmp_path / "own.yaml"
    experiment_file(path, f"adversary: {{discriminators: null, metric: {metric}}}")
    with pytest.raises(InputError, match="losses: apply to discriminators"):
        read_experiment(path, [], CONF)
