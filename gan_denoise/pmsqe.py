"""Moved: gan_denoise/losses/pmsqe.py; this name goes with the next release."""

import warnings

from gan_denoise.losses.pmsqe import Loss as PerceptualDisturbance

__all__ = ["PerceptualDisturbance"]
warnings.warn("gan_denoise.pmsqe is gan_denoise.losses.pmsqe now", DeprecationWarning, 2)
