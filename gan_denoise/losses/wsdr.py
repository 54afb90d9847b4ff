"""Weighted SDR (Choi et al. 2019, eq. 7)."""

from torch import Tensor
from torch.nn import functional as F

from gan_denoise import contract

_EPSILON = 1e-8


class Loss(contract.Loss):
    """Weighted SDR from -1, the best, to 1, the worst."""

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        enhanced, clean, noisy = (wave.flatten(1) for wave in (enhanced, clean, noisy))
        noise = noisy - clean
        speech_share = clean.square().sum(1) / (
            clean.square().sum(1) + noise.square().sum(1) + _EPSILON
        )
        on_speech = F.cosine_similarity(clean, enhanced, dim=1, eps=_EPSILON)
        on_noise = F.cosine_similarity(noise, noisy - enhanced, dim=1, eps=_EPSILON)
        return -(speech_share * on_speech + (1.0 - speech_share) * on_noise).mean()
