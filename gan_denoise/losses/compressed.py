"""Squared error of magnitudes and of complex bins under power-law compression.

The loss is that of Braun and Tashev 2021, eq. 3. Each pair is divided by the clean signal's RMS
first, so that quiet items count as much as loud ones. The exponent makes a bin 20 dB down half as
large instead of a tenth, so that the noise left between words counts too.
"""

from __future__ import annotations

from torch import Tensor

from gan_denoise import contract
from gan_denoise.losses import reference_power
from gan_denoise.signal.rates import samples_at
from gan_denoise.signal.stft import STFT


class Loss(contract.Loss):
    """0 for equal signals.

    The windows last 32 ms at every rate. Bins are divided by the ratio of the window's length to
    that at 16 kHz, so that the same sound gives the same bins.
    """

    N_FFT = 512  # samples at 16 kHz, with hops of a quarter
    EXPONENT, COMPLEX_SHARE = 0.3, 0.3
    FLOOR = 1e-4  # power of a bin below which compression stops; the mean power is some 200

    def __init__(self, sample_rate: int = 16000):
        super().__init__()
        n_fft = samples_at(self.N_FFT, sample_rate, multiple=4)
        self.stft, self.longer = STFT(n_fft, n_fft // 4), n_fft / self.N_FFT

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return self.errors(enhanced, clean=clean, noisy=noisy)[0].mean()

    def errors(self, *waves: Tensor, clean: Tensor, noisy: Tensor) -> list[Tensor]:
        """The errors of each of the waves (B, 1, T), bin by bin: (B, N, F)."""
        scale = 1.0 / self.longer / (reference_power(clean, noisy).sqrt() + 1e-4)
        (target, target_parts), *pairs = (
            self._compress((wave * scale).flatten(0, 1)) for wave in (clean, *waves)
        )
        return [
            (1.0 - self.COMPLEX_SHARE) * (magnitude - target).square()
            + self.COMPLEX_SHARE * (parts - target_parts).square().sum(dim=1)
            for magnitude, parts in pairs
        ]

    def _compress(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> magnitudes (B, N, F) and parts (B, 2, N, F)."""
        spectrum = self.stft(wave)
        power = spectrum.square().sum(dim=1) + self.FLOOR
        parts = spectrum * power[:, None] ** ((self.EXPONENT - 1) / 2)
        return power ** (self.EXPONENT / 2), parts
