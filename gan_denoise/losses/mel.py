"""L1 of log-mel spectra at several resolutions, by torchaudio.

This is HiFi-GAN's reconstruction loss (Kong et al. 2020, eq. 4) at the scales of
descript-audio-codec (Kumar et al. 2023, section 3.4). Deviation: each pair is divided by the clean
signal's RMS first, as for `compressed`, so that a quiet item counts as much as a loud one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.audio import torchaudio
from gan_denoise.losses import reference_power
from gan_denoise.signal.rates import samples_at

_FLOOR = 1e-5  # lowest magnitude, as in HiFi-GAN


class Loss(contract.Loss):
    """0 for equal signals; the mean over resolutions of the mean absolute difference of logarithms.

    windows: samples, with hops of a quarter (2 to 128 ms, which are 32 to 2048 samples at 16 kHz).
    bands: mel bands for each window, from 0 Hz to half the rate. Where the windows last as long as
    those at 16 kHz, bins are divided by the ratio of their lengths, so that the same sound gives
    the same bins.
    """

    WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)  # samples at 16 kHz

    def __init__(
        self,
        sample_rate: int = 16000,
        windows: Sequence[int] | None = None,
        bands: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
    ):
        super().__init__()
        at_16_khz = windows or self.WINDOWS
        windows = windows or [samples_at(window, sample_rate) for window in self.WINDOWS]
        if len(windows) != len(bands):
            raise ValueError(f"there are {len(windows)} windows, and bands for {len(bands)}")
        self.longer = [window / base for window, base in zip(windows, at_16_khz, strict=True)]
        torchaudio()
        from torchaudio.transforms import MelSpectrogram

        self.spectra = nn.ModuleList(
            MelSpectrogram(
                sample_rate,
                n_fft=window,
                hop_length=max(1, window // 4),
                n_mels=count,
                power=1.0,
                norm="slaney",
                mel_scale="slaney",
                pad_mode="constant",
            )
            for window, count in zip(windows, bands, strict=True)
        )

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        scale = 1.0 / (reference_power(clean, noisy).sqrt() + 1e-4)
        pair = (torch.cat([enhanced, clean]) * torch.cat([scale, scale])).flatten(0, 1)
        distances = []
        for spectrum, longer in zip(self.spectra, self.longer, strict=True):
            judged, target = (spectrum(pair) / longer).clamp_min(_FLOOR).log().chunk(2)
            distances.append(F.l1_loss(judged, target))
        return torch.stack(distances).mean()
