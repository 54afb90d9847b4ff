"""A differentiable relative of PESQ (PMSQE, Martin-Donas et al. 2018).

It is the perceptual disturbance of ITU-T P.862, frame by frame. Power spectra are summed to Bark
bands, equalised as in P.862 (a filter and slow changes of gain do not count), turned into loudness,
and compared; added sound weighs more than missing sound. Unlike P.862: no time alignment, a Bark
scale and a hearing threshold by formulas (Traunmueller 1990, Terhardt 1979) instead of tables, and
a mean over frames instead of norms over syllables.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.signal.rates import BASE_HZ, samples_at
from gan_denoise.signal.stft import STFT

# The figures are those of ITU-T P.862 (02/2001), section 10.2, and of its reference code at 16 kHz.
# Powers are on its scale, on which every signal has a mean square of 1e7 between 325 and 3250 Hz.
_TARGET_POWER, _POWER_SCALE, _LOUDNESS_SCALE = 1e7, 6.910853e-4, 0.1866055
# Compensation of the transfer function: by 20 dB at most, from bands 20 dB above the threshold
_WELL_ABOVE, _BAND_FLOOR, _BAND_GAIN = 100.0, 1e3, (1e-2, 1e2)
# Compensation of varying gain: smoothed with the frame before
_FRAME_FLOOR, _FRAME_GAIN, _BEFORE, _NOW = 5e3, (3e-4, 5.0), 0.2, 0.8
# The dead zone of the disturbance density, a share of the softer loudness
_DEAD_ZONE = 0.25
# The asymmetry factor, a power of the ratio of powers: 0 below the first bound, cut at the second
_ASYMMETRY_FLOOR, _ASYMMETRY_POWER, _ASYMMETRY = 50.0, 1.2, (3.0, 12.0)
# Louder frames weigh less, and the disturbance of a frame is at most 45
_LOUDER, _LOUDER_SCALE, _LOUDER_POWER, _LOUDEST = 1e5, 1e7, 0.04, 45.0
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309  # weights in the MOS


class Loss(contract.Loss):
    """Mean disturbance below 8 kHz: 0 for equal signals, else about 4.5 less the raw PESQ.

    The windows last 32 ms at every rate. A rate below 16 kHz is refused.
    """

    BANDS, N_FFT, HIGHEST_HZ = 49, 512, 8000  # N_FFT: samples at 16 kHz
    to_bark: Tensor
    threshold: Tensor
    exponent: Tensor
    speech: Tensor

    def __init__(self, sample_rate: int = 16000):
        super().__init__()
        if sample_rate < BASE_HZ:
            raise ValueError(f"needs at least {BASE_HZ} Hz, this is {sample_rate} Hz")
        n_fft = samples_at(self.N_FFT, sample_rate, multiple=2)
        self.stft, self.longer = STFT(n_fft, n_fft // 2), n_fft / self.N_FFT
        self.bins = self.HIGHEST_HZ * n_fft // sample_rate + 1
        hz = torch.linspace(0.0, (self.bins - 1) * sample_rate / n_fft, self.bins)
        bark = 26.81 * hz / (1960.0 + hz) - 0.53
        edges = torch.linspace(float(bark[1]), float(bark[-1]) + 1e-4, self.BANDS + 1)
        # A bin counts for the bands that its width overlaps
        low, high = bark - F.pad(bark.diff(), (1, 0)) / 2, bark + F.pad(bark.diff(), (0, 1)) / 2
        overlap = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
        to_bark = overlap.clamp_min(0.0) / (high - low)[:, None].clamp_min(1e-6)  # (F, bands)
        self.width = float(edges[1] - edges[0])
        centre = (edges[1:] + edges[:-1]) / 2
        khz = 1.96 * (centre + 0.53) / (26.28 - centre)
        quiet_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
        exponent = 0.23 * (6.0 / (centre.clamp(max=4.0) + 2.0)).clamp(1.0, 2.0) ** 0.15
        for name, constant in {
            "to_bark": to_bark,
            "threshold": 10.0 ** (quiet_db / 10.0),
            "exponent": exponent,
            "speech": (hz >= 325.0) & (hz <= 3250.0),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        reference, degraded = self._bands(clean), self._bands(enhanced)
        audible = [
            (bands * (bands > _WELL_ABOVE * self.threshold)).mean(dim=1, keepdim=True)
            for bands in (degraded, reference)
        ]
        # A filter does not count: the reference gets the spectrum of the degraded signal ...
        transfer = (audible[0] + _BAND_FLOOR) / (audible[1] + _BAND_FLOOR)
        reference = reference * transfer.clamp(*_BAND_GAIN)
        # ... nor do slow changes of gain: the degraded signal gets the reference's level
        total, of_degraded = self._audible(reference), self._audible(degraded)
        gain = (total + _FRAME_FLOOR) / (of_degraded + _FRAME_FLOOR)
        smooth = _NOW * gain[:, 1:] + _BEFORE * gain[:, :-1]
        degraded = degraded * torch.cat([gain[:, :1], smooth], dim=1).clamp(*_FRAME_GAIN)
        # A difference that is small beside the loudness is masked
        loudness, target = self._loudness(degraded), self._loudness(reference)
        difference = loudness - target
        masked = _DEAD_ZONE * torch.minimum(loudness, target)
        difference = (difference.abs() - masked).clamp_min(0.0)
        # A listener hears added sound as a separate sound, but not missing sound
        added = (degraded + _ASYMMETRY_FLOOR) / (reference + _ASYMMETRY_FLOOR)
        added, (least, most) = added**_ASYMMETRY_POWER, _ASYMMETRY
        added = torch.where(added < least, torch.zeros_like(added), added.clamp_max(most))
        # Norms over the bands: L2 for the symmetric disturbance, L1 for the asymmetric one
        norm = self.width * self.BANDS
        squares = (difference * self.width).square().mean(dim=-1) / self.width
        symmetric = (squares + 1e-10).sqrt() * norm
        asymmetric = (difference * added).mean(dim=-1) * norm
        weight = ((total[..., 0] + _LOUDER) / _LOUDER_SCALE) ** -_LOUDER_POWER
        frames = _SYMMETRIC * (symmetric * weight).clamp_max(_LOUDEST) + _ASYMMETRIC * (
            asymmetric * weight
        ).clamp_max(_LOUDEST)
        sounding = clean.square().mean(dim=-1) > 1e-10  # silence has no level to be aligned
        return (frames * sounding).mean()

    def _bands(self, wave: Tensor) -> Tensor:
        """(B, 1, T) -> powers (B, N, bands), after level alignment."""
        power = self.stft(wave.flatten(0, 1))[..., : self.bins].square().sum(dim=1)
        energy = self.stft.window.square().sum()
        level = 2.0 * power[..., self.speech].sum(dim=-1).mean(dim=-1) / (self.stft.n_fft * energy)
        scale = _TARGET_POWER / level.clamp_min(1e-12)
        scale = _POWER_SCALE / self.longer**2 * scale
        return scale[:, None, None] * (power @ self.to_bark)

    def _audible(self, bands: Tensor) -> Tensor:
        """(B, N, bands) -> (B, N, 1): the power above the threshold of hearing."""
        return (bands * (bands > self.threshold)).sum(dim=-1, keepdim=True)

    def _loudness(self, bands: Tensor) -> Tensor:
        """Zwicker's law: powers (B, N, bands) -> loudness (B, N, bands) in sone per Bark."""
        ratio = (0.5 + 0.5 * bands / self.threshold).clamp_min(1.0)
        scale = _LOUDNESS_SCALE * (self.threshold / 0.5) ** self.exponent
        return scale * (ratio**self.exponent - 1.0)
