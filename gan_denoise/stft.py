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


class StreamingSTFT(nn.Module):
    """The same transform for causal use: hop by hop, with what was heard so far as explicit state, and no complex numbers.

    The DFT is a matrix product, which any exporter knows; a frame is the last n_fft samples. `analyse` turns N new hops into N
    frames, `synthesise` N frames into N finished hops, which are n_fft - hop_length samples behind the input. Whatever the
    window, the pair is the identity (weighted overlap-add). n_fft, hop_length: samples, n_fft a multiple of hop_length.
    """

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if n_fft % hop_length or n_fft < 2 * hop_length:
            raise ValueError(f"n_fft {n_fft} is not twice hop_length {hop_length}, or another multiple from there")
        self.n_fft, self.hop_length, self.overlap = n_fft, hop_length, n_fft // hop_length - 1
        window = torch.hann_window(n_fft, dtype=torch.float64).sqrt()  # on the way in and out
        weight = window.square().view(-1, hop_length).sum(dim=0).repeat(self.overlap + 1)
        bins = torch.arange(self.bins, dtype=torch.float64)
        phase = 2.0 * torch.pi * torch.outer(torch.arange(n_fft, dtype=torch.float64), bins) / n_fft
        basis = torch.cat([phase.cos(), -phase.sin()], dim=1)  # (n_fft, 2 bins)
        both_sides = torch.where((bins == 0) | (2 * bins == n_fft), 1.0, 2.0).repeat(2) / n_fft
        self.register_buffer("analysis", (basis * window[:, None]).float(), persistent=False)
        self.register_buffer("synthesis", ((window / weight) * (basis * both_sides).T).float(), persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def analyse(self, hops: Tensor, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hops (B, N, hop), past (B, overlap, hop) -> real and imaginary part (B, N, bins) each, and the new past."""
        count, hops = hops.shape[1], torch.cat([past, hops], dim=1)
        frames = torch.cat([hops[:, shift : shift + count] for shift in range(self.overlap + 1)], dim=-1)
        real, imaginary = (frames @ self.analysis).chunk(2, dim=-1)
        return real, imaginary, hops[:, count:]

    def synthesise(self, real: Tensor, imaginary: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, bins) twice, tail (B, overlap, hop) of the frames before -> finished hops (B, N, hop), and the new tail."""
        frames = torch.cat([real, imaginary], dim=-1) @ self.synthesis
        parts = frames.unflatten(-1, (self.overlap + 1, self.hop_length)).unbind(dim=2)
        summed = F.pad(tail, (0, 0, 0, frames.shape[1]))
        for shift, part in enumerate(parts):
            summed = summed + F.pad(part, (0, 0, shift, self.overlap - shift))
        return summed[:, : frames.shape[1]], summed[:, frames.shape[1] :]
