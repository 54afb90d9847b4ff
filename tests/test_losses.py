"""The losses: values that are known, what they weigh, their sum by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss

from conftest import speech_like
from gan_denoise.corruption import noise
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses, names, weighted_sum
from small_models import waves


def value(name: str, *waves: torch.Tensor) -> float:
    return float(Losses({name: 1.0})(*waves)[name])


def test_losses_have_their_known_values() -> None:
    clean, noisy = waves(8000), waves(8000) + 0.1 * torch.randn(2, 1, 8000)
    assert value("l1", clean + 0.5, clean, noisy) == pytest.approx(0.5)
    assert value("mse", clean + 0.5, clean, noisy) == pytest.approx(0.25)
    assert value("wsdr", clean, clean, noisy) == pytest.approx(-1.0, abs=1e-5)
    assert value("wsdr", -clean, clean, clean) == pytest.approx(1.0, abs=1e-5)
    assert value("si_sdr", 3.0 * noisy, clean, noisy) == pytest.approx(
        value("si_sdr", noisy, clean, noisy), abs=1e-4
    )
    t = torch.arange(8000) / 16000
    sine, cosine = (f(2 * torch.pi * 200 * t)[None, None] for f in (torch.sin, torch.cos))
    assert value("snr", 0.9 * sine, sine, noisy[:1]) == pytest.approx(-20.0, abs=0.2)
    assert value("snr", sine, sine, noisy[:1]) == pytest.approx(-35.0, abs=1e-3)
    assert value("si_sdr", sine + 0.1 * cosine, sine, noisy[:1]) == pytest.approx(-20.0, abs=1e-3)
    assert value("mrstft", clean, clean, noisy) == pytest.approx(0.0, abs=1e-6)
    # Half the amplitude: spectral convergence 1/2, log magnitudes differ by ln 2
    loud = torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
    assert value("mrstft", 0.5 * loud, loud, loud) == pytest.approx(0.5 + np.log(2.0), abs=1e-3)
    silence = torch.zeros(1, 1, 8000, requires_grad=True)
    terms = Losses({name: 1.0 for name in names()})(silence + 0.0, silence.detach(), noisy[:1])
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, silence, retain_graph=True)
        assert torch.isfinite(gradient).all(), name


def test_a_mel_spectrum_is_compared_at_any_level() -> None:
    clean = torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(0))
    assert value("mel", clean, clean, clean) == 0.0
    # Logarithms of half the amplitude differ by ln 2, of loud and of quiet items
    assert value("mel", 0.5 * clean, clean, clean) == pytest.approx(np.log(2.0), abs=1e-3)
    quiet = 0.05 * clean
    assert value("mel", 0.5 * quiet, quiet, clean) == pytest.approx(np.log(2.0), abs=1e-3)


def test_a_loss_takes_its_parameters_from_the_experiment() -> None:
    mel = {"weight": 45.0, "windows": [512, 1024], "bands": [40, 80]}
    losses = Losses({"mel": mel, "l1": 1.0}, sample_rate=24000)
    assert losses.weights == {"mel": 45.0, "l1": 1.0}
    spectra: Any = losses.functions["mel"].spectra  # torchaudio's, which has no types
    assert [(each.sample_rate, each.n_fft, each.n_mels) for each in spectra] == [
        (24000, 512, 40),
        (24000, 1024, 80),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mel": {"bands": [3]}}, 'losses: mel: "weight" is missing'),
        ({"mel": {"weight": 1.0, "window": [512]}}, 'unknown key "window" .did you mean "windows"'),
        ({"mel": {"weight": 1.0, "bands": [3]}}, "7 windows, and bands for 1"),
        ({"l1": {"weight": 1.0, "power": 2}}, "loss l1: has no settings, found power"),
        ({"harm": {"weight": 1.0, "gentle": 3.0}}, "must both be above 0"),
        ({"harm": [1.0, 3.0]}, "swap the two"),
        ({"l1": {"weight": "much"}}, "losses: l1: expected a number"),
    ],
)
def test_bad_settings_of_a_loss_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Losses(settings)


def test_names_that_moved_still_work_and_say_where_they_are() -> None:
    with pytest.warns(DeprecationWarning, match="gan_denoise.adversarial"):
        from gan_denoise.losses import AdversarialLosses
    with pytest.warns(DeprecationWarning, match="gan_denoise.losses.pmsqe"):
        from gan_denoise.pmsqe import PerceptualDisturbance
    with pytest.warns(DeprecationWarning, match="gan_denoise.corruption.noise"):
        from gan_denoise.noise import Procedure
    assert Procedure is noise.Procedure
    assert AdversarialLosses({"lsgan": 1.0}).kind == "lsgan"
    assert float(PerceptualDisturbance()(*waves(8000).expand(3, 2, 1, 8000))) < 1e-3


def test_compressed_spectra_weigh_quiet_bins() -> None:
    clean = torch.randn(1, 1, 32000, generator=torch.Generator().manual_seed(0))
    assert value("compressed", clean, clean, clean) == 0.0
    half = value("compressed", 0.5 * clean, clean, clean)
    # Of any level
    assert half == pytest.approx(value("compressed", 0.05 * clean, 0.1 * clean, clean), rel=1e-2)
    # Both terms are (1 - 0.5 ** 0.3) ** 2 of the mean of |X| ** 0.6, for Gaussian X of variance 192
    # (the window's energy)
    assert half == pytest.approx((1 - 0.5**0.3) ** 2 * 192**0.3 * 0.8975, rel=0.02)


def test_harm_is_what_the_input_did_not_have() -> None:
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 1, 32000, generator=draw) for _ in range(2))
    noisy = clean + 0.1 * noise
    assert value("harm", noisy, clean, noisy) == value("harm", clean, clean, noisy) == 0.0
    assert value("harm", clean + 0.05 * noise, clean, noisy) == 0.0
    gone = clean.clone()
    gone[..., 8000:9600] = 0.0  # a twentieth of it
    lost = value("harm", gone, clean, noisy)
    assert value("compressed", gone, clean, clean) > lost > 0.9 * value("harm", gone, clean, clean)
    # What is gained elsewhere does not make up for it, and where noise covered it nothing is lost
    elsewhere = torch.where(gone == 0.0, 0.0, noisy)
    assert value("harm", elsewhere, clean, noisy) == pytest.approx(lost, rel=0.1)
    assert value("harm", gone, clean, clean + 10.0 * noise) == 0.0
    assert value("harm", gone[..., 8000:8100], *[clean[..., 8000:8100]] * 2) > 0.0


def test_pmsqe_orders_signals_as_pesq_does() -> None:
    from pesq import pesq

    draw, ours, theirs = np.random.default_rng(0), [], []
    for index in range(16):
        clean = speech_like(index, 2.0)
        noise = np.convolve(draw.standard_normal(32000), [1.0, 0.9 * draw.random()], mode="same")
        noisy = clean + 10 ** (-draw.uniform(20, 80) / 20) * noise
        ours.append(
            value(
                "pmsqe",
                *(torch.from_numpy(wave).float()[None, None] for wave in (noisy, clean, noisy)),
            )
        )
        theirs.append(pesq(16000, clean.astype(np.float32), noisy.astype(np.float32), "wb"))
    assert np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(theirs)))[0, 1] < -0.8
    speech = waves(16000)
    assert value("pmsqe", speech, speech, speech) < 1e-3
    assert value("pmsqe", 0.3 * speech, speech, speech) < 1e-2  # the level is aligned, as PESQ does
    extra, less = speech + 0.01 * torch.randn_like(speech), speech - 0.01 * torch.randn_like(speech)
    assert value("pmsqe", extra, speech, speech) > 0.5
    assert value("pmsqe", extra, speech, speech) == pytest.approx(
        value("pmsqe", less, speech, speech), rel=0.1
    )


def test_mrstft_is_a_mean_over_items_and_bounded_for_silence() -> None:
    """auraloss alone has neither property.

    It has one ratio for the batch, in which the quiet item counts for nothing, and it is 15,222 for
    a silent target.
    """
    clean = (
        torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.01])[:, None, None]
    )
    enhanced = clean * torch.tensor([1.0, 0.5])[:, None, None]
    both, first, second = (
        value("mrstft", enhanced[i], clean[i], clean[i]) for i in (slice(0, 2), [0], [1])
    )
    assert both == pytest.approx((first + second) / 2, rel=1e-5) and first < 1e-6 and second > 1.0
    resolutions = {
        "fft_sizes": [512, 1024, 2048],
        "hop_sizes": [128, 256, 512],
        "win_lengths": [512, 1024, 2048],
    }
    # For one item and far from silence, they agree
    original = MultiResolutionSTFTLoss(**resolutions)
    assert first == pytest.approx(0.0, abs=1e-6) and float(
        original(clean[:1].flip(-1), clean[:1])
    ) == pytest.approx(value("mrstft", clean[:1].flip(-1), clean[:1], clean[:1]), rel=1e-6)
    silence = torch.zeros(1, 1, 8000)
    assert value("mrstft", 1e-5 * clean[:1], silence, silence) < 1.0
    assert value("mrstft", silence, silence, silence) == pytest.approx(0.0, abs=1e-6)


def test_losses_are_weighted_by_name() -> None:
    enhanced, clean = waves(1000), waves(1000).flip(0)
    losses = Losses({"l1": 2.0, "mse": 0.5, "wsdr": 0})
    terms = losses(enhanced, clean, enhanced)
    assert terms.keys() == losses.weights.keys() == {"l1", "mse"}
    total = weighted_sum(terms, losses.weights)
    assert float(total) == pytest.approx(2.0 * float(terms["l1"]) + 0.5 * float(terms["mse"]))
    with pytest.raises(ValueError, match="terms .* were computed, terms .* have weights"):
        weighted_sum(terms, {"l1": 2.0})
    with pytest.raises(ValueError, match="have weights"):
        weighted_sum(terms, losses.weights | {"lsgan": 1.0})
    with pytest.raises(InputError, match='unknown key "l2"'):
        Losses({"l2": 1.0})
    with pytest.raises(InputError, match="no loss has a weight above 0"):
        Losses({"l1": 0})
