"""Generators, STFT, losses, checkpoints, enhancement."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss

import gan_denoise
from conftest import speech_like
from gan_denoise import checkpoint, generators
from gan_denoise.errors import InputError
from gan_denoise.losses import LOSSES, Losses, weighted_sum
from gan_denoise.stft import STFT, StreamingSTFT

SMALL = {
    "bands": {
        "name": "bands",
        "channels": 8,
        "bands": 6,
        "width": 8,
        "blocks": 1,
        "heads": 2,
        "hop_ms": 12.0,  # no part of its window
        "level_ms": 64.0,
    },
    "ahead": {
        "name": "ahead",
        "channels": 8,
        "bands": 6,
        "width": 8,
        "blocks": 1,
        "heads": 2,
        "hop_ms": 12.0,
        "level_ms": 64.0,
        "window_s": 0.4,
        "overlap_s": 0.1,
    },
    "causal": {"name": "causal", "width": 16, "dilations": [1, 2], "level_ms": 64.0},
    "convnext": {"name": "convnext", "width": 16, "blocks": 2, "level_ms": 64.0},
    "attention": {
        "name": "convnext",
        "width": 16,
        "blocks": 2,
        "level_ms": 64.0,
        "attention_heads": 2,
        "attention_reach": 5,
    },
    "grid": {
        "name": "grid",
        "n_fft": 128,
        "hop_length": 32,
        "width": 8,
        "blocks": 2,
        "level_ms": 64.0,
    },
    "hifigan": {
        "name": "hifigan",
        "width": 8,
        "scales": 2,
        "kernel_sizes": [3],
        "dilations": [1, 2],
        "level_ms": 64.0,
    },
    "segan": {
        "name": "segan",
        "channels": [4, 8, 8],
        "kernel_size": 7,
        "stride": 4,
        "level_ms": 64.0,
        "attention_heads": 2,
    },
}
# One that is not named above is tested at the sizes that it has by default
SMALL |= {name: {"name": name} for name in generators.names() if name not in SMALL}


@pytest.fixture(params=SMALL)
def options(request):
    return SMALL[request.param]


@pytest.fixture
def generator(options):
    torch.manual_seed(0)
    built = generators.build(options, sample_rate=16000).eval()
    with torch.no_grad():  # away from the identity that it starts at
        for parameter in built.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return built


def save(folder, options, generator):
    checkpoint.save_model(folder, generator, {"generator": options, "sample_rate": 16000})
    return folder


@pytest.fixture
def any_model_dir(generator, options, tmp_path):
    return save(tmp_path / "model", options, generator)


@pytest.fixture
def model_dir(tmp_path):
    options = SMALL["convnext"]
    return save(tmp_path / "model", options, generators.build(options, sample_rate=16000))


def waves(length: int, batch: int = 2) -> torch.Tensor:
    return torch.stack(
        [
            torch.from_numpy(speech_like(i, length / 16000 + 0.1)[:length]).float()
            for i in range(batch)
        ]
    )[:, None]


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 513, 8000])
def test_a_generator_takes_any_length(generator, length):
    noisy = waves(length)
    with torch.no_grad():
        enhanced = generator(noisy)
        assert torch.equal(enhanced, generator(noisy))  # no randomness at inference
    assert (
        enhanced.shape == noisy.shape
        and enhanced.dtype == torch.float32
        and torch.isfinite(enhanced).all()
    )


def test_a_generator_declares_its_receptive_field(generator):
    if generator.receptive_field == math.inf:
        # What it remembers is explicit; how far ahead: test_enhance
        assert set(generator.initial_state()) >= {"past", "tail"}
        return
    reach, middle = generator.receptive_field, generator.receptive_field + 4000
    noisy = waves(2 * middle, batch=1)
    changed = noisy.clone()
    changed[..., : middle - reach] *= -0.5
    changed[..., middle + reach :] *= -0.5
    with torch.no_grad():
        ours, theirs = generator(noisy)[..., middle], generator(changed)[..., middle]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_generators_items_are_independent_and_all_parameters_learn(generator):
    noisy = waves(4000, batch=3)
    with torch.no_grad():
        assert torch.allclose(generator(noisy)[1], generator(noisy[1:2])[0], atol=1e-6)
    generator.train()(noisy).square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in generator.parameters()
    )


def test_48_khz_gives_windows_of_the_same_duration():
    built = generators.build(SMALL["convnext"], sample_rate=48000)
    assert (built.stft.n_fft, built.stft.hop_length) == (1536, 384)


def test_unknown_generators_and_sizes_are_refused():
    with pytest.raises(InputError, match='unknown name "convnet" \\(did you mean "convnext"'):
        generators.build({"name": "convnet"}, sample_rate=16000)
    with pytest.raises(InputError, match='unknown key "widht" \\(did you mean "width"'):
        generators.build({"name": "convnext", "widht": 3}, sample_rate=16000)
    with pytest.raises(InputError, match="kernel_size must be odd"):
        generators.build({"name": "convnext", "kernel_size": 4}, sample_rate=16000)


def test_a_generator_is_one_file_and_its_sizes_are_checked(tmp_path, monkeypatch):
    """With annotations as they are, without `from __future__ import annotations`."""
    (tmp_path / "scaled.py").write_text(
        "import torch\n"
        "from gan_denoise import contract\n"
        "class Generator(contract.Generator):\n"
        "    receptive_field, hop_length = 0, 1\n"
        "    def __init__(self, sample_rate: int = 16000, width: int = 4, gain: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.full((width,), gain))\n"
        "    def forward(self, noisy):\n"
        "        return noisy * self.weight.mean()\n"
    )
    monkeypatch.setattr(generators, "__path__", [*generators.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "gan_denoise.generators.scaled", raising=False)
    assert "scaled" in generators.names()
    built = generators.build({"name": "scaled", "width": 12}, sample_rate=16000)
    assert built.weight.shape == (12,)
    for sizes in ({"width": "twelve"}, {"width": -3.5}, {"width": 0}, {"gain": "loud"}):
        with pytest.raises(InputError, match=f"generator scaled: {next(iter(sizes))}: expected a"):
            generators.build({"name": "scaled", **sizes}, sample_rate=16000)


@pytest.mark.parametrize("length", [1, 100, 128, 129, 5000])
def test_stft_inverts(length):
    stft = STFT(512, 128)
    wave = torch.randn(2, length, dtype=torch.float64)
    real, imaginary = stft(wave)
    assert real.shape == imaginary.shape == (2, 257, 1 - (-length // 128))
    assert torch.allclose(stft.inverse(real, imaginary, length), wave, atol=1e-12)


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize(
    ("n_fft", "hop_length"), [(512, 256), (64, 16), (33, 11), (512, 384), (64, 20)]
)
def test_streaming_stft_is_the_dft_of_frames_and_inverts_piece_by_piece(
    n_fft, hop_length, exported
):
    stft, window = StreamingSTFT(n_fft, hop_length), torch.hann_window(n_fft).sqrt()
    if exported:
        stft = stft.exported()
    wave = torch.randn(2, 7 * hop_length, generator=torch.Generator().manual_seed(0))
    past = tail = torch.zeros(2, stft.overlap, hop_length)
    spectra, pieces = [], []
    for hops in wave.unflatten(1, (-1, hop_length)).split([1, 4, 2], dim=1):
        spectrum, past = stft.analyse(hops, past)
        finished, tail = stft.synthesise(spectrum, tail)
        spectra.append(spectrum)
        pieces.append(finished.flatten(1))
    behind = n_fft - hop_length
    frames = torch.nn.functional.pad(wave, (behind, 0)).unfold(1, n_fft, hop_length)
    real, imaginary = torch.cat(spectra, dim=2).unbind(dim=1)
    expected = torch.fft.rfft(frames * window)
    assert torch.allclose(torch.complex(real, imaginary), expected, atol=1e-4)
    back = torch.cat(pieces, dim=1)
    assert torch.allclose(back[:, behind:], wave[:, :-behind], atol=1e-5)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(8, 4), (12, 3), (9, 3), (8, 6), (12, 5)])
def test_derivatives_of_the_streaming_stft_are_those_of_its_matrices(n_fft, hop_length):
    stft = StreamingSTFT(n_fft, hop_length)
    hops = torch.randn(2, 5, hop_length, requires_grad=True)
    state = torch.randn(2, stft.overlap, hop_length)
    spectrum = torch.randn(2, 2, 5, stft.bins, requires_grad=True)
    slopes = []
    for form in (stft, stft.exported()):
        heard, _ = form.analyse(hops, state)
        finished, tail = form.synthesise(spectrum, state)
        total = heard.pow(3).sum() + finished.pow(3).sum() + tail.pow(3).sum()
        slopes.append(torch.autograd.grad(total, [hops, spectrum]))
    for ours, theirs in zip(*slopes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_stft_and_its_derivatives_are_torchs():
    stft, window = STFT(16, 4), torch.hann_window(16).double()
    wave = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    ours = torch.complex(*stft(wave))
    theirs = torch.stft(wave, 16, 4, window=window, pad_mode="constant", return_complex=True)
    assert torch.allclose(ours, theirs, atol=1e-12)
    # With a phase, the parts' slopes differ; torch's way through them is another one
    slopes = [
        torch.autograd.grad((x * (2 + 1j)).real.pow(3).sum(), wave)[0] for x in (ours, theirs)
    ]
    assert torch.allclose(*slopes, atol=1e-10)
    parts = [torch.randn(2, 9, 11, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    back = torch.istft(torch.complex(*parts), 16, 4, window=window, length=40)
    assert torch.allclose(stft.inverse(*parts, 40), back, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *parts: stft.inverse(*parts, 37), parts)
    assert torch.autograd.gradgradcheck(stft, (wave,))


def value(name: str, *waves: torch.Tensor) -> float:
    return float(LOSSES[name]()(*waves))


def test_losses_have_their_known_values():
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
    for name, build in LOSSES.items():
        (gradient,) = torch.autograd.grad(
            build()(silence + 0.0, silence.detach(), noisy[:1]), silence
        )
        assert torch.isfinite(gradient).all(), name


def test_compressed_spectra_weigh_quiet_bins():
    clean = torch.randn(1, 1, 32000, generator=torch.Generator().manual_seed(0))
    assert value("compressed", clean, clean, clean) == 0.0
    half = value("compressed", 0.5 * clean, clean, clean)
    # Of any level
    assert half == pytest.approx(value("compressed", 0.05 * clean, 0.1 * clean, clean), rel=1e-2)
    # Both terms are (1 - 0.5 ** 0.3) ** 2 of the mean of |X| ** 0.6, for Gaussian X of variance 192
    # (the window's energy)
    assert half == pytest.approx((1 - 0.5**0.3) ** 2 * 192**0.3 * 0.8975, rel=0.02)


def test_harm_is_what_the_input_did_not_have():
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


def test_pmsqe_orders_signals_as_pesq_does():
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
    clean = waves(16000)
    assert value("pmsqe", clean, clean, clean) < 1e-3
    assert value("pmsqe", 0.3 * clean, clean, clean) < 1e-2  # the level is aligned, as PESQ does
    extra, less = clean + 0.01 * torch.randn_like(clean), clean - 0.01 * torch.randn_like(clean)
    assert value("pmsqe", extra, clean, clean) > 0.5
    assert value("pmsqe", extra, clean, clean) == pytest.approx(
        value("pmsqe", less, clean, clean), rel=0.1
    )


def test_mrstft_is_a_mean_over_items_and_bounded_for_silence():
    """auraloss alone: one ratio for the batch, in which the quiet item counts for nothing; 15,222
    for a silent target.
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


def test_losses_are_weighted_by_name():
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


def test_a_model_directory_is_whole_or_refused(model_dir, tmp_path):
    denoiser = gan_denoise.load(model_dir)
    wave = speech_like(0)
    assert denoiser(wave, 16000).shape == wave.shape
    with pytest.raises(InputError, match="is no model directory, config.json is missing"):
        gan_denoise.load(tmp_path / "nowhere")
    config = json.loads((model_dir / "config.json").read_text())
    config["generator"]["width"] = 24
    (model_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.safetensors: does not fit config\.json"):
        gan_denoise.load(model_dir)
    (model_dir / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="does not fit"):
        gan_denoise.load(model_dir)


class Malice:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_executes_nothing(tmp_path, monkeypatch, model_dir):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(InputError, match="nothing in it was executed"):
        checkpoint.load_state(tmp_path / "checkpoint.pt")
    torch.save({"step": Malice()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="nothing in it was executed"):
        checkpoint.load_state(tmp_path / "checkpoint.pt")
    (model_dir / "model.safetensors").write_bytes((tmp_path / "checkpoint.pt").read_bytes())
    with pytest.raises(InputError, match="does not fit"):
        gan_denoise.load(model_dir)
    assert not (tmp_path / "executed").exists()
