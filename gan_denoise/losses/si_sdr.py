"""Negative scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, eq. 3)."""

import torch
from torch import Tensor

from gan_denoise import contract

_EPSILON = 1e-8


class Loss(contract.Loss):
    """Negative SI-SDR in dB; finite for silence."""

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        enhanced, clean = (
            wave.flatten(1) - wave.flatten(1).mean(dim=1, keepdim=True)
            for wave in (enhanced, clean)
        )
        scale = (enhanced * clean).sum(1, keepdim=True) / (
            clean.square().sum(1, keepdim=True) + _EPSILON
        )
        target = scale * clean
        error = (enhanced - target).square().sum(1) + _EPSILON
        return -10.0 * torch.log10((target.square().sum(1) + _EPSILON) / error).mean()
