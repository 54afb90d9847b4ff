"""Stage 0's recordings: checked and converted one by one, with a table that says what each was made
from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from corpora import Recording
from gan_denoise import audio, datadir, workers
from gan_denoise.datadir import DataDir, write_table
from gan_denoise.errors import InputError
from gan_denoise.files import digest
from gan_denoise.provenance import Provenance, file_digests
from gan_denoise.terminal import clock, progress, say
from options import WHOLE, Part

AS_IT_IS, CONVERTED, UNUSABLE = "as_it_is", "converted", "unusable"
OF_STAGE_1 = ("noisy.scp", "audit.csv")
OF_AN_EARLIER_STAGE_0 = ("text", "given.scp", "given.digests")


def keys(recording: Recording) -> dict[str, Path]:
    """What the table of prepared recordings calls a recording's files."""
    noisy = {f"{recording.utt_id}/noisy": recording.noisy} if recording.noisy else {}
    return {recording.utt_id: recording.clean} | noisy


class Recordings:
    """The recordings of DATA at one rate, and the table DATA/local/prepared.made of what each was
    made from.

    A line's `more`: as_it_is, converted or unusable; samples; for given noise, a digest of its
    samples.
    """

    def __init__(self, data: Path, corpus: Path, sample_rate: int, jobs: int, part: Part = WHOLE):
        self._data, self._rate, self._jobs = data, sample_rate, jobs
        self._folder = data / "local" / f"at_{sample_rate}_{digest(str(corpus.resolve()))}"
        self._sources: dict[str, str | None] = {}
        self._due: set[str] = set()
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
            for (key, path), file in zip(
                keys(recording).items(), (made.clean, made.noisy), strict=False
            ):
                kind = AS_IT_IS if file == path.resolve() else CONVERTED
                more = [made.digest] if file is made.noisy else []
                self.known.add(key, self._sources[key], file, kind, str(made.frames), *more)
        return skipped

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
                {utt_id: self.known.made[key].more[2] for utt_id, key in given.items()},
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
    """Files of one recording at the wanted rate. frames: samples of each. digest: of the noisy
    ones, where there are any.
    """

    clean: Path
    frames: int
    noisy: Path | None = None
    digest: str | None = None


def prepare_recording(recording: Recording, *, folder: Path, sample_rate: int) -> Prepared:
    """Check a recording and convert it where its rate is another one. Raises InputError."""
    clean, samples = _at_rate(recording.clean, folder / f"{recording.utt_id}.wav", sample_rate)
    if not samples.any():
        raise InputError(f"{recording.clean}: holds digital silence only: replace or remove it")
    if recording.noisy is None:
        return Prepared(clean, len(samples))
    noisy, noisy_samples = _at_rate(
        recording.noisy, folder / "noisy" / f"{recording.utt_id}.wav", sample_rate
    )
    if len(noisy_samples) != len(samples):
        raise InputError(
            f"{recording.noisy}: has {len(noisy_samples)} samples, its clean counterpart"
            f" {len(samples)}: align them first"
        )
    return Prepared(
        clean, len(samples), noisy, hashlib.sha256(noisy_samples.tobytes()).hexdigest()[:16]
    )


def _at_rate(path: Path, converted: Path, sample_rate: int) -> tuple[Path, np.ndarray]:
    """The file at the wanted rate, such that training can read parts of it, and its samples."""
    samples, rate = audio.read_mono(path, dtype="float64")
    with audio.Reader(path) as reader:
        plain = reader.plain
    if rate == sample_rate and plain:
        return path.resolve(), samples
    audio.write_wav(converted, audio.resample(samples, rate, sample_rate), sample_rate)
    return converted.resolve(), audio.read_mono(converted, dtype="float64")[0]
