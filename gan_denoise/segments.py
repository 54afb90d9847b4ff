"""Paired training segments; which segment comes when is a function of (seed, position) and of nothing else.

So a resumed run, another number of workers or another number of processes sees exactly the same data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soundfile as sf
import torch
from torch.utils.data import Dataset

from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError

_CACHE_BYTES = 2**30  # a corpus whose decoded pairs fit is kept in memory; a larger one is read segment by segment


class Segments(Dataset):
    """An endless sequence of segments of fixed length: position -> {"noisy", "clean": (1, T) float32, "utt_id"}.

    data: with noisy files. length: T in samples at `sample_rate` Hz. gain_db: [low, high], a random gain common to both
    signals. stream: a name; streams of other names draw other segments from the same seed (the discriminator-only
    steps have their own). Utterances come in a new random order every epoch; a shorter one is followed by zeros.
    """

    def __init__(
        self,
        data: DataDir,
        *,
        length: int,
        sample_rate: int,
        gain_db: list[float],
        seed: int,
        stream: str = "generator",
    ):
        self._data, self._utt_ids = data, data.utt_ids
        self._length, self._sample_rate = length, sample_rate
        self._gain_db, self._seed = gain_db, seed
        self._stream = int.from_bytes(stream.encode(), "little")
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        decoded_bytes = data.duration_s * sample_rate * 2 * np.dtype(np.float32).itemsize
        self._cache: dict[str, tuple[np.ndarray, np.ndarray]] | None = {} if decoded_bytes <= _CACHE_BYTES else None

    def __getitem__(self, position: int) -> dict:
        utt_id = self._utt_ids[self._permutation(position // len(self._utt_ids))[position % len(self._utt_ids)]]
        draw = np.random.default_rng((self._seed, self._stream, 1, position))
        clean, noisy = self._excerpt(utt_id, draw.random())
        gain = np.float32(10.0 ** (draw.uniform(*self._gain_db) / 20.0))
        padding = (0, self._length - len(clean))
        return {
            "noisy": torch.from_numpy(np.pad(noisy * gain, padding))[None],
            "clean": torch.from_numpy(np.pad(clean * gain, padding))[None],
            "utt_id": utt_id,
        }

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            order = np.random.default_rng((self._seed, self._stream, 0, epoch)).permutation(len(self._utt_ids))
            self._order = (epoch, order)
        return self._order[1]

    def _excerpt(self, utt_id: str, where: float) -> tuple[np.ndarray, np.ndarray]:
        """Clean and noisy samples of one excerpt, at most `length` each; where: 0 to 1, its place in the utterance."""
        paths = self._data.wav[utt_id], self._data.noisy[utt_id]
        if self._cache is None:
            frames = min(_frames(path, utt_id, self._sample_rate) for path in paths)
            start = int(where * (max(0, frames - self._length) + 1))
            stop = min(frames, start + self._length)
            return tuple(sf.read(path, start=start, stop=stop, dtype="float32")[0] for path in paths)
        if utt_id not in self._cache:
            for path in paths:
                _frames(path, utt_id, self._sample_rate)
            self._cache[utt_id] = tuple(sf.read(path, dtype="float32")[0] for path in paths)
        clean, noisy = self._cache[utt_id]
        start = int(where * (max(0, len(clean) - self._length) + 1))
        return clean[start : start + self._length], noisy[start : start + self._length]


class Batches:
    """A batch sampler: the positions of updates first, first + 1, ... last - 1, this process's share of each batch.

    batch_size counts the items of all processes together, so what an update sees does not depend on their number.
    """

    def __init__(self, first: int, last: int, *, batch_size: int, process: int = 0, processes: int = 1):
        if batch_size % processes:
            raise InputError(f"batch_size={batch_size} cannot be shared by {processes} processes: choose a multiple")
        self._updates, self._batch_size = range(first, last), batch_size
        share = batch_size // processes
        self._mine = range(process * share, (process + 1) * share)

    def __len__(self) -> int:
        return len(self._updates)

    def __iter__(self) -> Iterator[list[int]]:
        for update in self._updates:
            yield [update * self._batch_size + item for item in self._mine]


def _frames(path, utt_id: str, sample_rate: int) -> int:
    try:
        info = sf.info(path)
    except (sf.LibsndfileError, RuntimeError) as error:
        raise InputError(f"{path}: {utt_id}: cannot be read any more: run stages 0 and 1 again") from error
    if info.samplerate != sample_rate or info.channels != 1:
        raise InputError(
            f"{path}: {utt_id}: expected mono at {sample_rate} Hz, found {info.channels} at {info.samplerate}"
        )
    return info.frames
