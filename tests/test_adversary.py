"""The adversary: discriminators work, losses have their known values, savings change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F

from benchmarks.textbook import Update, difference
from conftest import CONF
from gan_denoise import adversarial, discriminators
from gan_denoise.adversarial import (
    AdversarialLosses,
    Objective,
    feature_matching,
    hinge,
    hinge_discriminator,
    lsgan,
    lsgan_discriminator,
)
from gan_denoise.discriminators import Bank, mpd
from gan_denoise.errors import InputError
from training.adversary import Adversary
from training.experiment import AdversarySettings, OptimizerSettings, read_experiment

SMALL: dict[str, dict[str, Any]] = {
    "mpd": {"channels": 2, "periods": [2, 3, 5]},
    "msd": {"channels": 4, "scales": 2, "groups": 4},
    "mrd": {"channels": 3, "n_ffts": [64, 128]},
}
OURS = dict(SMALL)  # for what is a test of the losses
# One that is not named above is tested at the sizes that it has by default
SMALL |= {name: {} for name in discriminators.names() if name not in SMALL}
COUNT = {"mpd": 3, "msd": 2, "mrd": 2}


def bank(*names: str, conditional: bool = False, seed: int = 0) -> Bank:
    return Bank({name: SMALL[name] for name in names or SMALL}, conditional=conditional, seed=seed)


def noise(seed: int, length: int = 2000, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 1, length, generator=torch.Generator().manual_seed(seed))


COUNT |= {name: len(bank(name)(noise(0), noise(1))) for name in SMALL if name not in COUNT}


def scores(*values: float) -> list[list[torch.Tensor]]:
    """Outputs of sub-discriminators that give these scores everywhere."""
    return [
        [torch.zeros(2, 3, 4), torch.full((2, 1, 5 + number), float(value))]
        for number, value in enumerate(values)
    ]


def test_losses_have_their_known_values() -> None:
    assert lsgan_discriminator(scores(1, 1), scores(0, 0)) == 0.0  # a perfect discriminator
    assert lsgan_discriminator(scores(0.5), scores(0.5)) == 0.5  # one that knows nothing
    assert lsgan([], scores(1, 1, 1)) == 0.0 and lsgan([], scores(0, 0)) == 1.0
    assert (
        hinge_discriminator(scores(1.5, 1), scores(-1, -3)) == 0.0
        and hinge_discriminator(scores(0), scores(0)) == 2.0
    )
    assert hinge([], scores(2, -1)) == -0.5
    # Divided by the number of sub-discriminators: removing equals leaves the value
    assert lsgan([], scores(0.2)) == pytest.approx(float(lsgan([], scores(0.2, 0.2, 0.2))))
    real = bank()(noise(0), noise(1))
    assert feature_matching(real, real) == 0.0
    moved = [[features + 0.25 for features in maps] for maps in real]
    layers = sum(len(maps) - 1 for maps in real)  # the score is no feature
    assert feature_matching(real, moved).item() == pytest.approx(
        0.25 * layers / len(real), rel=1e-5
    )


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"feature_matching": 1.0}, "expected a weight for one of lsgan and hinge"),
        ({"lsgan": 1.0, "hinge": 1.0}, "expected a weight for one of lsgan and hinge"),
        ({"lsgen": 1.0}, 'unknown key "lsgen" \\(did you mean "lsgan"'),
        ({"lsgan": -1.0}, "expected a number from 0"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        AdversarialLosses(weights)


def test_bad_banks_are_refused() -> None:
    with pytest.raises(InputError, match='unknown key "mpdd" \\(did you mean "mpd"'):
        Bank({"mpdd": {}}, conditional=False, seed=0)
    with pytest.raises(InputError, match='unknown key "chanels" \\(did you mean "channels"'):
        Bank({"mpd": {"chanels": 3}}, conditional=False, seed=0)
    with pytest.raises(InputError, match="there is none"):
        Bank({}, conditional=False, seed=0)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("length", [1, 10, 500, 2000])
def test_every_member_takes_any_length(conditional: bool, length: int) -> None:
    outputs = bank(conditional=conditional)(noise(0, length), noise(1, length))
    assert len(outputs) == sum(COUNT.values())
    assert all(torch.isfinite(features).all() for maps in outputs for features in maps)


def test_first_scores_depend_on_the_wave() -> None:
    """First scores depend on the wave more than with torch's own first weights.

    With torch's they vary by 0.001 to 0.013 over white noise, and small discriminators stay at
    chance.
    """
    sizes = {"mpd": {"channels": 4}, "msd": {"channels": 16}, "mrd": {"channels": 8}}
    for maps in Bank(sizes, conditional=False, seed=0)(noise(0, 8000), noise(0, 8000)):
        assert 0.1 < maps[-1].detach().std() < 5


def test_members_do_not_depend_on_each_other() -> None:
    """Removing one member leaves the other terms' values unchanged.

    The seed decides the weights, nothing else does.
    """
    torch.manual_seed(5)
    whole = dict(
        zip(
            [name for name in SMALL for _ in range(COUNT[name])],
            bank()(noise(0), noise(1)),
            strict=False,
        )
    )
    torch.manual_seed(6)
    for name in SMALL:
        assert torch.equal(bank(name)(noise(0), noise(1))[-1][-1], whole[name][-1])
    assert not torch.equal(
        bank(seed=1)(noise(0), noise(1))[0][-1], bank()(noise(0), noise(1))[0][-1]
    )


def test_a_joint_pass_equals_two_and_items_are_independent() -> None:
    built, real, fake, noisy = bank(conditional=True), noise(0), noise(1), noise(2)
    joint = built(torch.cat([real, fake]), torch.cat([noisy, noisy]))
    for both, of_real, of_fake in zip(joint, built(real, noisy), built(fake, noisy), strict=True):
        for features, first, second in zip(both, of_real, of_fake, strict=True):
            assert torch.allclose(features, torch.cat([first, second]), atol=1e-6)
    alone = built(real[:1], noisy[:1])
    assert torch.allclose(alone[0][-1], joint[0][-1].chunk(6)[0], atol=1e-6)


def test_the_condition_is_seen() -> None:
    conditional, plain = bank(conditional=True), bank()
    assert not torch.equal(
        conditional(noise(0), noise(1))[0][-1], conditional(noise(0), noise(2))[0][-1]
    )
    assert torch.equal(plain(noise(0), noise(1))[0][-1], plain(noise(0), noise(2))[0][-1])


def test_mpd_is_the_papers_two_dimensional_convolution() -> None:
    """Columns as items, in one dimension, equal kernels of (5, 1) on the folded wave.

    Kong et al. 2020.
    """
    member, wave, period = bank("mpd").members["mpd"], noise(0, 2000), 3
    assert isinstance(member, mpd.Discriminator)
    stack = member.stacks[1]
    assert isinstance(stack, mpd.PeriodStack)
    folded = F.pad(wave, (0, 1), mode="reflect").view(3, 1, 667, 3)
    for layer, convolution in enumerate(stack.convolutions):
        assert isinstance(convolution, nn.Conv1d)
        weight = convolution.weight[..., None]
        folded = F.conv2d(
            folded, weight, convolution.bias, stride=(convolution.stride[0], 1), padding=(2, 0)
        )
        folded = F.leaky_relu(folded, 0.1)
        maps = stack(wave, period)[layer]
        assert torch.allclose(folded.permute(0, 3, 1, 2).flatten(0, 1), maps, atol=1e-6)


def adversary(**changes: Any) -> Adversary:
    optimizer: dict[str, Any]
    optimizer = {"lr": 2e-3, "betas": [0.8, 0.99], "weight_decay": 0.0, "warmup_steps": 0}
    optimizer |= {"lr_final": 2e-3} | changes.pop("optimizer", {})
    settings: dict[str, Any] = {
        "discriminators": OURS,
        "conditional": False,
        "losses": {"lsgan": 1.0, "feature_matching": 1.0},
        "segment_s": 0.05,
        "pre_emphasis": 0.0,
        "optimizer": OptimizerSettings(**optimizer),
        "clip_norm": 1e6,
    }
    written = AdversarySettings(**(settings | changes))
    return Adversary(Accelerator(cpu=True), written, sample_rate=16000, seed=0, updates=100)


@pytest.mark.parametrize("loss", ["lsgan", "hinge"])
def test_a_discriminator_learns_to_separate_one_batch(loss: str) -> None:
    optimizer = {
        "lr": 5e-3,
        "betas": [0.8, 0.99],
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "lr_final": 5e-3,
    }
    opponent = adversary(losses={loss: 1.0}, conditional=True, optimizer=optimizer)
    real, fake, noisy = noise(0, 400), 0.7 * noise(1, 400), noise(2, 400)
    first = opponent.learn(1, real, fake, noisy)
    for number in range(2, 61):
        last = opponent.learn(number, real, fake, noisy)
    assert float(last["discriminator_loss"]) < 0.1 < float(first["discriminator_loss"])
    assert float(last["score_real"]) > float(last["score_fake"]) + 0.8
    assert float(first["discriminator_gradient_norm"]) > 0.0


def test_every_sub_discriminator_receives_gradient() -> None:
    built, real, fake = bank(), noise(0), noise(1)
    lsgan_discriminator(built(real, real), built(fake, real)).backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_generators_terms_leave_the_discriminators_alone() -> None:
    opponent = adversary()
    real, fake, noisy = noise(0, 800), noise(1, 800).requires_grad_(), noise(2, 800)
    terms = opponent.terms(real, fake, noisy)
    assert terms.keys() == opponent.losses.weights.keys()
    torch.stack([*terms.values()]).sum().backward()
    assert (
        fake.grad is not None
        and fake.grad.abs().sum() > 0
        and all(parameter.grad is None for parameter in opponent.bare_bank.parameters())
    )
    # The same value and gradient as without the savings
    copy = fake.detach().clone().requires_grad_()
    maps = opponent.bare_bank(copy, noisy)
    plain = {
        "lsgan": lsgan([], maps),
        "feature_matching": feature_matching(opponent.bare_bank(real, noisy), maps),
    }
    torch.stack([*plain.values()]).sum().backward()
    assert copy.grad is not None
    assert all(torch.equal(terms[name], plain[name]) for name in terms)
    assert torch.allclose(fake.grad, copy.grad, rtol=1e-5, atol=1e-9)
    without = adversary(losses={"lsgan": 1.0}).terms(real, fake, noisy)
    assert without.keys() == {"lsgan"} and torch.equal(without["lsgan"], terms["lsgan"])


def test_an_objective_may_compare_real_and_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relativistic one (Jolicoeur-Martineau 2019) is two functions, and a line in OBJECTIVES."""

    def more_real(first: Any, second: Any) -> Any:
        pairs = zip(first, second, strict=True)
        return sum(F.softplus(b[-1].mean() - a[-1].mean()) for a, b in pairs) / len(first)

    relativistic = Objective(lambda real, fake: more_real(fake, real), more_real, compares=True)
    monkeypatch.setitem(adversarial.OBJECTIVES, "relativistic", relativistic)
    opponent = adversary(losses={"relativistic": 1.0}, conditional=True)
    real, fake, noisy = noise(0, 400), 0.7 * noise(1, 400), noise(2, 400)
    terms = opponent.terms(real, fake, noisy)
    maps = (opponent.bare_bank(wave, noisy) for wave in (real, fake))
    assert torch.allclose(terms["relativistic"], relativistic.generator(*maps))
    losses = [opponent.learn(step, real, fake, noisy)["discriminator_loss"] for step in (1, 2, 3)]
    assert losses[-1] < losses[0]


def test_excerpts_are_aligned_levelled_and_a_function_of_the_update() -> None:
    opponent, clean = adversary(), noise(0, 4000) * torch.tensor([1.0, 0.1, 0.0])[:, None, None]
    real, fake = opponent.excerpts(7, clean, 2.0 * clean)
    assert real.shape == (3, 1, 800) and torch.allclose(fake, 2.0 * real)
    level = clean[1].square().mean().sqrt()
    assert any(
        torch.allclose(real[1], (clean[1] / level)[:, start : start + 800]) for start in range(3201)
    )
    assert torch.equal(real, opponent.excerpts(7, clean)[0]) and not torch.equal(
        real, opponent.excerpts(8, clean)[0]
    )
    assert not real[2].any()  # silence stays silence
    (emphasised,) = adversary(pre_emphasis=0.9).excerpts(1, torch.ones(1, 1, 800))
    assert torch.allclose(emphasised[0, 0, 1:] / emphasised[0, 0, 0], torch.tensor(0.1))
    assert opponent.excerpts(1, clean[..., :300])[0].shape == (3, 1, 300)


@pytest.mark.parametrize(
    "savings",
    [{"joint": True}, {"frozen": True}, {"detached": True}, {"silent": True}, {"ours": True}],
    ids=str,
)
def test_a_saving_changes_no_update(savings: dict[str, Any], tiny_gan: Path) -> None:
    """The benchmark's textbook loop and ours, in float64, end with the same weights.

    The weights are those of the generator and of the discriminators.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    experiment, device = read_experiment(tiny_gan, ["precision=float64"], CONF), torch.device("cpu")
    textbook, other = Update(experiment, device), Update(experiment, device, **savings)
    before = [parameter.clone() for parameter in textbook.generator.parameters()]
    for number in range(4):
        clean = 0.05 * noise(number, 8000, batch=2).double()
        noisy = clean + 0.02 * noise(100 + number, 8000, batch=2).double()
        textbook(noisy, clean)
        other(noisy, clean)
    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, textbook.generator.parameters(), strict=True)
    )
    assert difference(textbook, other) < 1e-9


def test_a_bank_can_be_copied() -> None:
    """The legacy weight norm cannot: EMA and checkpoints rest on it."""
    import copy

    built = bank()
    twin = copy.deepcopy(built)
    assert isinstance(twin, nn.Module)
    assert torch.equal(twin(noise(0), noise(1))[0][-1], built(noise(0), noise(1))[0][-1])
