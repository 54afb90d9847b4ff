"""The old name of gan_denoise/losses/pmsqe.py, which goes with the next release."""

import warnings

from gan_denoise.losses.pmsqe import Loss as PerceptualDisturbance

__all__ = ["PerceptualDisturbance"]
warnings.warn("gan_denoise.pmsqe is gan_denoise.losses.pmsqe now", DeprecationWarning, 2)
