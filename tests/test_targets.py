"""What a denoiser is asked for, and what recordings have been through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from conftest import cli, speech_like, write
from gan_denoise import generators
from gan_denoise.corruption import channel, targets
from gan_denoise.generators import ahead
from gan_denoise.metrics import Signals, si_sdr
from small_models import randomised

RATE = 16000


def tone(hz: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def level_db(after: np.ndarray, before: np.ndarray) -> float:
    """Of the middle of two signals."""
    middle = slice(len(after) // 4, -len(after) // 4)
    return 10 * np.log10(np.mean(after[middle] ** 2) / np.mean(before[middle] ** 2))


@pytest.mark.parametrize(
    ("hz", "expected_db", "within_db"),
    [(30, -48.0, 1.0), (40, -28.4, 0.5), (60, -6.0, 0.2), (100, -0.14, 0.1), (1000, 0.0, 0.01)],
)
def test_the_high_pass_is_what_it_says(hz: int, expected_db: float, within_db: float) -> None:
    wave = tone(hz, 4.0)
    assert level_db(targets.high_pass(wave, RATE), wave) == pytest.approx(
        expected_db, abs=within_db
    )


def test_the_high_pass_takes_an_offset_and_moves_nothing() -> None:
    wave = speech_like(0, 2.0)
    expected = targets.high_pass(wave, RATE)
    np.testing.assert_allclose(targets.high_pass(wave + 0.1, RATE), expected, atol=1e-6)
    lags = scipy.signal.correlate(expected, wave)
    assert np.argmax(lags) == len(wave) - 1
    for length in (1, 2, 100):  # shorter than its own response
        short = targets.high_pass(wave[:length].astype(np.float32), RATE)
        assert short.shape == (length,) and short.dtype == np.float32 and np.isfinite(short).all()


def test_a_background_is_lowered_and_speech_is_kept() -> None:
    draw = np.random.default_rng(0)
    speech = np.zeros(4 * RATE)
    for start in (0.5, 1.7, 2.9):  # words, with a faint breath after each
        place = round(start * RATE)
        word = 0.1 * tone(400, 0.6) * np.hanning(round(0.6 * RATE))
        breath = 0.003 * draw.standard_normal(RATE // 5) * np.hanning(RATE // 5)
        speech[place : place + len(word)] += word
        speech[place + 11000 : place + 11000 + len(breath)] += breath
    hiss = 1e-4 * draw.standard_normal(len(speech))
    lowered = targets.lower_background(speech + hiss, RATE, 15.0)
    pause = slice(0, RATE // 4)
    assert level_db(lowered[pause], hiss[pause]) == pytest.approx(-15.0, abs=2.0)
    assert si_sdr(Signals(speech + hiss, lowered, None, RATE)) > 40.0
    breathed = slice(round(0.5 * RATE) + 11800, round(0.5 * RATE) + 13400)
    assert abs(level_db(lowered[breathed], (speech + hiss)[breathed])) < 0.5
    silent = targets.lower_background(speech, RATE, 15.0)  # nothing to lower
    assert si_sdr(Signals(speech, silent, None, RATE)) > 40.0
    assert targets.lower_background(hiss[:500], RATE, 15.0).shape == (500,)


def test_pauses_are_measured_in_db() -> None:
    wave = np.concatenate([tone(300, 1.0), 0.01 * tone(300, 1.0)])
    assert targets.pause_depth_db(wave, RATE) == pytest.approx(40.0, abs=0.1)
    assert targets.pause_depth_db(wave[:100], RATE) == 0.0


@pytest.mark.parametrize("name", channel.CODECS)
def test_a_codec_comes_back_aligned(name: Any) -> None:
    codec, wave = channel.Codec(name, RATE), speech_like(0, 2.0).astype(np.float32)
    coded = codec(wave, 0.0)
    assert coded.shape == wave.shape and coded.dtype == np.float32
    lags = scipy.signal.correlate(coded, wave)
    assert abs(np.argmax(lags) - (len(wave) - 1)) <= 1
    assert np.abs(codec(np.zeros(8000, np.float32), 1.0)).max() < 1e-9


def test_mutes_are_digital_silence_and_noise_comes_and_goes() -> None:
    wave = speech_like(0, 2.0).astype(np.float32)
    muted = [channel.mutes(wave, RATE, np.random.default_rng(seed)) for seed in range(40)]
    assert all(set(np.unique(gains)) <= {0.0, 1.0} for gains in muted)
    kinds = {(bool(gains[0]), bool(gains[-1])) for gains in muted}
    assert {(False, True), (True, False), (True, True)} <= kinds
    gains = [
        channel.coming_and_going(32000, RATE, np.random.default_rng(seed)) for seed in range(40)
    ]
    assert all(gain.max() > 0.0 and gain.max() <= 2.0 for gain in gains)  # never silent throughout
    assert 10 < sum(gain.min() == 0.0 for gain in gains) < 40


def test_score_can_leave_out_what_lies_below(tmp_path: Path) -> None:
    """Clean speech with rumble of its own, and an output without it."""
    speech = targets.high_pass(speech_like(0, 2.0), RATE)
    rumble = 0.05 * tone(20)
    write(tmp_path / "clean" / "a.wav", speech + rumble, subtype="FLOAT")
    write(tmp_path / "enhanced" / "a.wav", speech, subtype="FLOAT")
    values = []
    for option in ((), ("--high-pass",)):
        result = cli(
            "score", "--metrics", "si_sdr", *option, tmp_path / "clean", tmp_path / "enhanced"
        )
        assert result.returncode == 0, result.stderr
        values.append(float(result.stdout.split()[1]))
    assert values[0] < 15.0 < 30.0 < values[1]


def test_the_filter_before_the_network_takes_rumble_and_leaves_the_rest() -> None:
    """At the identity, which a generator starts at."""
    options = {"name": "bands", "channels": 4, "bands": 6, "width": 8, "blocks": 1, "heads": 2}
    speech = speech_like(0, 2.0)

    def through(wave: np.ndarray, hz: float) -> np.ndarray:
        torch.manual_seed(0)  # its first weights are nearly the identity
        generator = generators.build(options | {"entrance_hz": hz}, sample_rate=RATE).eval()
        with torch.inference_mode():
            return generator(torch.from_numpy(wave).float()[None, None])[0, 0].numpy()

    rumble = tone(30.0)
    assert level_db(through(rumble, 70.0), rumble) < -12.0 < level_db(through(rumble, 0.0), rumble)
    # Order 2 at 70 Hz: speech above 120 Hz keeps its amplitude and, which a filter alone would turn
    # by up to 50 degrees there, its phase
    assert level_db(through(speech, 70.0) - through(speech, 0.0), speech) < -20.0


def test_files_are_the_mean_of_frames_in_several_places() -> None:
    options = {"name": "ahead", "channels": 4, "bands": 6, "width": 8, "blocks": 1, "heads": 2}
    generator = randomised(options | {"shifts": 2})
    wave = torch.from_numpy(speech_like(0, 1.0)).float()[None, None]
    assert isinstance(generator, ahead.Generator)
    half = generator.network.hop_length // 2
    with torch.inference_mode():
        later = generator.network(torch.nn.functional.pad(wave, (half, 0)))[..., half:]
        first = generator.network(wave)
        torch.testing.assert_close(generator(wave), (first + later) / 2.0)
        assert not torch.allclose(first, later)
        torch.testing.assert_close(generator.train()(wave), first)  # one is enough to learn
