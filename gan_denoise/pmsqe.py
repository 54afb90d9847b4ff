"""A differentiable relative of PESQ: the perceptual disturbance of P.862 frame by frame (PMSQE,
Martin-Donas et al. 2018).

Power spectra are summed to Bark bands, equalised as P.862 does (what a listener forgives: a filter,
slow changes of gain), turned into loudness, and compared; what was added weighs more than what is
missing. Unlike P.862: no time alignment, a Bark scale and a hearing threshold by formulas
(Traunmueller 1990, Terhardt 1979) instead of tables, and a mean over frames instead of norms over
syllables.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.stft import STFT

# Of P.862 at 16 kHz, where signals have a mean square of 1e7 between 325 and 3250 Hz
_TARGET_POWER, _POWER_SCALE, _LOUDNESS_SCALE = 1e7, 6.910853e-4, 0.1866055
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309  # weights in the MOS
_LOUDEST = 45.0  # disturbance of a frame


class PerceptualDisturbance(nn.Module):
    """Waveforms (B, 1, T) at 16 kHz -> mean disturbance; 0 for equal signals, about 4.5 minus the
    raw PESQ MOS otherwise.
    """

    BANDS = 49

    def __init__(self):
        super().__init__()
        self.stft = STFT(512, 256)
        hz = torch.linspace(0.0, 8000.0, self.stft.bins)
        bark = 26.81 * hz / (1960.0 + hz) - 0.53
        edges = torch.linspace(float(bark[1]), float(bark[-1]) + 1e-4, self.BANDS + 1)
        # A bin counts for the bands that its width overlaps
        low, high = bark - F.pad(bark.diff(), (1, 0)) / 2, bark + F.pad(bark.diff(), (0, 1)) / 2
        overlap = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
        self.to_bark = overlap.clamp_min(0.0) / (high - low)[:, None].clamp_min(1e-6)  # (F, bands)
        self.width = float(edges[1] - edges[0])
        centre = (edges[1:] + edges[:-1]) / 2
        khz = 1.96 * (centre + 0.53) / (26.28 - centre)
        quiet_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
        self.threshold = 10.0 ** (quiet_db / 10.0)
        self.exponent = 0.23 * (6.0 / (centre.clamp(max=4.0) + 2.0)).clamp(1.0, 2.0) ** 0.15
        self.speech = (hz >= 325.0) & (hz <= 3250.0)

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(clean.device))
        self.stft.to(clean.device)
        reference, degraded = self._bands(clean), self._bands(enhanced)
        audible = [
            (bands * (bands > 100.0 * self.threshold)).mean(dim=1, keepdim=True)
            for bands in (degraded, reference)
        ]
        reference = reference * ((audible[0] + 1e3) / (audible[1] + 1e3)).clamp(1e-2, 1e2)
        total, of_degraded = self._audible(reference), self._audible(degraded)
        gain = (total + 5e3) / (of_degraded + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], dim=1).clamp(
            3e-4, 5.0
        )
        degraded = degraded * gain
        loudness, target = self._loudness(degraded), self._loudness(reference)
        difference = loudness - target
        masked = 0.25 * torch.minimum(loudness, target)
        difference = (difference.abs() - masked).clamp_min(0.0)
        added = ((degraded + 50.0) / (reference + 50.0)) ** 1.2
        added = torch.where(added < 3.0, torch.zeros_like(added), added.clamp_max(12.0))
        norm = self.width * self.BANDS
        squares = (difference * self.width).square().mean(dim=-1) / self.width
        symmetric = (squares + 1e-10).sqrt() * norm
        asymmetric = (difference * added).mean(dim=-1) * norm
        weight = ((total[..., 0] + 1e5) / 1e7) ** -0.04
        frames = _SYMMETRIC * (symmetric * weight).clamp_max(_LOUDEST) + _ASYMMETRIC * (
            asymmetric * weight
        ).clamp_max(_LOUDEST)
        heard = clean.square().mean(dim=-1) > 1e-10  # silence has no level to be aligned
        return (frames * heard).mean()

    def _bands(self, wave: Tensor) -> Tensor:
        """(B, 1, T) -> powers (B, N, bands), after level alignment."""
        real, imaginary = self.stft(wave.flatten(0, 1))
        power = (real.square() + imaginary.square()).transpose(1, 2)
        energy = self.stft.window.square().sum()
        level = 2.0 * power[..., self.speech].sum(dim=-1).mean(dim=-1) / (self.stft.n_fft * energy)
        scale = _TARGET_POWER / level.clamp_min(1e-12)
        return _POWER_SCALE * scale[:, None, None] * (power @ self.to_bark)

    def _audible(self, bands: Tensor) -> Tensor:
        """(B, N, bands) -> (B, N, 1): what is above the threshold of hearing."""
        return (bands * (bands > self.threshold)).sum(dim=-1, keepdim=True)

    def _loudness(self, bands: Tensor) -> Tensor:
        """Zwicker's law: (B, N, bands) -> sone per Bark."""
        ratio = (0.5 + 0.5 * bands / self.threshold).clamp_min(1.0)
        scale = _LOUDNESS_SCALE * (self.threshold / 0.5) ** self.exponent
        return scale * (ratio**self.exponent - 1.0)
