"""Stage 0's recordings, which are checked and converted one by one.

A table says what each was made from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gan_denoise import audio, datadir
from gan_denoise.datadir import DataDir, write_table
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import Provenance, file_digests
from gan_denoise.signal import alignment
from gan_denoise.system.files import digest
from gan_denoise.system.terminal import clock, say
from kaldi.corpora.listing import Recording
from kaldi.options import WHOLE, Part
from kaldi.stage import outcomes

AS_IT_IS, CONVERTED, UNUSABLE = "as_it_is", "converted", "unusable"
_OF_NOISY = 6  # words about a noisy file, at least
OF_STAGE_1 = ("noisy.scp", "audit.csv")
GIVEN = ("given.scp", "given.digests")
OF_AN_EARLIER_STAGE_0 = ("text", *GIVEN)


def keys(recording: Recording) -> dict[str, Path]:
    """What the table of prepared recordings calls a recording's files."""
    noisy = {f"{recording.utt_id}/noisy": recording.noisy} if recording.noisy else {}
    return {recording.utt_id: recording.clean} | noisy


class Recordings:
    """The recordings of DATA at one rate, and the table of what each was made from.

    The table is DATA/local/prepared.made. A line's `more` holds as_it_is, converted or unusable;
    the number of samples; a digest of these; and, for a noisy file, how it lies to the clean one
    (gan_denoise/signal/alignment.py). rates: other rate -> how many recordings had
    it. noisy_rates: rate -> the utt_ids whose noisy file had it, and the clean one another.
    """

    def __init__(self, data: Path, corpus: Path, sample_rate: int, jobs: int, part: Part = WHOLE):
        self._data, self._corpus, self._rate, self._jobs = data, corpus, sample_rate, jobs
        self._folder = data / "local" / f"at_{sample_rate}_{digest(str(corpus.resolve()))}"
        self._sources: dict[str, str | None] = {}
        self._due: set[str] = set()
        self.rates: Counter[int] = Counter()
        self.noisy_rates: dict[int, list[str]] = {}
        (data / "local").mkdir(exist_ok=True)
        self.table = Provenance(data / "local/prepared.made", str(part))

    def due(self, recordings: list[Recording]) -> list[Recording]:
        """Those that are not prepared, or whose files have changed."""
        files = {key: path for recording in recordings for key, path in keys(recording).items()}
        self._sources = file_digests(files, jobs=self._jobs)
        converted = {key: self._place(key) for key in files if self._kind(key) == CONVERTED}
        there = self._sources | file_digests(converted, jobs=self._jobs)
        self._due = set(self.table.due(self._sources, there))
        return [recording for recording in recordings if self._due & keys(recording).keys()]

    def differ(self) -> bool:
        """Whether one of those that `due` was asked for is not what it was, or was not there."""
        lines = self.table.made
        return any(
            key not in lines or lines[key].made_from != source
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
        """Prepare recordings; returns a line for each that cannot be used.

        Raises InputError where the machine fails.
        """
        work = partial(prepare_recording, folder=self._folder, sample_rate=self._rate)
        lines = []
        for outcome in outcomes(work, recordings, label="stage 0: reading", jobs=self._jobs):
            if outcome.os_error:
                outcome.value()
            if outcome.error:
                source, noisy = outcome.item.clean, outcome.item.noisy
                lines.append(str(outcome.error.at(source, noisy or source)))
                for key, path in keys(outcome.item).items():
                    self.table.add(key, self._source(key), path, UNUSABLE, "0")
            else:
                self._note(outcome.item, outcome.result)
        return lines

    def _note(self, recording: Recording, prepared: Prepared) -> None:
        self.rates[prepared.rate] += prepared.rate != self._rate
        if prepared.noisy_rate not in (None, prepared.rate):
            self.noisy_rates.setdefault(prepared.noisy_rate, []).append(recording.utt_id)
        files = keys(recording).items()
        for (key, path), (file, *more) in zip(files, prepared.files, strict=True):
            kind = AS_IT_IS if file == path.resolve() else CONVERTED
            self.table.add(key, self._source(key), file, kind, str(prepared.frames), *more)

    def gone(self, recordings: list[Recording]) -> list[str]:
        """A line for each that was there before and is in none of them now."""
        there = {key for recording in recordings for key in keys(recording)}
        return [
            f"{key}: was there before, and is gone from {self._corpus}"
            for key in sorted(self.table.made.keys() - there)
            if "/" not in key  # nor its noisy one
        ]

    def match(self, recording: Recording) -> alignment.Match | None:
        """How a noisy recording lies to its clean one; None where there is none to be used."""
        line = self.table.made.get(f"{recording.utt_id}/noisy")
        if (
            not recording.noisy
            or not line
            or line.more[0] == UNUSABLE
            or len(line.more) < _OF_NOISY
        ):
            return None
        return alignment.Match(*map(float, line.more[3:]))

    def files(self, recording: Recording) -> tuple[Path, Path]:
        """The prepared files of a pair, clean and noisy."""
        assert recording.noisy is not None
        noisy = self._file(f"{recording.utt_id}/noisy", recording.noisy)
        return self._file(recording.utt_id, recording.clean), noisy

    def is_clean(self, recording: Recording) -> bool:
        """Whether a noisy recording has the samples of its clean one."""
        return self.content(f"{recording.utt_id}/noisy") == self.content(recording.utt_id)

    def content(self, key: str) -> str | None:
        """The digest of a prepared recording's samples; None where it cannot be used."""
        more = self.table.made[key].more if key in self.table.made else ()
        return more[2] if len(more) > 2 and more[0] != UNUSABLE else None

    def write(
        self, name: str, recordings: list[Recording], ids: dict[str, str], *, keep_noise: bool
    ) -> None:
        """Write the tables of one split. Raises InputError where it has no usable recording."""
        folder, split = self._data / name, self._of_split(recordings, ids)
        if not len(split):
            raise InputError(
                self._data,
                f"no usable recording for {name}",
                f"see {self._data / 'skipped'}, or change --split",
            )
        old = [*OF_STAGE_1, *OF_AN_EARLIER_STAGE_0]
        brought = self._given(recordings, split)
        if not keep_noise or (folder / "given.scp").is_file():  # then the noise was the corpus's
            old += ["noise.yaml"]
        if brought:
            old += ["noisy.made"]
        for table in old:
            (folder / table).unlink(missing_ok=True)
        for table, lines in brought.items():
            write_table(folder / table, lines)
        split.write(folder)
        say(
            f"  {name:5s} {len(split.spk2utt):4d} speakers  {len(split):6d} recordings "
            f" {clock(split.duration_s):>9s}"
        )

    def _given(self, recordings: list[Recording], split: DataDir) -> dict[str, dict[str, object]]:
        """The tables of the noisy files that a corpus brings, if it does."""
        noisy = {one.utt_id: one.noisy for one in recordings if one.noisy}
        if not noisy:
            return {}
        return {
            "given.scp": {key: self._file(f"{key}/noisy", noisy[key]) for key in split.utt_ids},
            "given.digests": {key: self.content(f"{key}/noisy") for key in split.utt_ids},
        }

    def is_written(self, name: str, recordings: list[Recording], ids: dict[str, str]) -> bool:
        """Whether the tables of a split are there and say what this object knows."""
        folder, split = self._data / name, self._of_split(recordings, ids)
        try:
            there = datadir.read(folder)
            tables = {
                table: datadir.read_table(folder / table)
                for table in GIVEN
                if (folder / table).is_file()
            }
        except InputError:
            return False
        brought = {
            table: {key: str(value) for key, value in lines.items()}
            for table, lines in self._given(recordings, split).items()
        }
        return tables == brought and replace(there, noisy={}) == split.as_written()

    def keep(self, recordings: list[Recording]) -> None:
        """Write the table anew, of these recordings alone."""
        named = {key for recording in recordings for key in keys(recording)}
        self.table.keep(named & self.table.made.keys())

    def _of_split(self, recordings: list[Recording], ids: dict[str, str]) -> DataDir:
        usable = {
            recording.utt_id: recording
            for recording in recordings
            if self._kind(recording.utt_id) in (AS_IT_IS, CONVERTED)
        }
        frames = {key: int(self.table.made[key].more[1]) for key in usable}
        return DataDir(
            wav={key: self._file(key, one.clean) for key, one in usable.items()},
            utt2spk={key: ids.get(one.speaker, "") for key, one in usable.items()},
            utt2dur={key: frames[key] / self._rate for key in usable},
            text={key: one.text for key, one in usable.items() if one.text},
        )

    def _source(self, key: str) -> str:
        """The digest of a file of the corpus, or a word where it has gone meanwhile."""
        return self._sources.get(key) or str(None)

    def _kind(self, key: str) -> str | None:
        return self.table.made[key].more[0] if key in self.table.made else None

    def _file(self, key: str, source: Path) -> Path:
        return source.resolve() if self._kind(key) == AS_IT_IS else self._place(key)

    def _place(self, key: str) -> Path:
        utt_id, _, noisy = key.partition("/")
        return (self._folder / noisy / f"{utt_id}.wav").resolve()


@dataclass(frozen=True)
class Prepared:
    """One recording at the wanted rate.

    rate, noisy_rate: those that it had, Hz. frames: its number of samples now. files: the clean one
    and, in a parallel corpus, the noisy one, each with a digest of its samples. The noisy one also
    has how it matches the clean one, in words for a table.
    """

    rate: int
    noisy_rate: int | None
    frames: int
    files: tuple[tuple, ...]


def prepare_recording(recording: Recording, *, folder: Path, sample_rate: int) -> Prepared:
    """Check a recording and convert it where its rate is another one. Raises InputError."""
    converted = folder / f"{recording.utt_id}.wav"
    clean, samples, rate = _at_rate(recording.clean, converted, sample_rate)
    if not samples.any():
        raise InputError(recording.clean, "holds digital silence only", "replace or remove it")
    files: list[tuple] = [(clean, _content(samples))]
    noisy_rate = None
    if recording.noisy is not None:
        converted = folder / "noisy" / f"{recording.utt_id}.wav"
        noisy, noisy_samples, noisy_rate = _at_rate(recording.noisy, converted, sample_rate)
        if len(noisy_samples) != len(samples):
            raise InputError(
                recording.noisy,
                f"has {len(noisy_samples)} samples, its clean counterpart {len(samples)}",
                "align them first",
            )
        match = alignment.match(samples, noisy_samples, sample_rate)
        *values, near_s = astuple(match)
        words = [f"{value:.6f}" for value in (*values, *([near_s] if near_s else []))]
        files.append((noisy, _content(noisy_samples), *words))
    return Prepared(rate, noisy_rate, len(samples), tuple(files))


def _content(samples: np.ndarray) -> str:
    return hashlib.sha256(samples.tobytes()).hexdigest()[:16]


def _at_rate(path: Path, converted: Path, sample_rate: int) -> tuple[Path, np.ndarray, int]:
    """The file at the wanted rate, its samples, and the rate that it had.

    Training can read parts of that file.
    """
    samples, rate = audio.read_mono(path, dtype="float64")
    with audio.Reader(path) as reader:
        plain = reader.plain
    if rate == sample_rate and plain:
        return path.resolve(), samples, rate
    audio.write_wav(converted, audio.resample(samples, rate, sample_rate), sample_rate)
    return converted.resolve(), audio.read_mono(converted, dtype="float64")[0], rate
