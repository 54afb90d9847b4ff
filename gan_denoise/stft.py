"""The torch STFTs and their inverses, in real numbers: what generators, losses and discriminators
use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class STFT(nn.Module):
    """Unnormalised, centred STFT with zero padding and a periodic Hann window, and its inverse.
    Always in float32 or wider.

    n_fft, hop_length: samples, n_fft a multiple of hop_length. The signal is padded to a whole
    number of hops, so that its last samples are covered by as many frames as all others.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if n_fft % hop_length:
            raise ValueError(f"n_fft {n_fft} is not a multiple of hop_length {hop_length}")
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> real and imaginary part, (B, n_fft / 2 + 1, 1 + ceil(T / hop)) each."""
        wave = wave.to(torch.promote_types(wave.dtype, torch.float32))
        half = self.n_fft // 2
        wave = F.pad(wave, (half, half + -wave.shape[-1] % self.hop_length))
        real, imaginary = transform(wave, self.window.to(wave.dtype), self.hop_length)
        return real.transpose(1, 2), imaginary.transpose(1, 2)

    def inverse(self, real: Tensor, imaginary: Tensor, length: int) -> Tensor:
        """(B, n_fft / 2 + 1, N) twice -> (B, length), the inverse of `forward` for T = length."""
        window, half = self.window.to(real.dtype), self.n_fft // 2
        parts = real.transpose(1, 2), imaginary.transpose(1, 2)
        wave = _Synthesis.apply(*parts, window, self.hop_length)
        weight = overlap_add(window.square().expand(1, real.shape[-1], -1), self.hop_length)
        return wave[:, half : half + length] / weight[:, half : half + length]


def transform(wave: Tensor, window: Tensor, hop_length: int) -> tuple[Tensor, Tensor]:
    """DFT of all frames that lie within (B, T): real and imaginary parts, (B, N, n_fft / 2 + 1)
    each, n_fft the window's length and a multiple of hop_length.
    """
    real, imaginary = _Transform.apply(wave, window, hop_length)
    return real, imaginary


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Sum of frames (B, N, n_fft), each hop_length after the one before: (B, T)."""
    parts = frames.unflatten(-1, (-1, hop_length))
    batch, count, overlap, _ = parts.shape
    total = frames.new_zeros(batch, count + overlap - 1, hop_length)
    for index, part in enumerate(parts.unbind(dim=2)):
        total[:, index : index + count] += part
    return total.flatten(1)


class _Transform(torch.autograd.Function):
    """Frames, window and real DFT. torch's own derivative of the last is a complex transform of
    both halves of the spectrum; the adjoint of a real one is real, in half of the time.
    """

    @staticmethod
    def forward(ctx, wave: Tensor, window: Tensor, hop_length: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(window)
        ctx.hop_length, ctx.length = hop_length, wave.shape[-1]
        spectrum = torch.fft.rfft(wave.unfold(-1, len(window), hop_length) * window)
        return spectrum.real, spectrum.imag

    @staticmethod
    def backward(ctx, real: Tensor, imaginary: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        counts = _counts(window)
        wave = _Synthesis.apply(real * counts, imaginary * counts, window, ctx.hop_length)
        return F.pad(wave, (0, ctx.length - wave.shape[-1])), None, None


class _Synthesis(torch.autograd.Function):
    """Inverse DFT, window and overlap-add: (B, N, n_fft / 2 + 1) twice -> (B, T), to the end of the
    last frame.
    """

    @staticmethod
    def forward(ctx, real: Tensor, imaginary: Tensor, window: Tensor, hop_length: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop_length = hop_length
        frames = torch.fft.irfft(torch.complex(real, imaginary), len(window)) * window
        return overlap_add(frames, hop_length)

    @staticmethod
    def backward(ctx, wave: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (window,) = ctx.saved_tensors
        real, imaginary = _Transform.apply(wave, window, ctx.hop_length)
        counts = _counts(window)
        return real / counts, imaginary / counts, None, None


def _counts(window: Tensor) -> Tensor:
    """Per bin, by what the adjoint of a real DFT is more than its inverse: that divides by n_fft,
    and counts the bins between the first and the last for both halves.
    """
    counts = window.new_full((len(window) // 2 + 1,), len(window) / 2)
    counts[0] = counts[-1] = len(window)
    return counts


class ExportedSTFT(nn.Module):
    """An STFT as convolutions, float32, which any runtime knows: takes the place of `stft` in a
    model to be exported.
    """

    analysis: Tensor
    synthesis: Tensor
    weight: Tensor

    def __init__(self, stft: STFT):
        super().__init__()
        self.n_fft, self.hop_length, self.bins = stft.n_fft, stft.hop_length, stft.bins
        basis, inverse_basis = fourier_basis(stft.n_fft)
        window = torch.hann_window(stft.n_fft, dtype=torch.float64)
        self.register_buffer("analysis", (basis * window[:, None]).T[:, None].float())
        self.register_buffer("synthesis", (inverse_basis * window)[:, None].float())
        self.register_buffer("weight", window.square()[None, None].float())

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """As STFT.forward."""
        half = self.n_fft // 2
        wave = F.pad(wave, (half, half + -wave.shape[-1] % self.hop_length))
        both = F.conv1d(wave[:, None], self.analysis, stride=self.hop_length)
        return both[:, : self.bins], both[:, self.bins :]

    def inverse(self, real: Tensor, imaginary: Tensor, length: int) -> Tensor:
        """As STFT.inverse."""
        wave = F.conv_transpose1d(
            torch.cat([real, imaginary], dim=1), self.synthesis, stride=self.hop_length
        )
        weight = F.conv_transpose1d(
            torch.ones_like(real[:, :1]), self.weight, stride=self.hop_length
        )
        half = self.n_fft // 2
        return wave[:, 0, half : half + length] / weight[:, 0, half : half + length]


def fourier_basis(n_fft: int) -> tuple[Tensor, Tensor]:
    """The DFT of real signals as float64 matrices: (n_fft, 2 bins) to the real and then the
    imaginary parts; back (2 bins, n_fft).
    """
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    phase = 2.0 * torch.pi * torch.outer(torch.arange(n_fft, dtype=torch.float64), bins) / n_fft
    basis = torch.cat([phase.cos(), -phase.sin()], dim=1)
    both_sides = torch.where((bins == 0) | (2 * bins == n_fft), 1.0, 2.0).repeat(2) / n_fft
    return basis, (basis * both_sides).T


class StreamingSTFT(nn.Module):
    """The same transform for causal use: hop by hop, with what was heard so far as explicit state,
    and no complex numbers.

    The DFT is matrix products, which any exporter knows: of a frame's even part with cosines and of
    its odd part with sines, half as much to read and to multiply as with both for the whole frame.
    A frame is the last n_fft samples. `analyse` turns N new hops into N frames, `synthesise` N
    frames into N finished hops, which are n_fft - hop_length samples behind the input. Whatever the
    hop, the pair is the identity (weighted overlap-add). n_fft, hop_length: samples, n_fft a
    multiple of hop_length.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if n_fft % hop_length or n_fft < 2 * hop_length:
            raise ValueError(
                f"n_fft {n_fft} is not twice hop_length {hop_length}, or another multiple from"
                " there"
            )
        self.n_fft, self.hop_length, self.overlap = n_fft, hop_length, n_fft // hop_length - 1
        window = torch.hann_window(n_fft, dtype=torch.float64).sqrt()  # on the way in and out
        weight = window.square().view(-1, hop_length).sum(dim=0).repeat(self.overlap + 1)
        self._mirror = n_fft - n_fft // 2  # from where samples mirror earlier ones
        basis, inverse_basis = fourier_basis(n_fft)
        # Sample n mirrors sample n_fft - n, window included, which leaves nothing of sample 0
        analysis = (basis * window[:, None])[1 : n_fft // 2 + 1]
        if n_fft % 2 == 0:
            analysis[-1] /= 2  # whose mirror image is itself
        synthesis = (inverse_basis * (window / weight))[:, : n_fft // 2 + 1]
        analysis, synthesis = analysis.unflatten(1, (2, -1)), synthesis.unflatten(0, (2, -1))
        self.register_buffer("analysis", analysis.transpose(0, 1).float(), persistent=False)
        self.register_buffer("synthesis", synthesis.float(), persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def analyse(self, hops: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """hops (B, N, hop), past (B, overlap, hop) -> real and imaginary parts (B, 2, N, bins), and
        the new past.
        """
        hops = torch.cat([past, hops], dim=1)
        frames = torch.cat(successive(hops, self.overlap + 1, dim=1), dim=-1)[:, None]
        early, late = frames[..., 1 : self.bins], frames[..., self._mirror :].flip(-1)
        parts = (early + late) @ self.analysis[0], (early - late) @ self.analysis[1]
        return torch.cat(parts, dim=1), hops[:, -self.overlap :]

    def synthesise(self, spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, N, bins), tail (B, overlap, hop) of the frames before -> finished hops (B, N,
        hop), and the new tail.
        """
        even, odd = spectrum[:, :1] @ self.synthesis[0], spectrum[:, 1:] @ self.synthesis[1]
        frames = torch.cat([even + odd, (even - odd)[..., 1 : self._mirror].flip(-1)], dim=-1)
        parts = frames.squeeze(1).split(self.hop_length, dim=-1)
        summed = parts[-1]  # what the last parts of frames add comes latest
        after: list[Tensor] = []
        for part, before in zip(parts[-2::-1], reversed(tail.split(1, dim=1)), strict=True):
            late = torch.cat([before, summed], dim=1)
            summed, after = part + late[:, :-1], [late[:, -1:], *after]
        return summed, torch.cat(after, dim=1)


def successive(frames: Tensor, count: int, *, dim: int) -> list[Tensor]:
    """N + count - 1 frames along `dim` -> `count` views of N, each a frame after the one before."""
    return [
        # No sum of sizes: an exporter would make nodes of it
        frames[(slice(None),) * dim + (slice(shift, shift + 1 - count or None),)]
        for shift in range(count)
    ]
