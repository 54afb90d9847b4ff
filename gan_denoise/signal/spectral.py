"""The common part of spectral generators: an STFT, a network over time, a mask, the inverse STFT.

Frequency bins are channels and time is the axis, as in Vocos (Siuzdak 2023). Spectra are (B, 2, N,
F), as in stft.py. A mask in [0, 1] cannot bring back a bin that was zeroed, hence an unbounded
complex mask plus a residual. The input is divided by its own local level, so a gain on the input is
the same gain on the output, by construction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.contract import Generator
from gan_denoise.signal.stft import STFT

_LOUDER = 1.5  # ratio of the level of loud frames to that of all, in the median of noisy speech


class SpectralGenerator(Generator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced, by a subclass's `body`.

    sample_rate: Hz. width: channels of the body's output. context: frames each side that the body
    reaches. grid: a signal may be cut at multiples of so many frames. window_ms, hop_ms: of the
    STFT. level_ms: each side, over which the local level is taken.
    """

    def __init__(
        self,
        sample_rate: int,
        width: int,
        *,
        context: int,
        grid: int = 1,
        window_ms: float,
        hop_ms: float,
        level_ms: float,
    ):
        super().__init__()
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = STFT(hop_length * round(window_ms / hop_ms), hop_length)
        self.level_frames = round(level_ms / hop_ms)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4 * self.stft.bins)
        start_at_the_identity(self.head)
        self.hop_length = grid * hop_length
        self.receptive_field = (self.level_frames + context) * hop_length + self.stft.n_fft

    def body(self, features: Tensor) -> Tensor:
        """The network over time: features (B, N, 3 bins) -> (B, N, width)."""
        raise NotImplementedError

    def forward(self, noisy: Tensor) -> Tensor:
        spectrum = self.stft(noisy[:, 0])
        level = local_level(spectrum, self.level_frames)
        spectrum, features = compressed(spectrum, level)
        hidden = self.norm(self.body(features))
        # Without autocast: eight bits of mantissa would be audible
        with torch.autocast(hidden.device.type, enabled=False):
            out = self.head(hidden.to(self.head.weight.dtype))
        return self.stft.inverse(masked(spectrum, out, level), noisy.shape[-1])[:, None]


def local_level(spectrum: Tensor, reach: int) -> Tensor:
    """(B, 2, N, F) -> (B, 1, N, 1): RMS magnitude over `reach` frames each side."""
    power = spectrum.square().sum(dim=1, keepdim=True).mean(dim=-1)
    mean = F.avg_pool1d(power, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    return mean.sqrt()[..., None]


def start_at_the_identity(head: nn.Linear) -> None:
    """Set a head's first weights so that `masked` changes nearly nothing.

    The mask is nearly 1 + 0i and the residual nearly 0.
    """
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.zero_()


def compressed(spectrum: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """A spectrum divided by its level (B, 1, N, 1), and the features (B, N, 3 F) made from it.

    The features are magnitude, real and imaginary part under power-law compression (exponent 0.3),
    which brings quiet bins into a range that a network sees.
    """
    spectrum = spectrum * (1.0 / level.clamp_min(1e-7))
    magnitude = spectrum.square().sum(dim=1, keepdim=True).clamp_min(1e-10).sqrt()
    features = torch.cat([magnitude, spectrum], dim=1) * magnitude.pow(-0.7)
    return spectrum, features.transpose(1, 2).flatten(2)


def masked(spectrum: Tensor, out: Tensor, level: Tensor) -> Tensor:
    """Apply a head's output (B, N, 4 F) to the spectrum that `compressed` returned.

    The result is the complex product with the mask plus the residual, at the original level.
    """
    real, imaginary = spectrum.unbind(dim=1)
    mask_real, mask_imag, *residual = out.chunk(4, dim=-1)
    mask_real = 1.0 + mask_real
    product = (
        mask_real * real - mask_imag * imaginary,
        mask_real * imaginary + mask_imag * real,
    )
    # The level comes last, so that silence stays silence
    return (torch.stack(product, dim=1) + torch.stack(residual, dim=1)) * level


def drop_channels(hidden: Tensor, share: float, *, dim: int) -> Tensor:
    """Dropout of whole channels: one draw for all places along `dim`, which is time."""
    return hidden * F.dropout(torch.ones_like(hidden.narrow(dim, 0, 1)), share)


def recent_level(spectrum: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
    """The causal level: RMS magnitude over the last frames, as many as `heard` holds and one more.

    spectrum: (B, 2, N, F). heard: (B, 2, frames - 1, 1), the power of the frames before, and the
    number of bins in that sum, 0 where there was no frame. Returns the level (B, 1, N, 1), and
    `heard` for the next frames.
    """
    frames = heard.shape[2] + 1
    power = spectrum.square().sum(dim=(1, 3), keepdim=True)
    now = F.pad(power, (0, 0, 0, 0, 0, 1), value=spectrum.shape[-1])
    both = torch.cat([heard, now], dim=2)
    total, bins = F.avg_pool2d(both, (frames, 1), stride=1).split(1, dim=1)
    return (total / bins).sqrt(), both[:, :, 1 - frames :] if frames > 1 else heard


def loud_level(spectrum: Tensor, heard: Tensor, lowest: int) -> tuple[Tensor, Tensor]:
    """The causal level of loud frames, for which neither silence nor rumble counts.

    It is the RMS magnitude of the bins from `lowest` on, over the last frames, each weighted by its
    power. spectrum, heard and the results are as in `recent_level`, but `heard` holds the squares
    of these frames' powers, and the powers.
    """
    frames = heard.shape[2] + 1
    power = spectrum[..., lowest:].square().sum(dim=1, keepdim=True).mean(dim=-1, keepdim=True)
    both = torch.cat([heard, torch.cat([power.square(), power], dim=1)], dim=2)
    squares, powers = F.avg_pool2d(both, (frames, 1), stride=1).split(1, dim=1)
    return (squares / powers.clamp_min(1e-30)).sqrt() / _LOUDER, both[:, :, 1 - frames :]
