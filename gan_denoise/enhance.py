"""Denoise signals and files with a trained model, whatever their length, rate and number of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan_denoise import audio
from gan_denoise.checkpoint import load_model
from gan_denoise.errors import InputError

_CHUNK_S = 30.0


class Denoiser:
    """A generator with the sample rate it was trained at. `denoiser(wave, sample_rate)` returns the enhanced wave."""

    def __init__(self, generator: nn.Module, sample_rate: int, *, device: str | torch.device = "cpu"):
        self.generator, self.sample_rate, self.device = generator.to(device).eval(), sample_rate, torch.device(device)

    @classmethod
    def load(cls, model_dir: str | Path, *, device: str = "cpu") -> Denoiser:
        """Load a model directory. Raises InputError when it is none, or when there is no such device."""
        generator, config = load_model(model_dir)
        try:
            return cls(generator, config["sample_rate"], device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device}: not available here ({str(error).splitlines()[0]})") from error

    def __call__(self, wave: np.ndarray, sample_rate: int) -> np.ndarray:
        """(T,) or (T, channels) float samples at `sample_rate` Hz -> float32 of the same shape, aligned and as loud.

        Other rates than the model's are resampled to it and back, so what lies above half the lower rate is lost.
        Channels are enhanced one by one. Raises InputError for an empty or non-finite wave, and for a model that makes one.
        """
        wave = np.asarray(wave, dtype=np.float32)
        if wave.ndim not in (1, 2) or wave.size == 0:
            raise InputError(f"expected samples of shape (T,) or (T, channels) with T >= 1, found {wave.shape}")
        if not np.isfinite(wave).all():
            raise InputError("the wave holds NaN or infinite samples")
        if wave.ndim == 2:
            return np.stack([self(channel, sample_rate) for channel in wave.T], axis=1)
        enhanced = self._in_chunks(audio.resample(wave, sample_rate, self.sample_rate))
        if not np.isfinite(enhanced).all():
            raise InputError("the model's output is not finite: train it again, with a lower learning rate")
        enhanced = audio.resample(enhanced, self.sample_rate, sample_rate)[: len(wave)]
        return np.pad(enhanced, (0, len(wave) - len(enhanced)))

    @torch.inference_mode()
    def _in_chunks(self, wave: np.ndarray) -> np.ndarray:
        """(T,) -> (T,), chunk by chunk with the generator's receptive field as context: equal to the whole at once."""
        grid = self.generator.hop_length  # a chunk must start where a frame of the whole starts
        context = -(-self.generator.receptive_field // grid) * grid
        step = max(grid, round(_CHUNK_S * self.sample_rate) // grid * grid)
        enhanced, dtype = np.empty_like(wave), next(self.generator.parameters()).dtype
        for start in range(0, len(wave), step):
            first = max(0, start - context)
            chunk = torch.from_numpy(wave[first : start + step + context]).to(self.device, dtype)
            out = self.generator(chunk[None, None])[0, 0].float().cpu().numpy()
            enhanced[start : start + step] = out[start - first : start - first + step]
        return enhanced


def enhance_file(denoiser: Denoiser, source: Path, target: Path, *, mix: float = 1.0) -> None:
    """Enhance one file into a WAV file of the same rate, length and channels. mix: 1 enhanced only, 0 input only.

    Raises InputError for bad input, OSError where the target cannot be written.
    """
    wave, sample_rate = audio.read(source)
    enhanced = denoiser(wave, sample_rate)
    audio.write_wav(target, mix * enhanced + (1.0 - mix) * wave, sample_rate)
