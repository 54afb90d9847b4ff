"""How much worse the output is than the input, in the places where it is worse.

The squared error of compressed spectra is taken in tiles of 500 Hz by 32 ms, less that of the
input. A mean over all bins lets a model remove a fricative that resembles noise, if it removes
enough noise elsewhere; in this loss no gain elsewhere makes up for the harm in a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_denoise.contract import BALANCED
from gan_denoise.losses import compressed


class Loss(compressed.Loss):
    """0 where the noise removed outweighs the speech lost, in every tile.

    gentle, strong: factors at a strength of 0 and of 1, with equal ratios between (a
    loss-conditional model: Dosovitskiy and Djolonga 2020); 0 and 0: no factor.
    """

    TILE = 4, 16  # frames of 8 ms, bins of 31 Hz

    def __init__(self, gentle: float = 0.0, strong: float = 0.0, sample_rate: int = 16000):
        super().__init__(sample_rate)
        if (gentle > 0.0) != (strong > 0.0):
            raise ValueError(f"gentle {gentle:g} and strong {strong:g} must both be above 0")
        self.factors, self.takes_strength = (gentle, strong), gentle > 0.0

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return self.of_errors(*self.errors(enhanced, noisy, clean=clean, noisy=noisy))

    def of_errors(self, after: Tensor, before: Tensor, strength: Tensor | None = None) -> Tensor:
        """The loss from the errors (B, N, F) of output and input, and the strengths (B,)."""
        frames, bins = self.TILE
        tile = min(frames, after.shape[1]), bins  # a short signal has fewer frames
        items = F.relu(F.avg_pool2d(after - before, tile)).mean(dim=(1, 2))
        if self.takes_strength:
            gentle, strong = self.factors
            place = torch.full_like(items, BALANCED) if strength is None else strength
            items = items * gentle * (strong / gentle) ** place
        return items.mean()
