"""The one torch STFT and inverse: what generators use for an stft front and an istft head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class STFT(nn.Module):
    """Unnormalised, centred STFT with zero padding and a periodic Hann window, and its inverse. Always in float32 or wider.

    n_fft, hop_length: samples, n_fft a multiple of hop_length. The signal is padded to a whole number of hops, so that
    its last samples are covered by as many frames as all others.
    """

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if n_fft % hop_length:
            raise ValueError(f"n_fft {n_fft} is not a multiple of hop_length {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def forward(self, wave: Tensor) -> Tensor:
        """(B, T) real -> (B, n_fft / 2 + 1, 1 + ceil(T / hop)) complex."""
        wave = wave.to(torch.promote_types(wave.dtype, torch.float32))
        wave = F.pad(wave, (0, -wave.shape[-1] % self.hop_length))
        return torch.stft(
            wave,
            self.n_fft,
            self.hop_length,
            window=self.window.to(wave.dtype),
            pad_mode="constant",
            return_complex=True,
        )

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """(B, n_fft / 2 + 1, N) complex -> (B, length) real, the inverse of `forward` for T = length."""
        padded = (spectrum.shape[-1] - 1) * self.hop_length
        window = self.window.to(spectrum.real.dtype)
        return torch.istft(spectrum, self.n_fft, self.hop_length, window=window, length=max(padded, 1))[..., :length]
