"""Spectral convergence plus L1 of log magnitudes at three resolutions, by auraloss.

The losses are those of Yamamoto et al. 2020, eqs. 4 to 6. auraloss's spectral convergence is
replaced: it is one ratio for the whole batch, in which loud items hide quiet ones, which differs
from one process to two, and which has no bound when the target is silent. Here it is the mean of
ratios per item. A floor of FLOOR_DB below full scale is under every magnitude, and the phase, which
has no weight, is not computed (a sixth of the time). The windows last 32, 64 and 128 ms at every
rate.
"""

from __future__ import annotations

from functools import partial

from auraloss.freq import MultiResolutionSTFTLoss, STFTLoss
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.signal.rates import samples_at
from gan_denoise.signal.stft import transform

_EPSILON = 1e-8


class Loss(contract.Loss):
    """0 for equal signals; the mean over the resolutions of the two terms, which weigh alike."""

    FLOOR_DB = -80.0  # relative to a signal whose RMS is 1
    WINDOWS = (512, 1024, 2048)  # samples at 16 kHz, with hops of a quarter

    def __init__(self, sample_rate: int = 16000):
        super().__init__()
        windows = [samples_at(window, sample_rate, multiple=4) for window in self.WINDOWS]
        self.longest = windows[-1]  # a shorter signal is followed by zeros
        self.resolutions = MultiResolutionSTFTLoss(
            fft_sizes=windows,
            hop_sizes=[window // 4 for window in windows],
            win_lengths=windows,
        )
        for resolution in self.resolutions.stft_losses:
            window = resolution.window
            del resolution.window
            resolution.register_buffer("window", window, persistent=False)
            # A magnitude's mean square is that of the samples times the window's energy
            floor = 10.0 ** (self.FLOOR_DB / 10.0) * float(window.square().sum())
            resolution.eps = floor
            resolution.spectralconv = SpectralConvergence()
            resolution.stft = partial(_magnitude, resolution)

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        missing = max(0, self.longest - clean.shape[-1])
        return self.resolutions(F.pad(enhanced, (0, missing)), F.pad(clean, (0, missing)))


def _magnitude(resolution: STFTLoss, wave: Tensor) -> tuple[Tensor, None]:
    """auraloss's STFTLoss.stft without its phase: (B, T) -> (B, N, n_fft / 2 + 1)."""
    half = resolution.fft_size // 2
    wave = F.pad(wave, (half, half), mode="reflect")
    spectrum = transform(wave, resolution.window.to(wave.dtype), resolution.hop_size)
    power = spectrum.square().sum(dim=1)
    return power.clamp_min(resolution.eps).sqrt(), None


class SpectralConvergence(nn.Module):
    """|| |Y| - |X| || / || |Y| || in the Frobenius norm, per item, mean over items.

    Magnitudes (B, N, F) twice, clamped above 0.
    """

    def forward(self, magnitude: Tensor, target: Tensor) -> Tensor:
        squares = (target - magnitude).square().sum(dim=(-2, -1))
        # The root has no slope at 0, where a prediction is perfect (two silent items)
        distance = (squares + _EPSILON).sqrt() - _EPSILON**0.5
        return (distance / target.square().sum(dim=(-2, -1)).sqrt()).mean()
