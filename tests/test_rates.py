"""What is right at 48 kHz as at 16 kHz: sizes in samples last as long at every rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import speech_like
from gan_denoise import audio, generators, metrics
from gan_denoise.discriminators import Bank, mrd, msd
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses, mel, mrstft
from gan_denoise.metrics import Signals, high_band
from gan_denoise.signal.rates import samples_at, whole_ratio
from gan_denoise.signal.stft import STFT, StreamingSTFT

RATES = (16000, 44100, 48000)


def stft_of(module: nn.Module) -> STFT | StreamingSTFT:
    """Of a generator, a discriminator or a loss."""
    stft = module.stft
    assert isinstance(stft, STFT | StreamingSTFT)
    return stft


def test_samples_last_as_long() -> None:
    assert [samples_at(512, rate) for rate in (8000, *RATES)] == [256, 512, 1411, 1536]
    assert samples_at(255, 16000, multiple=4) == 255  # as it was written
    assert samples_at(512, 44100, multiple=4) == 1412 and samples_at(1, 1000, multiple=2) == 2
    assert [whole_ratio(rate) for rate in (8000, *RATES)] == [1, 1, 3, 3]


def test_windows_of_the_losses_last_as_long() -> None:
    def windows(rate: int) -> dict[str, list[Any]]:
        built = Losses({"mrstft": 1.0, "compressed": 1.0, "mel": 1.0, "pmsqe": 1.0}, rate).functions
        several, on_the_mel_scale = built["mrstft"], built["mel"]
        assert isinstance(several, mrstft.Loss) and isinstance(on_the_mel_scale, mel.Loss)
        others = [stft_of(built[name]) for name in ("compressed", "pmsqe")]
        return {
            "mrstft": [each.fft_size for each in several.resolutions.stft_losses],
            "hops": [each.hop_size for each in several.resolutions.stft_losses],
            "mel": [each.n_fft for each in on_the_mel_scale.spectra],
            "others": [each.n_fft for each in others],
            "other hops": [each.hop_length for each in others],
        }

    at_16 = {
        "mrstft": [512, 1024, 2048],
        "hops": [128, 256, 512],
        "mel": [32, 64, 128, 256, 512, 1024, 2048],
        "others": [512, 512],
        "other hops": [128, 256],
    }
    assert windows(16000) == at_16
    assert windows(48000) == {name: [3 * size for size in sizes] for name, sizes in at_16.items()}
    for name, sizes in windows(44100).items():
        assert np.divide(sizes, 44100) == pytest.approx(np.divide(at_16[name], 16000), rel=5e-3)


@pytest.mark.parametrize("name", ["compressed", "harm", "pmsqe", "mrstft"])
def test_a_voice_at_48_khz_has_the_loss_that_it_has_at_16(name: str) -> None:
    """What lies below 8 kHz; of a mean over bins, those above 8 kHz take two thirds."""
    clean = speech_like(0, 1.5)
    noise = 0.02 * np.random.default_rng(0).standard_normal((2, len(clean)))
    values = {}
    for rate in (16000, 44100, 48000):
        waves = (clean + noise[0], clean, clean + noise[1] / 4)
        tensors = [
            torch.from_numpy(audio.resample(wave, 16000, rate).astype(np.float32))[None, None]
            for wave in waves
        ]
        loss = Losses({name: 1.0}, rate)
        values[rate] = float(loss(*tensors)[name])
        if name in ("compressed", "harm"):  # nothing is there
            values[rate] *= rate / 16000
    if name == "mrstft":  # the logarithm hears the resampler's edge, at 80 dB below the voice
        assert all(values[16000] / 4 < values[rate] < values[16000] for rate in RATES[1:])
    else:
        assert values[48000] == pytest.approx(values[16000], rel=0.05)
        assert values[44100] == pytest.approx(values[16000], rel=0.05)


def test_pmsqe_needs_8_khz_of_sound() -> None:
    with pytest.raises(InputError, match="pmsqe: needs at least 16000 Hz, this is 8000 Hz"):
        Losses({"pmsqe": 1.0}, 8000)


def test_discriminators_see_as_much_time() -> None:
    names = ("mpd", "msd", "mrd", "metric")

    def maps_of(rate: int) -> list[list[torch.Tensor]]:
        sizes = {"channels": 4}
        members = {name: sizes | ({"groups": 4} if name == "msd" else {}) for name in names}
        bank = Bank(members, conditional=False, seed=0, sample_rate=rate)
        wave = torch.randn(1, 1, rate // 4, generator=torch.Generator().manual_seed(0))
        if rate == 48000:
            periods, scales, resolutions, metric = bank.members.values()
            assert periods.periods == [6, 9, 15, 21, 33]
            assert isinstance(scales, msd.Discriminator)
            assert isinstance(resolutions, mrd.Discriminator)
            (whole, *_) = scales.stacks
            assert isinstance(whole, msd.ScaleStack)
            first = whole.convolutions[0]
            assert first.kernel_size == (45,) and first.stride == (3,)
            assert [stft_of(stack).n_fft for stack in resolutions.stacks] == [768, 1536, 3072]
            assert stft_of(metric).n_fft == 1536
        return bank(wave, wave)

    at_16, at_48 = maps_of(16000), maps_of(48000)
    for of_16, of_48 in zip(at_16, at_48, strict=True):
        assert len(of_16) == len(of_48)
    # As many steps in time at both rates: columns of mpd, and scales of msd
    assert [maps[-1].shape[-1] for maps in at_16[:8]] == [maps[-1].shape[-1] for maps in at_48[:8]]
    assert [maps[-1].shape[2] for maps in at_16[8:11]] == [
        maps[-1].shape[2] for maps in at_48[8:11]
    ]


def test_sizes_that_an_experiment_states_are_samples_at_its_rate() -> None:
    bank = Bank({"mpd": {"periods": [2, 3]}}, conditional=False, seed=0, sample_rate=48000)
    assert bank.members["mpd"].periods == [2, 3]
    with pytest.raises(InputError, match="expected a list of whole numbers, found 3"):
        Bank({"mpd": {"periods": 3}}, conditional=False, seed=0)
    grid = generators.build({"name": "grid", "n_fft": 512, "hop_length": 128}, sample_rate=48000)
    assert (stft_of(grid).n_fft, stft_of(grid).hop_length) == (512, 128)
    with pytest.raises(InputError, match="n_fft: expected a whole number"):
        generators.build({"name": "grid", "n_fft": "long"}, sample_rate=16000)


def test_windows_of_generators_last_as_long() -> None:
    for name in ("convnext", "hifigan", "causal", "grid", "bands"):
        windows = {}
        for rate in RATES:
            stft = stft_of(generators.build({"name": name}, sample_rate=rate))
            windows[rate] = (stft.n_fft / rate, stft.hop_length / rate)
        assert windows[48000] == pytest.approx(windows[16000])
        assert windows[44100] == pytest.approx(windows[16000], rel=5e-3)


def band_pair(seed: int = 0, rate: int = 48000) -> tuple[np.ndarray, np.ndarray]:
    """White noise of a second below and above 8 kHz."""
    whole = np.random.default_rng(seed).standard_normal(rate) / 10
    high = high_band.above(whole, rate)
    return whole - high, high


def test_metrics_of_the_high_band_know_their_values() -> None:
    low, high = band_pair()

    def value(name: str, enhanced: np.ndarray) -> float:
        return metrics.ALL[name].function(Signals(low + high, enhanced, None, 48000))

    assert value("lsd_high", low + high) == 0.0 and value("si_sdr_high", low + high) == 100.0
    # A gain of the high band is that distance, but for what leaks over the border
    quieter = low + high / 2
    assert value("lsd_high", quieter) == pytest.approx(6.02, abs=0.02)
    assert value("si_sdr_high", quieter) == pytest.approx(100.0)
    # What is below does not count
    assert value("lsd_high", low / 2 + high) < 0.2 < 2.0 < value("lsd", low / 2 + high)
    assert value("si_sdr_high", low / 2 + high) == pytest.approx(100.0)
    # Tones: 12 kHz is speech, 15 kHz at a tenth is noise, 3 kHz is not heard
    time = np.arange(48000) / 48000
    tones = {hz: np.sin(2 * np.pi * hz * time) for hz in (3000, 12000, 15000)}
    pair = Signals(tones[12000], tones[12000] + tones[15000] / 10 + tones[3000], None, 48000)
    assert metrics.ALL["si_sdr_high"].function(pair) == pytest.approx(20.0, abs=1e-6)
    assert metrics.si_sdr(pair) == pytest.approx(-0.043, abs=1e-3)


def test_metrics_of_the_high_band_have_reasons_where_there_is_none() -> None:
    low, high = band_pair()
    for name in ("lsd_high", "si_sdr_high"):
        with pytest.raises(metrics.Unscorable, match="no band above 8000 Hz at 16000 Hz"):
            metrics.ALL[name].function(Signals(low, low, None, 16000))
    for clean, enhanced, which in ((low, low + high, "clean"), (low + high, low, "enhanced")):
        with pytest.raises(metrics.Unscorable, match=f"the {which} signal holds nothing above"):
            metrics.ALL["si_sdr_high"].function(Signals(clean, enhanced, None, 48000))


def test_tables_have_the_high_band_at_44_1_and_48_khz_alone() -> None:
    for rate in (16000, 22050, 32000):
        assert metrics.metrics_at(rate) == tuple(metrics.METRICS)
    for rate in (44100, 48000):
        assert metrics.metrics_at(rate) == (*metrics.METRICS, "lsd_high", "si_sdr_high")


def test_metrics_of_16_khz_hear_at_48_what_they_hear_at_16() -> None:
    clean = speech_like(0, 2.0)
    enhanced = clean + 0.01 * np.random.default_rng(0).standard_normal(len(clean))
    at_48 = [audio.resample(wave, 16000, 48000) for wave in (clean, enhanced)]
    hiss = 0.05 * high_band.above(np.random.default_rng(1).standard_normal(96000), 48000, 8500.0)
    for name in ("pesq_wb", "stoi", "estoi", "csig", "speaker_similarity"):
        measure = metrics.ALL[name].function
        expected = measure(Signals(clean, enhanced, None, 16000))
        score = measure(Signals(at_48[0], at_48[1] + hiss, None, 48000))
        assert score == pytest.approx(expected, abs=0.02), name
