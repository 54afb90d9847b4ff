"""Paired training segments; which segment comes when is a function of (seed, position) alone.

So a resumed run, another number of workers or another number of processes sees exactly the same
data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import Dataset

from gan_denoise.contract import BALANCED
from gan_denoise.corruption.conditions import Corruption
from gan_denoise.corruption.scenes import Scenes, Speech
from gan_denoise.datadir import DataDir, check_duration
from gan_denoise.errors import InputError

# A corpus whose decoded pairs fit is kept in memory; a larger one is read segment by segment
_CACHE_BYTES = 2**30
_BALANCED_SHARE = 0.3  # of the visits, since most people use this strength


class Segments(Dataset):
    """An endless sequence of segments of fixed length: position -> item.

    An item is {"noisy", "clean": (1, T) float32, "strength": 0 to 1, for generators that take one,
    "utt_id"}.

    data: a data directory with noisy files. length: T in samples at `sample_rate` Hz. gain_db:
    [low, high], a random gain common to both signals. draws: a name; another name draws other
    segments from the same seed (the discriminator-only steps use one). Utterances come in a new
    random order every epoch; a shorter one is followed by zeros. fresh_noise: a procedure that
    corrupts the utterance anew at every visit. scenes: what makes clean and noisy from an excerpt
    anew at every visit. Without either the noisy files are read. cut: segments begin at multiples
    of so many samples; with the procedure's hop, frames lie where they lie in the whole utterance.
    """

    def __init__(
        self,
        data: DataDir,
        *,
        length: int,
        sample_rate: int,
        gain_db: list[float],
        seed: int,
        draws: str = "generator",
        fresh_noise: Corruption | None = None,
        scenes: Scenes | None = None,
        cut: int = 1,
    ):
        self._data, self._utt_ids = data, data.utt_ids
        self._length, self._sample_rate = length, sample_rate
        self._gain_db, self._seed = gain_db, seed
        self._draws, self._fresh_noise = int.from_bytes(draws.encode(), "little"), fresh_noise
        self._scenes, self._cut = scenes, cut
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        decoded_bytes = data.duration_s * sample_rate * 2 * np.dtype(np.float32).itemsize
        self._cache: dict[Path, np.ndarray] | None = {} if decoded_bytes <= _CACHE_BYTES else None
        self._prepared: dict[str, Speech] = {}
        if scenes is not None and scenes.weighs:
            self._utt_ids = scenes.visits(
                data.utt_ids, lambda utt_id: self._whole(data.wav[utt_id], utt_id)
            )

    def __getitem__(self, position: int) -> dict:
        utt_id = self._utt_ids[
            self._permutation(position // len(self._utt_ids))[position % len(self._utt_ids)]
        ]
        draw = np.random.default_rng((self._seed, self._draws, 1, position))
        low_db, high_db = self._gain_db
        where, gain = draw.random(), np.float32(10.0 ** (draw.uniform(low_db, high_db) / 20.0))
        if self._scenes is not None:
            clean, noisy = self._scene(self._scenes, utt_id, where, position)
        elif self._fresh_noise is not None:
            clean, noisy = self._fresh(self._fresh_noise, utt_id, where, position)
        else:
            clean, noisy = self._pair(utt_id, where)
        padding = (0, self._length - len(clean))
        return {
            "noisy": torch.from_numpy(np.pad(noisy * gain, padding))[None],
            "clean": torch.from_numpy(np.pad(clean * gain, padding))[None],
            "strength": torch.tensor(self._strength(position)),
            "utt_id": utt_id,
        }

    def _strength(self, position: int) -> float:
        draw = np.random.default_rng((self._seed, self._draws, 3, position))
        return BALANCED if draw.random() < _BALANCED_SHARE else float(draw.uniform())

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            order = np.random.default_rng((self._seed, self._draws, 0, epoch)).permutation(
                len(self._utt_ids)
            )
            self._order = (epoch, order)
        return self._order[1]

    def _pair(self, utt_id: str, where: float) -> list[np.ndarray]:
        """Clean and noisy samples of one excerpt, at most `length` each.

        where: 0 to 1, the excerpt's place in the utterance.
        """
        paths = self._data.wav[utt_id], self._data.noisy[utt_id]
        if self._cache is None:
            frames = [self._frames(path, utt_id) for path in paths]
            _check_partners(paths, utt_id, frames)
            return [self._read(path, where, frames[0]) for path in paths]
        pair = [self._whole(path, utt_id) for path in paths]
        _check_partners(paths, utt_id, [len(wave) for wave in pair])
        return [wave[self._span(len(wave), where)] for wave in pair]

    def _fresh(
        self, procedure: Corruption, utt_id: str, where: float, position: int
    ) -> list[np.ndarray]:
        """Clean and noisy samples of one excerpt, corrupted by a draw of this visit.

        The whole utterance is corrupted and then cropped, since cropping first would move the STFT
        grid.
        """
        clean = self._whole(self._data.wav[utt_id], utt_id)
        visit = f"{utt_id} {self._seed} {self._draws} {position}"
        noisy = procedure.apply(clean, visit, self._sample_rate, split="train").astype(np.float32)
        return [wave[self._span(len(clean), where)] for wave in (clean, noisy)]

    def _scene(
        self, scenes: Scenes, utt_id: str, where: float, position: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy samples of an excerpt in a scene of this visit.

        Other utterances of the data are the voices around it.
        """
        draw = np.random.default_rng((self._seed, self._draws, 2, position))

        def voice(draw: np.random.Generator) -> np.ndarray:
            other = self._utt_ids[draw.integers(len(self._utt_ids))]
            return self._whole(self._data.wav[other], other)

        visit = f"{utt_id} {self._seed} {self._draws} {position}"
        speech = self._prepared.get(utt_id)
        if speech is None:
            speech = scenes.prepare(self._whole(self._data.wav[utt_id], utt_id))
            if self._cache is not None:
                self._prepared[utt_id] = speech
        return scenes.compose(speech, where, self._length, draw, visit, voice)

    def _span(self, frames: int, where: float) -> slice:
        start = int(where * (max(0, frames - self._length) + 1))
        start -= start % self._cut
        return slice(start, min(frames, start + self._length))

    def _read(self, path: Path, where: float, frames: int) -> np.ndarray:
        """An excerpt of a file of `frames` samples."""
        span = self._span(frames, where)
        return sf.read(path, start=span.start, stop=span.stop, dtype="float32")[0]

    def _whole(self, path: Path, utt_id: str) -> np.ndarray:
        if self._cache is not None and path in self._cache:
            return self._cache[path]
        self._frames(path, utt_id)
        wave = sf.read(path, dtype="float32")[0]
        if self._cache is not None:
            self._cache[path] = wave
        return wave

    def _frames(self, path: Path, utt_id: str) -> int:
        """The file's length in samples.

        Raises InputError where the file is not what the data directory says.
        """
        try:
            info = sf.info(path)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise InputError(
                f"{path}: {utt_id}: cannot be read any more: run stages 0 and 1 again"
            ) from error
        if info.samplerate != self._sample_rate or info.channels != 1:
            raise InputError(
                f"{path}: {utt_id}: expected one channel at {self._sample_rate} Hz, found"
                f" {info.channels} at {info.samplerate} Hz"
            )
        check_duration(path, utt_id, info.frames, self._data.utt2dur[utt_id], self._sample_rate)
        return info.frames


def _check_partners(paths: tuple[Path, Path], utt_id: str, frames: list[int]) -> None:
    if frames[0] != frames[1]:
        raise InputError(
            f"{paths[1]}: {utt_id}: has {frames[1]} samples, its clean counterpart {paths[0]} has"
            f" {frames[0]}: run stages 0 and 1 again"
        )


class Batches:
    """A batch sampler: the positions of this process's share of each batch.

    The batches are those of updates first, first + 1, ... last - 1. batch_size counts the items of
    all processes together, so what an update sees does not depend on their number.
    """

    def __init__(
        self, first: int, last: int, *, batch_size: int, process: int = 0, processes: int = 1
    ):
        if batch_size % processes:
            raise InputError(
                f"batch_size={batch_size} cannot be shared by {processes} processes: choose a"
                " multiple"
            )
        self._updates, self._batch_size = range(first, last), batch_size
        share = batch_size // processes
        self._mine = range(process * share, (process + 1) * share)

    def __len__(self) -> int:
        return len(self._updates)

    def __iter__(self) -> Iterator[list[int]]:
        for update in self._updates:
            yield [update * self._batch_size + item for item in self._mine]
