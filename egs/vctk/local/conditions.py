"""What may have happened to a recording that people bring: the rows of a model's card.

A condition is a function of an utterance and its noise that returns what is heard and what it is to
be compared with. All are functions of the utterance alone, so that two models meet the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.ndimage
import scipy.signal

from gan_denoise.corruption import noise
from gan_denoise.corruption.channel import Codec
from gan_denoise.corruption.synthetic import KINDS
from gan_denoise.signal import numpy_stft


@dataclass(frozen=True)
class Scene:
    """An utterance, the recorded noise that it meets, and a room response.

    speech: the utterance through `high_pass`, (T,). noise: as long as the speech and at any level,
    (T,). room, early: the response and its early part, (R,). All are float64 at `sample_rate` Hz.
    """

    utt_id: str
    speech: np.ndarray
    noise: np.ndarray
    room: np.ndarray
    early: np.ndarray
    sample_rate: int

    def draw(self, name: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.utt_id} {name}".encode()))


Heard = tuple[np.ndarray, np.ndarray]  # noisy, and what it is compared with


def at_snr(speech: np.ndarray, added: np.ndarray, snr_db: float) -> np.ndarray:
    """`added` as loud as it is `snr_db` below speech of the same length."""
    share = np.sum(speech**2) / (np.sum(added**2) + 1e-12) / 10.0 ** (snr_db / 10.0)
    return added * np.sqrt(share)


def in_noise(scene: Scene, snr_db: float = 10.0) -> Heard:
    return scene.speech + at_snr(scene.speech, scene.noise, snr_db), scene.speech


def clean(scene: Scene) -> Heard:
    return scene.speech, scene.speech


def procedure(scene: Scene) -> Heard:
    return noise.default().apply(scene.speech, scene.utt_id, scene.sample_rate), scene.speech


def with_kind(scene: Scene, kind: str, snr_db: float) -> Heard:
    """A kind of synthetic noise, of a draw that no training saw."""
    draw, rate = scene.draw(kind), scene.sample_rate
    added = KINDS[kind](draw, max(len(scene.speech), rate))[: len(scene.speech)]
    return scene.speech + at_snr(scene.speech, added, snr_db), scene.speech


def with_rumble(scene: Scene, snr_db: float = -12.0) -> Heard:
    """Noise at 10 dB, and below 80 Hz a rumble that is 12 dB louder than the speech."""
    draw, rate = scene.draw("rumble"), scene.sample_rate
    low = scipy.signal.butter(4, 80.0, fs=rate, output="sos")
    rumble = scipy.signal.sosfilt(low, draw.standard_normal(len(scene.speech)))
    noisy, target = in_noise(scene)
    return noisy + at_snr(scene.speech, rumble, snr_db), target


def through(scene: Scene, low_hz: float, high_hz: float) -> Heard:
    """Noise at 10 dB, all of it through a channel; the target too."""
    edges = [low_hz, high_hz] if low_hz else high_hz
    kind = "bandpass" if low_hz else "lowpass"
    band = scipy.signal.butter(8, edges, kind, fs=scene.sample_rate, output="sos")
    noisy, target = in_noise(scene)
    return scipy.signal.sosfiltfilt(band, noisy), scipy.signal.sosfiltfilt(band, target)


def after_silence(scene: Scene) -> Heard:
    """A second of digital silence first."""
    zeros = np.zeros(scene.sample_rate)
    noisy, target = in_noise(scene)
    return np.concatenate([zeros, noisy]), np.concatenate([zeros, target])


def gated(scene: Scene) -> Heard:
    """Noise at 10 dB, and a noise gate that shuts in the pauses."""
    noisy, target = in_noise(scene)
    frame = scene.sample_rate // 10
    level = scipy.ndimage.maximum_filter1d(np.abs(scene.speech), frame)
    open_ = level > 0.1 * np.quantile(level, 0.9)
    return noisy * open_, target * open_


def onset(scene: Scene) -> Heard:
    """Noise at 5 dB that begins in the middle."""
    noisy, target = in_noise(scene, 5.0)
    middle = len(noisy) // 2
    return np.concatenate([target[:middle], noisy[middle:]]), target


def offset(scene: Scene) -> Heard:
    noisy, target = in_noise(scene)
    return noisy + 0.1, target


def clipped(scene: Scene) -> Heard:
    noisy, target = in_noise(scene)
    limit = 0.3 * np.abs(noisy).max()
    return noisy.clip(-limit, limit), target


def coded(scene: Scene) -> Heard:
    noisy, target = in_noise(scene)
    return Codec("mp3", scene.sample_rate)(noisy.astype(np.float32), 0.8).astype(float), target


def in_room(scene: Scene) -> Heard:
    """A measured room, with noise at 10 dB; the target has the first 50 ms."""
    length = len(scene.speech)
    wet, early = (
        scipy.signal.fftconvolve(scene.speech, response)[:length]
        for response in (scene.room, scene.early)
    )
    return wet + at_snr(wet, scene.noise, 10.0), early


def quiet(scene: Scene) -> Heard:
    noisy, target = in_noise(scene)
    scale = 10.0 ** (-70.0 / 20.0) / np.sqrt(np.mean(target**2))
    return scale * noisy, scale * target


def whisper(scene: Scene) -> Heard:
    """The utterance without its voice: noise through the envelope of its spectrum."""
    rate = scene.sample_rate
    window = np.hanning(512)
    spectrum = numpy_stft.stft(scene.speech, window, 128)
    log = np.log(np.abs(spectrum) + 1e-6)
    cepstrum = np.fft.irfft(log, axis=1)
    lifter = np.zeros(512)
    lifter[: rate // 500], lifter[-rate // 500 + 1 :] = 1.0, 1.0
    envelope = np.exp(np.fft.rfft(cepstrum * lifter, axis=1).real)
    envelope *= (np.arange(257) * rate / 512 / 1500.0).clip(0.05, 1.0)  # a whisper has no lows
    breath = numpy_stft.stft(scene.draw("whisper").standard_normal(len(scene.speech)), window, 128)
    unvoiced = numpy_stft.istft(
        envelope * breath / np.abs(breath).mean(), window, 128, len(scene.speech)
    )
    unvoiced *= np.sqrt(np.sum(scene.speech**2) / np.sum(unvoiced**2))
    return unvoiced, unvoiced


def alone(scene: Scene) -> Heard:
    """The noise that is 10 dB below the speech, without it."""
    return at_snr(scene.speech, scene.noise, 10.0), np.zeros(len(scene.noise))


CONDITIONS: dict[str, Callable[[Scene], Heard]] = {
    "clean": clean,
    "whisper": whisper,
    "procedure": procedure,
    **{f"{snr} dB": partial(in_noise, snr_db=snr) for snr in (-5, 0, 5, 10, 15, 20, 30)},
    "10 dB, rumble": with_rumble,
    "10 dB, low-pass 7 kHz": partial(through, low_hz=0.0, high_hz=7000.0),
    "10 dB, telephone": partial(through, low_hz=300.0, high_hz=3400.0),
    "10 dB, silence before": after_silence,
    "10 dB, noise gate": gated,
    "10 dB, DC offset": offset,
    "10 dB, clipped": clipped,
    "10 dB, MP3": coded,
    "10 dB, -70 dBFS": quiet,
    "10 dB, room": in_room,
    "5 dB, onset": onset,
    "rumble alone, -10 dB": partial(with_kind, kind="rumble", snr_db=-10.0),
    "clicks, 5 dB": partial(with_kind, kind="clicks", snr_db=5.0),
    "typing, 5 dB": partial(with_kind, kind="typing", snr_db=5.0),
    "beeps, 5 dB": partial(with_kind, kind="beeps", snr_db=5.0),
    "music, 5 dB": partial(with_kind, kind="music", snr_db=5.0),
}
