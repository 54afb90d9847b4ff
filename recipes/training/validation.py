"""Validation during training: dev scores, and dev examples for TensorBoard to play and show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gan_denoise import audio, scoring
from gan_denoise.contract import Generator
from gan_denoise.datadir import DataDir
from gan_denoise.enhance import Denoiser
from gan_denoise.metrics import lead_metric
from gan_denoise.signal.numpy_stft import spectrogram_db
from gan_denoise.system.terminal import say
from training.board import Board


def dev_metrics(sample_rate: int) -> tuple[str, ...]:
    """The metrics of dev utterances; the first one decides which model is the best."""
    return (lead_metric(sample_rate), "estoi", "si_sdr")


class Validation:
    """Scores a generator on up to `count` dev utterances, evenly spread.

    folder: where the enhanced utterances are written, anew at each call. jobs: scoring processes.
    """

    def __init__(
        self, data: DataDir, folder: Path, *, count: int, examples: int, sample_rate: int, jobs: int
    ):
        self._utt_ids = data.spread(count)
        self._examples = self._utt_ids[:: max(1, len(self._utt_ids) // max(examples, 1))][:examples]
        self._data, self._folder, self._sample_rate, self._jobs = data, folder, sample_rate, jobs
        self._metrics = dev_metrics(sample_rate)
        self.decisive = self._metrics[0]

    def __call__(self, generator: Generator, device: torch.device) -> dict[str, float]:
        """The mean of each metric over the utterances that have a value.

        A metric without a single value is left out; missing values are reported in a printed line.
        The generator is left in evaluation mode.
        """
        denoiser = Denoiser(generator, self._sample_rate, device=device)
        pairs = []
        for utt_id in self._utt_ids:
            noisy, sample_rate = audio.read_mono(self._data.noisy[utt_id])
            enhanced = denoiser(noisy, sample_rate)
            audio.write_wav(self._folder / f"{utt_id}.wav", enhanced, sample_rate)
            pairs.append(
                scoring.Pair(utt_id, self._data.wav[utt_id], self._folder / f"{utt_id}.wav")
            )
        rows = list(scoring.score(pairs, jobs=self._jobs, metrics=self._metrics))
        values = {
            name: [row[name] for row in rows if row[name] is not None] for name in self._metrics
        }
        for name, scores in values.items():
            if len(scores) < len(rows):
                reason = next(row[f"{name}_reason"] for row in rows if row[name] is None)
                say(
                    f"dev: {len(rows) - len(scores)} of {len(rows)} utterances have no {name}, the"
                    f" first: {reason}"
                )
        return {name: float(np.mean(scores)) for name, scores in values.items() if scores}

    def show(self, board: Board, step: int, *, originals: bool) -> None:
        """Write audio and spectrograms of the examples, as last enhanced.

        originals: whether to write the clean and the noisy versions too.
        """
        for utt_id in self._examples:
            paths = {"enhanced": self._folder / f"{utt_id}.wav"}
            if originals:
                paths |= {"clean": self._data.wav[utt_id], "noisy": self._data.noisy[utt_id]}
            for kind, path in paths.items():
                wave, sample_rate = audio.read_mono(path)
                level_db = spectrogram_db(wave, sample_rate)[::-1]
                picture = np.clip((level_db - level_db.max()) / 80.0 + 1.0, 0.0, 1.0)
                board.audio(f"{utt_id}/{kind}", wave[None], step, sample_rate)
                board.image(f"{utt_id}/{kind}", picture[None], step)
