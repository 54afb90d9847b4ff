"""What a corpus is like: durations, levels, SNR, pauses, and what should not be in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import file_digest
from gan_denoise.signal.alignment import Match, judge, match
from gan_denoise.system import workers
from gan_denoise.system.terminal import progress

_FRAME_S = 0.025
_PAUSE_DB = 40.0  # below the loudest frames: a pause
_FULL_SCALE, _CLIPPED = 0.999, 3  # samples in a row at full scale
_SILENT_DBFS = -70.0
_LOW_SNR_DB = -10.0


@dataclass(frozen=True)
class Measurement:
    """One utterance and what was measured of it.

    The measures are seconds, the RMS in dBFS, the SNR of its noisy file in dB, the share of pauses,
    runs of samples at full scale, the digest of the clean file, and how the noisy file matches it.
    """

    utt_id: str
    seconds: float
    level_db: float
    snr_db: float
    pauses: float
    clipped: int
    content: str | None
    match: Match


def measure(task: tuple[str, Path, Path]) -> Measurement:
    """task: utt_id, clean and noisy file."""
    utt_id, clean_path, noisy_path = task
    clean, sample_rate = audio.read_mono(clean_path, dtype="float64")
    noisy, _ = audio.read_mono(noisy_path, dtype="float64")
    length = max(1, round(_FRAME_S * sample_rate))
    frames = clean[: len(clean) // length * length].reshape(-1, length)
    levels = _decibels(np.square(frames).mean(axis=1)) if len(frames) else np.zeros(1)
    at_limit = np.abs(clean) >= _FULL_SCALE * max(1.0, float(np.abs(clean).max(initial=0.0)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at_limit.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    noise = np.square(noisy[: len(clean)] - clean[: len(noisy)]).mean()
    power = np.square(clean).mean()
    return Measurement(
        utt_id,
        len(clean) / sample_rate,
        float(_decibels(power)),
        float(_decibels(power) - _decibels(noise)),
        float((levels < np.percentile(levels, 95) - _PAUSE_DB).mean()),
        int((runs >= _CLIPPED).sum()),
        file_digest(clean_path),
        match(clean, noisy, sample_rate),
    )


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(np.maximum(power, 1e-20))


def measure_all(splits: Mapping[str, DataDir], *, jobs: int) -> dict[str, list[Measurement]]:
    """Raises InputError for a file that cannot be read."""
    by_split = {}
    for name, data in splits.items():
        tasks = [(key, data.wav[key], data.noisy[key]) for key in data.utt_ids]
        # A process takes as long to start as a hundred recordings to measure
        outcomes = workers.each(
            measure, tasks, jobs=min(jobs, 1 + len(tasks) // 100), imports_program=False
        )
        by_split[name] = [
            outcome.value() for outcome in progress(outcomes, total=len(tasks), label=name)
        ]
    return by_split


def rows(
    splits: Mapping[str, DataDir], by_split: Mapping[str, list[Measurement]]
) -> list[list[str]]:
    """A line for each split; of a distribution: 5 %, median and 95 %."""
    table = [["split", "speakers", "utterances", "minutes"]]
    table[0] += ["seconds", "level dBFS", "SNR dB", "pauses %"]
    for name, recordings in by_split.items():
        columns = [
            [one.seconds for one in recordings],
            [one.level_db for one in recordings],
            [one.snr_db for one in recordings],
            [100.0 * one.pauses for one in recordings],
        ]
        parts = [
            " / ".join(f"{x:.1f}" for x in np.percentile(column, [5, 50, 95])) for column in columns
        ]
        speakers, minutes = len(set(splits[name].utt2spk.values())), sum(columns[0]) / 60.0
        table.append([name, str(speakers), str(len(recordings)), f"{minutes:.1f}", *parts])
    return table


def warnings(
    splits: Mapping[str, DataDir], by_split: Mapping[str, list[Measurement]]
) -> Iterator[str]:
    """What would spoil a training, one line each.

    Raises InputError where most pairs are wrong.
    """
    kinds = {
        "is silent": lambda one: one.level_db < _SILENT_DBFS,
        "is clipped": lambda one: one.clipped > 0,
        f"has more noise than speech, by {-_LOW_SNR_DB:g} dB": lambda one: one.snr_db < _LOW_SNR_DB,
        "is a pause by more than half": lambda one: one.pauses > 0.5,
    }
    for name, recordings in by_split.items():
        for what, holds in kinds.items():
            if guilty := [one.utt_id for one in recordings if holds(one)]:
                yield f"{name}: {len(guilty)} of {len(recordings)} {what}: {_some(guilty)}"
        judged = judge({one.utt_id: one.match for one in recordings})
        if judged.refusal:
            raise InputError(f"{name}: noisy against clean: {judged.refusal}: align them first")
        yield from (f"{name}: noisy recordings are {note}" for note in judged.notes)
    places: dict[str | None, list[str]] = {}
    for name, recordings in by_split.items():
        for one in recordings:
            places.setdefault(one.content, []).append(f"{name}/{one.utt_id}")
    if twice := [" = ".join(copies) for copies in places.values() if len(copies) > 1]:
        yield f"{len(twice)} recordings are there more than once: {_some(twice)}"
    names = list(splits)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            both = set(splits[first].utt2spk.values()) & set(splits[second].utt2spk.values())
            if both:
                yield f"speakers of {first} are in {second} too: {_some(sorted(both))}"


def _some(words: list[str]) -> str:
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more
