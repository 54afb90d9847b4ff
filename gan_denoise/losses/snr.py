"""Negative signal-to-noise ratio with a soft ceiling of 35 dB (Wisdom et al. 2020, eq. 1).

Unlike in SI-SDR a wrong gain counts, and nearly perfect items do not outweigh the others. For an
item without speech the loss is 20 minus the reduction of its noise in dB.
"""

import torch
from torch import Tensor

from gan_denoise import contract
from gan_denoise.losses import reference_power

_EPSILON = 1e-8
_CEILING = 10.0**-3.5  # of the error, as a share of the clean power


class Loss(contract.Loss):
    """Negative SNR in dB; finite for silence."""

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        error = (enhanced - clean).flatten(1).square().sum(1) + _EPSILON
        power = reference_power(clean, noisy)[:, 0, 0] * clean.shape[-1] + _EPSILON
        return -10.0 * torch.log10(power / (error + _CEILING * power)).mean()
