"""Synthetic background noise: it needs no recordings, and a kind of it can be held out for tests.

Each kind is a function of (a random generator, a number of samples) -> (T,) float64 at SAMPLE_RATE,
of any level: `mix` sets it. It draws its pitch, slope, density and the like anew at every call, and
varies in time, so that no two excerpts are alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from gan_denoise.errors import InputError, nearest

Draw = np.random.Generator
SAMPLE_RATE = 16000  # Hz
SECONDS = 120
_PIECE_S, _FADE_S = 5.0, 0.1
_STEP = 2.0**-12  # samples are rounded to it, which hides the last bit, where machines may differ


def check_kind(kind: object, where: str) -> str:
    """Return the kind if there is one of that name. Raises InputError."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}: synthetic: unknown kind {kind!r}{nearest(str(kind), KINDS)}")
    return kind


@functools.cache
def synthesise(kind: str) -> np.ndarray:
    """Two minutes of a kind at SAMPLE_RATE: (T,) float64 of RMS 1, the same on every machine.

    A new variant of the kind begins every five seconds.
    """
    draw = np.random.Generator(
        np.random.Philox(key=int.from_bytes(kind.encode()[:16].ljust(16), "little"))
    )
    step, fade = round(_PIECE_S * SAMPLE_RATE), round(_FADE_S * SAMPLE_RATE)
    ramp = np.sin(np.linspace(0.0, np.pi / 2, fade))
    wave = np.zeros(SECONDS * SAMPLE_RATE + fade)
    for start in range(0, SECONDS * SAMPLE_RATE, step):
        piece = KINDS[kind](draw, step + fade)
        piece /= np.sqrt(np.mean(piece**2))
        piece[:fade] *= ramp
        piece[-fade:] *= ramp[::-1]
        wave[start : start + step + fade] += piece
    wave = wave[: SECONDS * SAMPLE_RATE]
    return np.rint(wave / np.sqrt(np.mean(wave**2)) / _STEP) * _STEP


def _coloured(draw: Draw, length: int, exponent: float) -> np.ndarray:
    """Gaussian noise whose power falls with frequency ** -exponent, from 20 Hz on."""
    spectrum = np.fft.rfft(draw.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    return np.fft.irfft(spectrum * np.maximum(hz, 20.0) ** (-exponent / 2), n=length)


def _wander(draw: Draw, length: int, every_s: float) -> np.ndarray:
    """A smooth random walk around 0, about -2 to 2: (T,).

    It has a new goal every `every_s` seconds.
    """
    count = int(length / SAMPLE_RATE / every_s) + 3
    return np.interp(
        np.arange(length) / SAMPLE_RATE / every_s, np.arange(count), draw.standard_normal(count)
    )


def _band(draw: Draw, length: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Gaussian noise between two frequencies, with soft edges."""
    spectrum = np.fft.rfft(draw.standard_normal(length))
    hz = np.maximum(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), 1.0)
    return np.fft.irfft(
        spectrum / (1.0 + (low_hz / hz) ** 4) / (1.0 + (hz / high_hz) ** 4), n=length
    )


def _impulses(draw: Draw, length: int, per_s: float, decay_s: float, hz: float) -> np.ndarray:
    """Clicks at random times and of random strength, each a short burst that rings near `hz`."""
    train = np.zeros(length)
    times = draw.integers(0, length, round(per_s * length / SAMPLE_RATE))
    np.add.at(train, times, draw.standard_normal(len(times)) * draw.exponential(1.0, len(times)))
    time = np.arange(round(8 * decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    burst = (
        np.exp(-time / decay_s)
        * np.cos(2 * np.pi * hz * time)
        * (1.0 + 0.5 * draw.standard_normal(len(time)))
    )
    return np.fft.irfft(np.fft.rfft(train) * np.fft.rfft(burst, n=length), n=length)


def _harmonics(hz: np.ndarray, count: int, tilt: float, draw: Draw) -> np.ndarray:
    """A tone of moving pitch hz (T,) with `count` harmonics of random phase.

    Harmonic k is weaker by k ** -tilt.
    """
    phasor = np.exp(2j * np.pi * (np.cumsum(hz) / SAMPLE_RATE % 1.0))
    weights = (
        draw.uniform(0.3, 1.0, count)
        / np.arange(1, count + 1) ** tilt
        * np.exp(2j * np.pi * draw.random(count))
    )
    harmonic, tone = phasor, np.zeros(len(hz))
    for number, weight in enumerate(weights, start=1):
        tone += (harmonic * weight).real * (number * hz < SAMPLE_RATE / 2.2)
        harmonic = harmonic * phasor
    return tone


def _room(draw: Draw, length: int) -> np.ndarray:
    """Background of a room: a spectral slope between white and brown that drifts."""
    blend = 1.0 / (1.0 + np.exp(-_wander(draw, length, 2.0)))
    bright, dark = (
        _coloured(draw, length, draw.uniform(0.0, 1.5)),
        _coloured(draw, length, draw.uniform(1.0, 2.5)),
    )
    return blend * bright / bright.std() + (1.0 - blend) * dark / dark.std()


def _colour(draw: Draw, length: int) -> np.ndarray:
    """Bands of an octave, each with a level that wanders by itself."""
    edges = 60.0 * 2.0 ** np.arange(8)
    bands = [_band(draw, length, low, 2 * low) for low in edges]
    every_s = np.exp(draw.uniform(np.log(0.1), np.log(3.0)))
    return sum(band / band.std() * np.exp(1.2 * _wander(draw, length, every_s)) for band in bands)


def _hum(draw: Draw, length: int) -> np.ndarray:
    """Mains hum with its harmonics, over a little hiss."""
    hz = draw.choice([50.0, 60.0, 100.0, 120.0]) + 0.1 * _wander(draw, length, 5.0)
    tone = _harmonics(hz, 40, draw.uniform(0.2, 1.2), draw)
    return tone / tone.std() + draw.uniform(0.05, 0.5) * draw.standard_normal(length)


def _fan(draw: Draw, length: int) -> np.ndarray:
    """A rotor of drifting speed: blade tones over turbulence."""
    hz = np.exp(
        draw.uniform(np.log(60.0), np.log(500.0))
        + 0.2 * _wander(draw, length, draw.uniform(0.5, 6.0))
    )
    tone = _harmonics(hz, 40, draw.uniform(0.4, 1.5), draw)
    air = _coloured(draw, length, draw.uniform(0.5, 2.0))
    return draw.uniform(0.2, 2.0) * tone / tone.std() + air / air.std()


def _wind(draw: Draw, length: int) -> np.ndarray:
    """Gusts: low rumble whose strength swings by some 20 dB."""
    return _coloured(draw, length, draw.uniform(2.2, 3.0)) * np.exp(
        1.2 * _wander(draw, length, 0.7)
    )


def _rhythm(draw: Draw, length: int) -> np.ndarray:
    """Noise that is let through 1 to 9 times a second, as of saws, wipers, pumps and wheels."""
    hz = np.exp(draw.uniform(np.log(1.0), np.log(9.0)) + 0.1 * _wander(draw, length, 1.0))
    pulse = np.clip(
        np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE) + draw.uniform(-0.5, 0.8), 0.0, None
    )
    return _coloured(draw, length, draw.uniform(0.0, 2.0)) * (draw.uniform(0.02, 0.3) + pulse)


def _rain(draw: Draw, length: int) -> np.ndarray:
    """Many drops and a few large ones."""
    small = _impulses(
        draw, length, draw.uniform(300.0, 4000.0), 0.001, draw.uniform(2000.0, 6000.0)
    )
    large = _impulses(draw, length, draw.uniform(5.0, 60.0), 0.008, draw.uniform(500.0, 1500.0))
    return small / small.std() + 0.4 * large / large.std()


def _typing(draw: Draw, length: int) -> np.ndarray:
    """Keys and dishes: single knocks and rings with pauses, over a quiet room."""
    knocks = _impulses(draw, length, draw.uniform(3.0, 12.0), 0.006, draw.uniform(800.0, 3500.0))
    knocks += 0.5 * _impulses(
        draw, length, draw.uniform(0.5, 4.0), 0.06, draw.uniform(1200.0, 5000.0)
    )
    room = _coloured(draw, length, 1.5)
    return knocks / knocks.std() + 0.2 * room / room.std()


def _babble(draw: Draw, length: int) -> np.ndarray:
    """Many voices at once, none intelligible.

    Each is harmonic and noisy, with syllables, and with fixed bands for formants.
    """
    voices = np.zeros(length)
    for _ in range(draw.integers(3, 12)):
        pitch = draw.uniform(90.0, 230.0) * np.exp(0.15 * _wander(draw, length, 0.25))
        voice = _harmonics(pitch, 40, 0.9, draw) + 0.3 * draw.standard_normal(length)
        shaped = np.zeros(length)
        spectrum, hz = (
            np.fft.rfft(voice),
            np.maximum(np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE), 1.0),
        )
        for low, high in ((200, 900), (900, 2400), (2400, 6000)):
            band = np.fft.irfft(
                spectrum / (1.0 + (low / hz) ** 4) / (1.0 + (hz / high) ** 4), n=length
            )
            shaped += band * np.exp(1.0 * _wander(draw, length, 0.12))
        syllables = np.clip(_wander(draw, length, 0.13) + 0.2, 0.0, None)
        voices += shaped * syllables
    return voices


def _beeps(draw: Draw, length: int) -> np.ndarray:
    """Tones of appliances and alarms that switch on and off, over a quiet room."""
    step = SAMPLE_RATE // 4
    slots = length // step + 1
    hz = np.repeat(400.0 * 2.0 ** draw.uniform(0.0, 3.0, slots), step)[:length]
    on = np.repeat(draw.random(slots) < 0.4, step)[:length].astype(float)
    on = np.convolve(on, np.hanning(160) / np.hanning(160).sum(), mode="same")
    tone, room = _harmonics(hz, 3, 1.5, draw) * on, _coloured(draw, length, 1.5)
    return tone / tone.std() + 0.3 * room / room.std()


def _engine(draw: Draw, length: int) -> np.ndarray:
    """A motor under changing load: firing pulses of 25 to 80 Hz with many harmonics.

    It rattles in step with the pulses.
    """
    hz = 45.0 * np.exp(0.3 * _wander(draw, length, 1.5))
    pulses = _harmonics(hz, 60, 0.8, draw)
    rattle = (
        _band(draw, length, 800.0, 3000.0)
        * np.clip(np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE), 0.0, None) ** 4
    )
    return pulses / pulses.std() + 0.5 * rattle / rattle.std()


def _helicopter(draw: Draw, length: int) -> np.ndarray:
    """Broadband noise chopped 11 to 17 times a second."""
    hz = 14.0 * np.exp(0.1 * _wander(draw, length, 2.0))
    chop = np.clip(np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE), 0.0, None) ** 2
    return _coloured(draw, length, 1.2) * (0.15 + chop)


def _rumble(draw: Draw, length: int) -> np.ndarray:
    """Sounds below the voice: engines, gusts, thumps of handling and steps, mains hum."""
    below, sound = draw.uniform(40.0, 130.0), np.zeros(length)
    chosen = draw.permutation(4)[: draw.integers(1, 4)]
    if 0 in chosen:
        pitch = draw.uniform(12.0, 50.0) * np.exp(0.1 * _wander(draw, length, 1.0))
        tone = _harmonics(pitch, 8, draw.uniform(0.0, 1.0), draw)
        sound += draw.uniform(0.3, 1.0) * tone / tone.std()
    if 1 in chosen:
        gusts = _coloured(draw, length, draw.uniform(1.0, 3.0))
        gusts = gusts * np.exp(0.8 * _wander(draw, length, draw.uniform(0.3, 2.0)))
        sound += draw.uniform(0.3, 1.0) * gusts / gusts.std()
    if 2 in chosen:
        density, decay_s = draw.uniform(0.5, 6.0), draw.uniform(0.02, 0.12)
        thumps = _impulses(draw, length, density, decay_s, draw.uniform(15, 80))
        sound += draw.uniform(0.3, 1.0) * thumps / thumps.std()
    if 3 in chosen:
        mains = draw.choice([50.0, 60.0]) + 0.05 * _wander(draw, length, 5.0)
        hum = _harmonics(mains, int(draw.integers(1, 9)), draw.uniform(0.5, 2.0), draw)
        return sound + draw.uniform(0.3, 1.5) * hum / hum.std()  # hum reaches higher: no low-pass
    hz = np.fft.rfftfreq(length, 1.0 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(sound) / np.sqrt(1.0 + (hz / below) ** 8), n=length)


def _clicks(draw: Draw, length: int) -> np.ndarray:
    """Clicks of switches, contacts and mice, or crackle, over near silence."""
    density, decay_s = np.exp(draw.uniform(0.0, 6.0)), np.exp(draw.uniform(-9.5, -6.2))
    clicks = _impulses(draw, length, density, decay_s, draw.uniform(300.0, 7000.0))
    room = _coloured(draw, length, draw.uniform(0.0, 2.0))
    return clicks / clicks.std() + draw.uniform(0.0, 0.2) * room / room.std()


def _music(draw: Draw, length: int) -> np.ndarray:
    """Chords, a tune and a beat: notes with an attack and a decay, on a scale and in time."""
    step = round(SAMPLE_RATE * draw.uniform(0.15, 0.45))
    root, scale = draw.uniform(80.0, 220.0), np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    decay_s, tilt, sound = draw.uniform(0.08, 1.5), draw.uniform(0.5, 2.0), np.zeros(length)
    for start in range(0, length, step):
        chord = 4 if draw.random() < 0.3 else 1
        for degree in draw.choice(scale, chord if draw.random() < 0.85 else 0, replace=False):
            size = min(length - start, round(3 * decay_s * SAMPLE_RATE) + step)
            time = np.arange(size) / SAMPLE_RATE
            octave = 2.0 ** draw.integers(0, 3)
            hz = np.full(size, root * octave * 2.0 ** (degree / 12.0))
            hz *= 1.0 + 0.004 * draw.random() * np.sin(2 * np.pi * draw.uniform(4.0, 7.0) * time)
            note = _harmonics(hz, int(draw.integers(1, 12)), tilt, draw)
            note *= np.exp(-time / decay_s) * np.clip(time / 0.01, 0.0, 1.0)
            sound[start : start + size] += draw.uniform(0.3, 1.0) * note
    if draw.random() < 0.6:
        beat = np.zeros(length)
        time = np.arange(round(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
        kick = np.sin(2 * np.pi * 60.0 * np.exp(-8.0 * time) * time * 2.0) * np.exp(-time / 0.05)
        snare = draw.standard_normal(len(time)) * np.exp(-time / 0.03)
        for number, start in enumerate(range(0, length - len(time), 2 * step)):
            beat[start : start + len(time)] += kick if number % 2 else 0.5 * snare
        sound += draw.uniform(0.2, 1.0) * sound.std() * beat / beat.std()
    return sound + 1e-3 * draw.standard_normal(length)


KINDS: dict[str, Callable[[Draw, int], np.ndarray]] = {
    "babble": _babble,
    "beeps": _beeps,
    "clicks": _clicks,
    "colour": _colour,
    "engine": _engine,
    "fan": _fan,
    "helicopter": _helicopter,
    "hum": _hum,
    "music": _music,
    "rain": _rain,
    "rhythm": _rhythm,
    "room": _room,
    "rumble": _rumble,
    "typing": _typing,
    "wind": _wind,
}
