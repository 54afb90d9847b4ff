"""Losses by name. The same word stands in an experiment's `losses:`, here, in the log and in the plots.

Each is a function (enhanced, clean, noisy) -> scalar, all waveforms (B, 1, T) in float32, mean over the batch's items.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.config import check_keys, check_number
from gan_denoise.errors import InputError

_EPSILON = 1e-8


def l1(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean absolute error of the waveform."""
    return F.l1_loss(enhanced, clean)


def mse(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean squared error of the waveform."""
    return F.mse_loss(enhanced, clean)


def si_sdr(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Negative scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 3), finite for silence."""
    enhanced, clean = (wave.flatten(1) - wave.flatten(1).mean(dim=1, keepdim=True) for wave in (enhanced, clean))
    scale = (enhanced * clean).sum(1, keepdim=True) / (clean.square().sum(1, keepdim=True) + _EPSILON)
    target = scale * clean
    ratio = (target.square().sum(1) + _EPSILON) / ((enhanced - target).square().sum(1) + _EPSILON)
    return -10.0 * torch.log10(ratio).mean()


def wsdr(enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """Weighted SDR (Choi et al. 2019, eq. 7): -1 is best, 1 worst."""
    enhanced, clean, noisy = (wave.flatten(1) for wave in (enhanced, clean, noisy))
    noise = noisy - clean
    speech_share = clean.square().sum(1) / (clean.square().sum(1) + noise.square().sum(1) + _EPSILON)
    on_speech = F.cosine_similarity(clean, enhanced, dim=1, eps=_EPSILON)
    on_noise = F.cosine_similarity(noise, noisy - enhanced, dim=1, eps=_EPSILON)
    return -(speech_share * on_speech + (1.0 - speech_share) * on_noise).mean()


LOSSES = {"l1": l1, "mse": mse, "si_sdr": si_sdr, "wsdr": wsdr}


class Losses(nn.Module):
    """A weighted sum of losses. weights: name -> weight. Raises InputError for an unknown name or a weight that is none."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        check_keys(weights, LOSSES, "losses")
        for name, weight in weights.items():
            check_number(weight, f"losses: {name}", low=0.0)
        if not any(weights.values()):
            raise InputError("losses: no loss has a weight above 0")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Waveforms (B, 1, T) -> (weighted sum, {name: unweighted value})."""
        terms = {name: LOSSES[name](enhanced.float(), clean, noisy) for name in self.weights}
        return sum(self.weights[name] * term for name, term in terms.items()), terms
