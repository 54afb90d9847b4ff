"""The torch STFTs and their inverses, for generators, losses and discriminators.

A spectrum is real numbers of one layout, (B, 2, N, F): real and imaginary part, frames, bins.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class STFT(nn.Module):
    """Unnormalised, centred STFT with zero padding and a periodic Hann window, and its inverse.

    It computes in float32 or wider. n_fft, hop_length: samples, n_fft a multiple of hop_length. The
    signal is padded to a whole number of hops, so that its last samples are covered by as many
    frames as all others.
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

    def forward(self, wave: Tensor) -> Tensor:
        """(B, T) -> spectrum (B, 2, 1 + ceil(T / hop), n_fft / 2 + 1)."""
        wave = wave.to(torch.promote_types(wave.dtype, torch.float32))
        half = self.n_fft // 2
        wave = F.pad(wave, (half, half + -wave.shape[-1] % self.hop_length))
        return transform(wave, self.window.to(wave.dtype), self.hop_length)

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """(B, 2, N, n_fft / 2 + 1) -> (B, length), the inverse of `forward` for T = length."""
        window, half = self.window.to(spectrum.dtype), self.n_fft // 2
        wave = _Synthesis.apply(spectrum, window, self.hop_length)
        weight = overlap_add(window.square().expand(1, spectrum.shape[2], -1), self.hop_length)
        return wave[:, half : half + length] / weight[:, half : half + length]

    def exported(self) -> nn.Module:
        """The same transform without complex numbers, for a model to be exported."""
        return ExportedSTFT(self)


def transform(wave: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """DFT of all frames that lie within (B, T): (B, 2, N, n_fft / 2 + 1).

    n_fft is the window's length.
    """
    return _Transform.apply(wave, window, hop_length)


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Sum of frames (B, N, n_fft), each hop_length after the one before: (B, T).

    T is the first multiple of hop_length that holds them.
    """
    parts = frames.split(hop_length, dim=-1)
    batch, count, _ = frames.shape
    total = frames.new_zeros(batch, count + len(parts) - 1, hop_length)
    for index, part in enumerate(parts):
        total[:, index : index + count, : part.shape[-1]] += part
    return total.flatten(1)


class _Transform(torch.autograd.Function):
    """Frames, window and real DFT, with a real derivative.

    torch's derivative of the real DFT is a complex transform of both halves of the spectrum; the
    adjoint of a real DFT is real and takes half of the time.
    """

    @staticmethod
    def forward(ctx: Any, wave: Tensor, window: Tensor, hop_length: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop_length, ctx.length = hop_length, wave.shape[-1]
        spectrum = torch.fft.rfft(wave.unfold(-1, len(window), hop_length) * window)
        return torch.stack([spectrum.real, spectrum.imag], dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        wave = _Synthesis.apply(gradient * _counts(window), window, ctx.hop_length)
        return F.pad(wave, (0, ctx.length - wave.shape[-1])), None, None


class _Synthesis(torch.autograd.Function):
    """Inverse DFT, window and `overlap_add`: (B, 2, N, n_fft / 2 + 1) -> (B, T)."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, window: Tensor, hop_length: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop_length = hop_length
        frames = torch.fft.irfft(torch.complex(*spectrum.unbind(dim=1)), len(window)) * window
        return overlap_add(frames, hop_length)

    @staticmethod
    def backward(ctx: Any, wave: Tensor) -> tuple[Tensor, None, None]:
        (window,) = ctx.saved_tensors
        return _Transform.apply(wave, window, ctx.hop_length) / _counts(window), None, None


def _counts(window: Tensor) -> Tensor:
    """For each bin, the factor between the adjoint of the real DFT and its inverse.

    The inverse divides by n_fft and counts each bin for both halves of the spectrum, except the
    first bin and, for an even n_fft, the last.
    """
    counts = window.new_full((len(window) // 2 + 1,), len(window) / 2)
    counts[0] *= 2
    if len(window) % 2 == 0:
        counts[-1] *= 2
    return counts


class ExportedSTFT(nn.Module):
    """An STFT as convolutions in float32, which every runtime has.

    It takes the place of `stft` in a model to be exported.
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

    def forward(self, wave: Tensor) -> Tensor:
        """As STFT.forward."""
        half = self.n_fft // 2
        wave = F.pad(wave, (half, half + -wave.shape[-1] % self.hop_length))
        both = F.conv1d(wave[:, None], self.analysis, stride=self.hop_length)
        return both.unflatten(1, (2, self.bins)).transpose(2, 3)

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """As STFT.inverse."""
        both = spectrum.transpose(2, 3).flatten(1, 2)
        wave = F.conv_transpose1d(both, self.synthesis, stride=self.hop_length)
        weight = F.conv_transpose1d(
            torch.ones_like(both[:, :1]), self.weight, stride=self.hop_length
        )
        half = self.n_fft // 2
        return wave[:, 0, half : half + length] / weight[:, 0, half : half + length]


def fourier_basis(n_fft: int) -> tuple[Tensor, Tensor]:
    """The DFT of real signals as two float64 matrices, (n_fft, 2 bins) and its inverse.

    The first leads to the real and then the imaginary parts; the second, (2 bins, n_fft), leads
    back.
    """
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    phase = 2.0 * torch.pi * torch.outer(torch.arange(n_fft, dtype=torch.float64), bins) / n_fft
    basis = torch.cat([phase.cos(), -phase.sin()], dim=1)
    both_sides = torch.where((bins == 0) | (2 * bins == n_fft), 1.0, 2.0).repeat(2) / n_fft
    return basis, (basis * both_sides).T


class StreamingSTFT(nn.Module):
    """The STFT for causal use, hop by hop, with the samples so far as explicit state.

    A frame is the last n_fft samples. `analyse` turns N new hops into N frames, `synthesise` N
    frames into N finished hops, which are n_fft - hop_length samples behind the input. For every
    hop length the pair is the identity (weighted overlap-add). n_fft, hop_length: samples,
    hop_length the smaller. overlap: hops before the last that a frame reaches into, if only with
    its end.
    """

    windows: Tensor

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        if not 0 < hop_length < n_fft:
            raise ValueError(f"hop_length {hop_length} is not from 1 to below n_fft {n_fft}")
        self.n_fft, self.hop_length, self.overlap = n_fft, hop_length, (n_fft - 1) // hop_length
        self.unused = (self.overlap + 1) * hop_length - n_fft  # samples of hops before a frame
        window = torch.hann_window(n_fft, dtype=torch.float64).sqrt()  # for analysis and synthesis
        weight = overlap_add(window.square().view(1, 1, -1), hop_length).view(-1, hop_length)
        weight = weight.sum(dim=0).repeat(self.overlap + 1)[:n_fft]
        windows = torch.stack([window, window / weight]).float()
        self.register_buffer("windows", windows, persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def analyse(self, hops: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """hops (B, N, hop), past (B, overlap, hop) -> (B, 2, N, bins), and the new past."""
        hops = torch.cat([past, hops], dim=1)
        reached = hops.flatten(1)[:, self.unused :]
        return transform(reached, self.windows[0], self.hop_length), hops[:, -self.overlap :]

    def synthesise(self, spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, N, bins), and the tail of the frames before -> finished hops, and the new tail.

        The tail is (B, overlap, hop), the finished hops (B, N, hop).
        """
        wave = _Synthesis.apply(spectrum, self.windows[1], self.hop_length)
        hops = wave.unflatten(1, (-1, self.hop_length))
        hops = torch.cat([hops[:, : self.overlap] + tail, hops[:, self.overlap :]], dim=1)
        return hops[:, : -self.overlap], hops[:, -self.overlap :]

    def exported(self) -> nn.Module:
        """The same transform without complex numbers, for a model to be exported."""
        return ExportedStreamingSTFT(self)


class ExportedStreamingSTFT(nn.Module):
    """A StreamingSTFT as matrix products in float32, which every runtime has.

    It takes the place of `stft` in a model to be exported. All pieces of a frame use one matrix,
    the DFT of a piece at the frame's start; for a later piece each bin is turned by a phase (the
    shift theorem). A CPU that computes one frame at a time waits for memory, and so it reads only a
    quarter of a whole frame's matrix.
    """

    windows: Tensor
    analysis: Tensor
    synthesis: Tensor
    turn: Tensor

    def __init__(self, stft: StreamingSTFT):
        super().__init__()
        self.n_fft, self.hop_length, self.overlap = stft.n_fft, stft.hop_length, stft.overlap
        self.unused, self.bins, self.pieces = stft.unused, stft.bins, math.gcd(stft.n_fft, 4)
        length = stft.n_fft // self.pieces
        basis, inverse_basis = fourier_basis(stft.n_fft)
        cosine, minus_sine = basis[::length].unflatten(1, (2, -1)).unbind(dim=1)
        # Factors (2, 1, 2 pieces, bins): to real and imaginary part, from both parts of each piece
        rows = torch.stack([cosine, -minus_sine], dim=1), torch.stack([minus_sine, cosine], dim=1)
        turn = torch.stack(rows).flatten(1, 2)[:, None]
        self.register_buffer("windows", stft.windows)
        self.register_buffer("analysis", basis[:length].float())
        self.register_buffer("synthesis", inverse_basis[:, :length].float())
        self.register_buffer("turn", turn.float())

    def analyse(self, hops: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """As StreamingSTFT.analyse."""
        hops = torch.cat([past, hops], dim=1)
        first, *rest = successive(hops, self.overlap + 1, dim=1)
        frames = torch.cat([first[..., self.unused :], *rest], dim=-1) * self.windows[0]
        pieces = frames.unflatten(-1, (self.pieces, -1)) @ self.analysis
        pieces = pieces.view(pieces.shape[0], 1, -1, 2 * self.pieces, self.bins)
        return (pieces * self.turn).sum(dim=3), hops[:, -self.overlap :]

    def synthesise(self, spectrum: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """As StreamingSTFT.synthesise."""
        pieces = (spectrum[:, :, :, None] * self.turn).sum(dim=1)  # (B, N, 2 pieces, bins)
        pieces = pieces.view(*pieces.shape[:2], self.pieces, -1) @ self.synthesis
        frames = F.pad(pieces.flatten(2) * self.windows[1], (0, self.unused))
        parts = frames.split(self.hop_length, dim=-1)
        summed = parts[-1]  # the last part of a frame lies latest in time
        after: list[Tensor] = []
        for index in range(self.overlap - 1, -1, -1):
            late = torch.cat([tail[:, index : index + 1], summed], dim=1)
            summed, after = parts[index] + late[:, :-1], [late[:, -1:], *after]
        return summed, torch.cat(after, dim=1)


def successive(frames: Tensor, count: int, *, dim: int) -> list[Tensor]:
    """N + count - 1 frames along `dim` -> `count` views of N, each a frame after the one before."""
    return [
        # The end is not computed from the size: an exporter would make graph nodes of that
        frames[(slice(None),) * dim + (slice(shift, shift + 1 - count or None),)]
        for shift in range(count)
    ]
