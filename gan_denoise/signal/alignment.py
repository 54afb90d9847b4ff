"""Whether two recordings of one utterance belong together: lag, gain and correlation.

A model that learns from pairs of which one is late learns to be late, and a late output scores as
noise. So pairs are checked wherever clean meets noisy or enhanced. Nothing is ever corrected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy  # its parts are imported where they are first used

from gan_denoise import audio
from gan_denoise.errors import InputError

_EXCERPT_S, _FARTHEST_S = 1.0, 0.25
_LAG_S = 0.0005  # below it, a filter's delay
_BETTER, _BETTER_BY = 1.15, 0.03  # than where it is: how much likelier another place must be
_LIKE, _LIKE_ALONE = 0.3, 0.5  # correlation from which a lag counts, among others and by itself
_UNLIKE = 0.1  # correlation below which two are no recordings of one utterance
_AGREE_S = 0.001  # lags that are one and the same
_GAIN_DB = 6.0
_MOST = 0.5
_NAMED = 3


@dataclass(frozen=True)
class Match:
    """How the second of two signals lies to the first.

    The fields are the seconds by which it is later, its gain in dB, and the correlation at that
    lag, -1 to 1. near_s: where the lag is 0, the seconds below 0.5 ms by which it fits best.
    """

    lag_s: float
    gain_db: float
    correlation: float
    near_s: float = 0.0


def match(first: np.ndarray, second: np.ndarray, sample_rate: int) -> Match:
    """Compare two signals (T,) by the loudest second of the first.

    It is looked for up to a quarter of a second away in the second signal. The lag is 0 unless
    another place fits clearly better.
    """
    length = min(len(first), len(second))
    excerpt, far = min(length, round(_EXCERPT_S * sample_rate)), round(_FARTHEST_S * sample_rate)
    energy = np.concatenate([[0.0], np.cumsum(np.square(first[:length], dtype=np.float64))])
    start = int(np.argmax(energy[excerpt:] - energy[: length + 1 - excerpt]))
    ours = np.asarray(first[start : start + excerpt], np.float32)
    padded = np.pad(np.asarray(second, np.float32), (far, far))
    theirs = padded[start : start + excerpt + 2 * far]
    theirs = np.pad(theirs, (0, excerpt + 2 * far - len(theirs)))
    size = scipy.fft.next_fast_len(len(theirs), real=True)
    spectra = (scipy.fft.rfft(wave, n=size) for wave in (theirs, ours))
    product = scipy.fft.irfft(next(spectra) * np.conj(next(spectra)), n=size)[: 2 * far + 1]
    power = np.concatenate([[0.0], np.cumsum(np.square(theirs, dtype=np.float64))])
    powers = (power[excerpt:] - power[: len(power) - excerpt])[: 2 * far + 1]
    excerpt_power = float(np.sum(np.square(ours, dtype=np.float64))) + 1e-20
    likeness = product / np.sqrt(excerpt_power * (powers + 1e-20))
    best = int(np.argmax(np.abs(likeness)))
    moved = abs(best - far) >= _LAG_S * sample_rate and abs(likeness[best]) >= max(
        _LIKE, _BETTER * abs(likeness[far]) + _BETTER_BY
    )
    place = best if moved else far
    gain_db = 20.0 * np.log10(abs(product[place]) / excerpt_power + 1e-10)
    wide = min(far, math.ceil(_LAG_S * sample_rate) - 1)
    near = 0 if moved else int(np.argmax(np.abs(likeness[far - wide : far + wide + 1]))) - wide
    near_s = near / sample_rate if abs(likeness[far + near]) >= _LIKE else 0.0
    return Match((place - far) / sample_rate, float(gain_db), float(likeness[place]), near_s)


def match_files(pairs: Mapping[str, tuple[Path, Path]], *, jobs: int) -> dict[str, Match]:
    """Match files: utt_id -> (first, second) becomes utt_id -> Match.

    A pair that cannot be read or has two rates is left out, since whoever works on it reports that.
    """

    def look(files: tuple[Path, Path]) -> Match | None:
        try:
            (first, rate), (second, other) = (audio.read_mono(path) for path in files)
        except (InputError, OSError):
            return None
        return (
            match(first, second, rate) if rate == other and min(len(first), len(second)) else None
        )

    with ThreadPoolExecutor(max_workers=jobs) as threads:
        results = zip(pairs, threads.map(look, pairs.values()), strict=True)
        return {utt_id: result for utt_id, result in results if result}


@dataclass(frozen=True)
class Judgement:
    """What is wrong with pairs of files.

    refusal: what is wrong with most, as a sentence; "" where
    nothing is. notes: what is wrong with some, a line each.
    """

    refusal: str
    notes: list[str]


def judge(matches: Mapping[str, Match], *, alike: bool = True) -> Judgement:
    """What is wrong with pairs.

    alike: whether the two of a pair must resemble each other. Noisy and clean files must; an
    enhanced file need not.
    """
    if not matches:
        return Judgement("", [])
    values = list(matches.values())
    lags = [pair.lag_s for pair in values if pair.lag_s]
    common = float(np.median(lags)) if lags else 0.0
    way = "later" if common >= 0.0 else "earlier"
    kinds = {
        f"{way} than clean by {1000 * abs(common):.1f} ms": [
            utt_id
            for utt_id, pair in matches.items()
            if pair.lag_s and abs(pair.lag_s - common) <= _AGREE_S
        ],
        "turned upside down": [
            utt_id for utt_id, pair in matches.items() if pair.correlation < -_LIKE_ALONE
        ],
        "unlike clean (are they of other recordings?)": [
            utt_id for utt_id, pair in matches.items() if alike and abs(pair.correlation) < _UNLIKE
        ],
    }
    for what, utt_ids in kinds.items():
        if len(utt_ids) > _MOST * len(matches):
            return Judgement(
                f"{len(utt_ids)} of {len(matches)} recordings are {what}, such as {utt_ids[0]}", []
            )
    moved = {
        utt_id: f"{utt_id} by {1000 * pair.lag_s:+.1f} ms"
        for utt_id, pair in matches.items()
        if pair.lag_s
    }
    late = {
        utt_id: words
        for utt_id, words in moved.items()
        if abs(matches[utt_id].correlation) >= _LIKE_ALONE
    }
    if len(moved if alike else late) > _MOST * len(matches):
        listed = _some((moved if alike else late).values(), len(matches))
        return Judgement(f"later than clean by other times (-: earlier): {listed}", [])
    notes = [f"later than clean (-: earlier): {_some(late.values(), len(matches))}"] if late else []
    notes += [
        f"{what}: {_some(utt_ids, len(matches))}"
        for what, utt_ids in list(kinds.items())[1:]
        if utt_ids
    ]
    near_s, agree = Counter(round(pair.near_s, 5) for pair in values).most_common(1)[0]
    if near_s and agree > _MOST * len(matches):
        way = "later" if near_s > 0.0 else "earlier"
        notes.insert(
            0, f"{way} than clean by {1000 * abs(near_s):.2f} ms: {agree} of {len(matches)}"
        )
    usual = float(np.median([pair.gain_db for pair in values]))
    if abs(usual) > _GAIN_DB and alike:
        notes.append(f"louder than the clean ones by {usual:+.1f} dB in the median")
    return Judgement("", notes)


def _some(words: Iterable[str], total: int) -> str:
    listed = list(words)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{len(listed)} of {total}: {', '.join(listed[:_NAMED])}{more}"
