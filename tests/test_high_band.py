"""The band above 8 kHz of the packaged models, and several channels under one mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gan_denoise
from conftest import ROOT, cli, one_error_line, run, speech_like, write
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.high_band import BANDS, FEATURES, HighBand, Network, band_filters
from gan_denoise.packaged import HIGH
from gan_denoise.signal.around import Around
from gan_denoise.signal.linked import Linked
from gan_denoise.signal.streaming import Stage, Wire
from make_high_band import TrainableNetwork
from small_models import SMALL, randomised, save


class Open(Network):
    """Leaves everything as it is."""

    def __call__(self, seen: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((len(seen), BANDS), dtype=np.float32), state


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.load(HIGH)


@pytest.fixture(scope="module")
def packaged() -> Denoiser:
    return gan_denoise.load("live")


def hiss(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (0.01 * draw.standard_normal(round(seconds * rate))).astype(np.float32)


def through(stage: Stage, wave: np.ndarray, size: int) -> np.ndarray:
    pieces = [stage.push(wave[start : start + size]) for start in range(0, len(wave), size)]
    return np.concatenate([*pieces, stage.flush()])


def power_above(wave: np.ndarray, rate: int, edge_hz: float = 8500.0) -> float:
    """In dB."""
    power = np.abs(np.fft.rfft(wave, axis=0)) ** 2
    return float(10 * np.log10(power[round(edge_hz * len(wave) / rate) :].sum()))


@pytest.mark.parametrize(
    ("rate", "linked"), [(22050, True), (44100, False), (48000, True), (96000, False)]
)
def test_bands_at_a_gain_of_one_are_the_recording(rate: int, linked: bool) -> None:
    wave = np.stack([hiss(0.4, rate, 1), hiss(0.4, rate, 2)], axis=1)
    stage = Around(
        HighBand(
            Open({"recur.weight_hh_l0": np.zeros((3, 1))}), rate, 2, strength=0.5, linked=linked
        ),
        Wire(2),
    )
    for size in (97, len(wave)):  # the second time it starts anew
        np.testing.assert_allclose(through(stage, wave, size), wave, atol=1e-6)


def test_filters_of_bands_add_up_to_nothing_lost() -> None:
    impulse = band_filters(48000).sum(axis=0)
    assert impulse[len(impulse) // 2] == pytest.approx(1.0)
    assert np.abs(np.delete(impulse, len(impulse) // 2)).max() < 1e-6


def test_pieces_equal_the_whole(packaged: Denoiser) -> None:
    wave = (speech_like(0, 1.0, 44100) + hiss(1.0, 44100))[:, None]
    whole = np.concatenate(list(packaged.blocks([wave], 44100, 1)))
    pieces = np.array_split(wave, 37)
    np.testing.assert_allclose(
        np.concatenate(list(packaged.blocks(pieces, 44100, 1))), whole, atol=1e-6
    )


def test_the_network_gives_what_was_trained(network: Network) -> None:
    trained = TrainableNetwork()
    trained.load_state_dict({n: torch.from_numpy(w) for n, w in network._weights.items()})
    seen = np.random.default_rng(0).standard_normal((50, FEATURES)).astype(np.float32)
    with torch.no_grad():
        expected = trained(torch.from_numpy(seen)[None])[0].numpy()
    first, state = network(seen[:20], network.start())
    gains = np.concatenate([first, network(seen[20:], state)[0]])
    np.testing.assert_allclose(gains, expected, atol=1e-5)


def test_hiss_is_lowered_above_8_khz_as_well(packaged: Denoiser) -> None:
    noise = hiss(3.0, 48000)
    lowered = [
        power_above(noise, 48000) - power_above(packaged(noise, 48000, strength=strength), 48000)
        for strength in (0.0, 0.5, 1.0)
    ]
    assert lowered[0] < lowered[1] < lowered[2] and lowered[1] > 20.0
    kept = packaged(noise, 48000, high_band="keep")
    assert power_above(kept, 48000) == pytest.approx(power_above(noise, 48000), abs=0.2)
    assert power_above(packaged(noise, 48000, high_band="drop"), 48000) < -10.0


def test_the_level_does_not_matter(packaged: Denoiser) -> None:
    wave = speech_like(0, 1.0, 48000).astype(np.float32) + hiss(1.0, 48000)
    loud, quiet = packaged(wave, 48000), packaged(0.05 * wave, 48000)
    np.testing.assert_allclose(20 * quiet, loud, atol=2e-3)
    assert not packaged(np.zeros(9600), 48000).any()


def test_only_the_packaged_models_work_above_their_band(identity: Denoiser, tmp_path: Path) -> None:
    wave = hiss(0.3, 48000)
    np.testing.assert_array_equal(identity(wave, 48000), identity(wave, 48000, high_band="drop"))
    with pytest.raises(InputError, match="this model has nothing that works above its band"):
        identity(wave, 48000, high_band="model")
    with pytest.raises(InputError, match="a live stream keeps none"):
        gan_denoise.load("live").stream(48000, high_band="keep")
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "in" / name, wave, 48000)
    model = save(tmp_path / "model", SMALL["causal"], randomised(SMALL["causal"]))
    asked = ["enhance", "--model", model, "--high-band", "model", tmp_path / "in", tmp_path / "out"]
    one_error_line(cli(*asked), "high_band: this model has nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_live_stream_has_the_band_and_is_no_later(packaged: Denoiser, rate: int) -> None:
    wave = (speech_like(0, 1.0, rate).astype(np.float32) + hiss(1.0, rate))[:, None]
    stream = packaged.stream(rate)
    received = emitted = late = 0
    pieces = []
    for piece in np.split(wave, range(100, len(wave), 100)):
        received += len(piece)
        late = max(late, received - emitted)
        pieces.append(stream.push(piece))
        emitted += len(pieces[-1])
    enhanced = np.concatenate([*pieces, stream.flush()])
    assert enhanced.shape == wave.shape
    assert late <= stream.latency_s * rate + 100 and stream.latency_s < 0.043
    as_file = packaged(wave, rate)
    middle = slice(rate // 10, -rate // 10)  # other resamplers, the same model
    assert np.corrcoef(enhanced[middle, 0], as_file[middle, 0])[0, 1] > 0.995
    stream.strength = 1.0
    assert stream.strength == 1.0


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no network of the high band"):
        Network.load(path)


def differences(wave: np.ndarray) -> tuple[float, float]:
    """Level difference in dB and phase difference in radians between two channels."""
    spectrum = np.fft.rfft(wave, axis=0)
    left, right = np.abs(spectrum[:, 0]) ** 2, np.abs(spectrum[:, 1]) ** 2
    cross = (spectrum[:, 0] * spectrum[:, 1].conj()).sum()
    return float(10 * np.log10(left.sum() / right.sum())), float(np.angle(cross))


def test_a_panned_voice_stays_in_its_place(packaged: Denoiser) -> None:
    voice = speech_like(0, 3.0).astype(np.float32)
    panned = np.stack([voice, 0.3 * np.roll(voice, 4)], axis=1)
    noisy = panned + np.stack([hiss(3.0, 16000, 1), hiss(3.0, 16000, 2)], axis=1)
    before = differences(panned)
    linked, separate = (
        differences(packaged(noisy, 16000, stereo=stereo)) for stereo in ("linked", "separate")
    )
    assert linked == pytest.approx(before, abs=0.3)
    assert abs(separate[0] - before[0]) > abs(linked[0] - before[0])


def test_who_talks_alone_in_a_channel_is_not_muted_by_the_others_noise(packaged: Denoiser) -> None:
    """Louder noise in one channel decided a common mask for a voice in the other."""
    voice = speech_like(0, 2.0).astype(np.float32)
    noisy = np.stack([10.0 * hiss(2.0, 16000, 1), voice], axis=1)
    linked, separate = (
        packaged(noisy, 16000, stereo=stereo)[:, 1] for stereo in ("linked", "separate")
    )
    assert np.sum((linked - separate) ** 2) < 0.05 * np.sum(separate**2)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_separate_channels_do_not_know_each_other(packaged: Denoiser, rate: int) -> None:
    voice = speech_like(0, 1.0, rate).astype(np.float32) + hiss(1.0, rate)
    both = packaged(np.stack([hiss(1.0, rate, 1), voice], axis=1), rate, stereo="separate")
    np.testing.assert_allclose(both[:, 1], packaged(voice, rate), atol=1e-5)


def test_channels_alike_have_the_same_gains_above_8_khz(packaged: Denoiser) -> None:
    voice = speech_like(0, 2.0, 48000).astype(np.float32) + hiss(2.0, 48000)
    enhanced = packaged(np.stack([voice, 0.2 * voice], axis=1), 48000)
    np.testing.assert_allclose(enhanced[:, 1], 0.2 * enhanced[:, 0], atol=1e-4)


def test_equal_channels_are_as_one(packaged: Denoiser) -> None:
    wave = speech_like(0, 1.0).astype(np.float32) + hiss(1.0, 16000)
    both = packaged(np.stack([wave, wave], axis=1), 16000)
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    np.testing.assert_allclose(both[:, 0], packaged(wave, 16000), atol=1e-5)


@pytest.mark.parametrize("size", [64, 300, 5000])
def test_linked_channels_lose_nothing(size: int) -> None:
    wave = np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32)
    stage = Linked(Wire(3), 16000, 3)
    for _ in range(2):
        np.testing.assert_allclose(through(stage, wave, size), wave, atol=1e-5)


def test_the_options_of_the_command_line(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.wav", np.stack([hiss(0.3, 48000), hiss(0.3, 48000, 3)], axis=1), 48000
    )
    for name, options in (("linked", ()), ("separate", ("--stereo", "separate"))):
        cli("enhance", "--model", "live", *options, source, tmp_path / f"{name}.wav")
    linked, separate = ((tmp_path / f"{name}.wav").read_bytes() for name in ("linked", "separate"))
    assert linked != separate


def test_the_card_above_8_khz(tmp_path: Path) -> None:
    """Its tables are whole, and name who was left out of the training."""
    for place, wave in (
        ("speech/p228/a.wav", speech_like(0, 0.7, 48000) + hiss(0.7, 48000)),
        ("speech/p225/b.wav", np.zeros(100)),  # of the training
        ("noise/train_1.wav", hiss(0.7, 48000, 4)),
    ):
        write(tmp_path / place, wave, 48000)
    card = (ROOT / "egs/vctk/local/card_wide.py", "--mixtures", 5)
    result = run("python", *card, tmp_path / "speech", tmp_path / "noise")
    tables = result.stdout.split("\n\n")
    assert result.returncode == 0, result.stderr
    assert [table.count("\n| ") for table in tables[1::2]] == [5, 2, 6]
    noisy, drop = (row.split("|")[2].split("/") for row in tables[1].splitlines()[2:4])
    assert float(noisy[0]) < float(drop[0]) and float(noisy[1]) > float(drop[1])
    result = run("python", *card, tmp_path / "speech", tmp_path / "speech")
    one_error_line(result, "no recordings of this split")


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_a_live_stream_lowers_noise_at_every_rate(packaged: Denoiser, rate: int) -> None:
    """Where the resampler left the model's highest band empty, noise alone was taken for speech."""
    noise = hiss(1.5, rate)[:, None]
    enhanced = through(packaged.stream(rate), noise, rate // 50)
    later = slice(rate // 2, None)
    assert 20 * np.log10(np.std(noise[later]) / np.std(enhanced[later])) > 20.0
