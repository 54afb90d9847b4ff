"""Negative signal-to-noise ratio with a soft ceiling of 35 dB (Wisdom et al. 2020, eq. 1).

Unlike SI-SDR a wrong gain counts, and items that are all but perfect do not outweigh the others.
Where nothing but noise is heard, this is by how many dB it is lowered, less 20.
"""

import torch
from torch import Tensor

from gan_denoise import contract
from gan_denoise.losses import reference_power

_EPSILON = 1e-8
_CEILING = 10.0**-3.5  # of the error, as a share of the clean power


class Loss(contract.Loss):
    """In dB, less is better; finite for silence."""

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        error = (enhanced - clean).flatten(1).square().sum(1) + _EPSILON
        power = reference_power(clean, noisy)[:, 0, 0] * clean.shape[-1] + _EPSILON
        return -10.0 * torch.log10(power / (error + _CEILING * power)).mean()
