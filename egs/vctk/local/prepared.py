"""Stage 0's recordings: checked and converted one by one, with a table that says what each was made
from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gan_denoise import alignment, audio, datadir, scoring, workers
from gan_denoise.datadir import DataDir, write_table
from gan_denoise.errors import InputError
from gan_denoise.files import digest
from gan_denoise.provenance import Provenance, file_digests
from gan_denoise.terminal import clock, progress, say
from options import WHOLE, Part
from recording import Recording

AS_IT_IS, CONVERTED, UNUSABLE = "as_it_is", "converted", "unusable"
_OF_NOISY = 6  # words about a noisy file
OF_STAGE_1 = ("noisy.scp", "audit.csv")
OF_AN_EARLIER_STAGE_0 = ("text", "given.scp", "given.digests")


def keys(recording: Recording) -> dict[str, Path]:
    """What the table of prepared recordings calls a recording's files."""
    noisy = {f"{recording.utt_id}/noisy": recording.noisy} if recording.noisy else {}
    return {recording.utt_id: recording.clean} | noisy


class Recordings:
    """The recordings of DATA at one rate, and the table DATA/local/prepared.made of what each was
    made from.

    A line's `more`: as_it_is, converted or unusable; samples; a digest of these; of a noisy file
    its lag, gain and likeness to the clean one (gan_denoise/alignment.py). rates: how many
    recordings had another rate than the wanted one, by it.
    """

    def __init__(self, data: Path, corpus: Path, sample_rate: int, jobs: int, part: Part = WHOLE):
        self._data, self._corpus, self._rate, self._jobs = data, corpus, sample_rate, jobs
        self._folder = data / "local" / f"at_{sample_rate}_{digest(str(corpus.resolve()))}"
        self._sources: dict[str, str | None] = {}
        self._due: set[str] = set()
        self.rates: Counter[int] = Counter()
        (data / "local").mkdir(exist_ok=True)
        self.known = Provenance(data / "local/prepared.made", str(part))

    def due(self, recordings: list[Recording]) -> list[Recording]:
        """Those that are not prepared, or whose files have changed."""
        files = {key: path for recording in recordings for key, path in keys(recording).items()}
        self._sources = file_digests(files, jobs=self._jobs)
        converted = {key: self._place(key) for key in files if self._kind(key) == CONVERTED}
        self._due = set(
            self.known.due(self._sources, self._sources | file_digests(converted, jobs=self._jobs))
        )
        return [recording for recording in recordings if self._due & keys(recording).keys()]

    def differ(self) -> bool:
        """Whether one of those that `due` was asked for is not what it was, or was not there."""
        made = self.known.made
        return any(
            key not in made or made[key].made_from != source
            for key, source in self._sources.items()
        )

    def unusable(self, recordings: list[Recording]) -> list[Recording]:
        """Those that were left out and have not changed: they are named again."""
        return [
            recording
            for recording in recordings
            if self._kind(recording.utt_id) == UNUSABLE and not self._due & keys(recording).keys()
        ]

    def prepare(self, recordings: list[Recording]) -> list[str]:
        """Prepare recordings; returns a line for each that cannot be used. Raises InputError where
        the machine fails.
        """
        work, skipped = partial(prepare_recording, folder=self._folder, sample_rate=self._rate), []
        outcomes = workers.each(work, recordings, jobs=self._jobs)
        for outcome in progress(outcomes, total=len(recordings), label="stage 0: reading"):
            recording, made = outcome.item, outcome.result
            if outcome.os_error:
                raise InputError(outcome.reason)
            if outcome.reason:
                skipped.append(
                    outcome.reason
                    if ": " in outcome.reason
                    else f"{recording.clean}: {outcome.reason}"
                )
                for key, path in keys(recording).items():
                    self.known.add(key, self._sources[key], path, UNUSABLE, "0")
                continue
            self.rates[made.rate] += made.rate != self._rate
            for (key, path), (file, *more) in zip(keys(recording).items(), made.files, strict=True):
                kind = AS_IT_IS if file == path.resolve() else CONVERTED
                self.known.add(key, self._sources[key], file, kind, str(made.frames), *more)
        return skipped

    def gone(self, recordings: list[Recording]) -> list[str]:
        """A line for each that was there before and is in none of them now."""
        there = {key for recording in recordings for key in keys(recording)}
        return [
            f"{key}: was there before, and is gone from {self._corpus}"
            for key in sorted(self.known.made.keys() - there)
            if "/" not in key  # nor its noisy one
        ]

    def look_at_pairs(self, recordings: list[Recording]) -> list[str]:
        """Whether noisy recordings belong to their clean ones: a line for what is wrong with some.
        Raises InputError where most are wrong.
        """
        found = {}
        for recording in recordings:
            made = self.known.made.get(f"{recording.utt_id}/noisy")
            if made and made.more[0] != UNUSABLE and len(made.more) == _OF_NOISY:
                found[recording.utt_id] = alignment.Match(*map(float, made.more[3:]))
        judged = alignment.judge(found)
        if judged.refusal:
            raise InputError(
                f"{self._corpus}: of its noisy recordings {judged.refusal}: align or replace them"
                " first, or a model would learn it"
            )
        pairs = [scoring.Pair(own.utt_id, own.clean, own.noisy) for own in recordings if own.noisy]
        if pairs and scoring.swapped(pairs[:: 1 + len(pairs) // 16]):
            raise InputError(
                f"{self._corpus}: its clean recordings have more noise in their pauses than the"
                " noisy ones: are the folders exchanged?"
            )
        return [f"noisy recordings are {note}" for note in judged.notes]

    def content(self, key: str) -> str | None:
        """The digest of a prepared recording's samples; None where it cannot be used."""
        more = self.known.made[key].more if key in self.known.made else ()
        return more[2] if len(more) > 2 and more[0] != UNUSABLE else None

    def write(
        self, name: str, recordings: list[Recording], ids: dict[str, str], *, keep_noise: bool
    ) -> None:
        """Write the tables of one split. Raises InputError where it has no usable recording."""
        folder, made = self._data / name, self._of_split(recordings, ids)
        if not len(made):
            raise InputError(
                f"{self._data}: no usable recording for {name}: see {self._data / 'skipped'}, or"
                " change --split"
            )
        for old in (*OF_STAGE_1, *OF_AN_EARLIER_STAGE_0, *(() if keep_noise else ("noise.yaml",))):
            (folder / old).unlink(missing_ok=True)
        if recordings[0].noisy:
            given = {utt_id: f"{utt_id}/noisy" for utt_id in made.utt_ids}
            sources = {recording.utt_id: recording.noisy for recording in recordings}
            files = {utt_id: self._file(key, sources[utt_id]) for utt_id, key in given.items()}
            write_table(folder / "given.scp", files)
            write_table(
                folder / "given.digests",
                {utt_id: self.content(key) for utt_id, key in given.items()},
            )
        made.write(folder)
        say(
            f"  {name:5s} {len(made.spk2utt):4d} speakers  {len(made):6d} recordings "
            f" {clock(made.duration_s):>9s}"
        )

    def is_written(self, name: str, recordings: list[Recording]) -> bool:
        """Whether the tables of a split are there and say what this object knows."""
        try:
            there = datadir.read(self._data / name)
        except InputError:
            return False
        made = self._of_split(recordings, there.utt2spk | {"": ""})
        return there.wav == made.wav and there.utt2dur == {
            key: round(value, 6) for key, value in made.utt2dur.items()
        }

    def _of_split(self, recordings: list[Recording], ids: dict[str, str]) -> DataDir:
        usable = [
            recording
            for recording in recordings
            if self._kind(recording.utt_id) in (AS_IT_IS, CONVERTED)
        ]
        return DataDir(
            wav={
                recording.utt_id: self._file(recording.utt_id, recording.clean)
                for recording in usable
            },
            utt2spk={recording.utt_id: ids.get(recording.speaker, "") for recording in usable},
            utt2dur={
                recording.utt_id: int(self.known.made[recording.utt_id].more[1]) / self._rate
                for recording in usable
            },
            text={recording.utt_id: recording.text for recording in usable if recording.text},
        )

    def _kind(self, key: str) -> str | None:
        return self.known.made[key].more[0] if key in self.known.made else None

    def _file(self, key: str, source: Path) -> Path:
        return source.resolve() if self._kind(key) == AS_IT_IS else self._place(key)

    def _place(self, key: str) -> Path:
        utt_id, _, noisy = key.partition("/")
        return (self._folder / noisy / f"{utt_id}.wav").resolve()


@dataclass(frozen=True)
class Prepared:
    """One recording at the wanted rate. rate: that it had, Hz. frames: samples now. files: the
    clean one and, in a parallel corpus, the noisy one, each with a digest of its samples, and the
    noisy one with how it matches the clean one, in words for a table.
    """

    rate: int
    frames: int
    files: tuple[tuple, ...]


def prepare_recording(recording: Recording, *, folder: Path, sample_rate: int) -> Prepared:
    """Check a recording and convert it where its rate is another one. Raises InputError."""
    converted = folder / f"{recording.utt_id}.wav"
    clean, samples, rate = _at_rate(recording.clean, converted, sample_rate)
    if not samples.any():
        raise InputError(f"{recording.clean}: holds digital silence only: replace or remove it")
    files: list[tuple] = [(clean, _content(samples))]
    if recording.noisy is not None:
        converted = folder / "noisy" / f"{recording.utt_id}.wav"
        noisy, noisy_samples, _ = _at_rate(recording.noisy, converted, sample_rate)
        if len(noisy_samples) != len(samples):
            raise InputError(
                f"{recording.noisy}: has {len(noisy_samples)} samples, its clean counterpart"
                f" {len(samples)}: align them first"
            )
        found = alignment.match(samples, noisy_samples, sample_rate)
        words = (f"{value:.6f}" for value in astuple(found))
        files.append((noisy, _content(noisy_samples), *words))
    return Prepared(rate, len(samples), tuple(files))


def _content(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.tobytes()).hexdigest()[:16]


def _at_rate(path: Path, converted: Path, sample_rate: int) -> tuple[Path, np.ndarray, int]:
    """The file at the wanted rate, such that training can read parts of it, its samples, and the
    rate that it had.
    """
    samples, rate = audio.read_mono(path, dtype="float64")
    with audio.Reader(path) as reader:
        plain = reader.plain
    if rate == sample_rate and plain:
        return path.resolve(), samples, rate
    audio.write_wav(converted, audio.resample(samples, rate, sample_rate), sample_rate)
    return converted.resolve(), audio.read_mono(converted, dtype="float64")[0], rate
