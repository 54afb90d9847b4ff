"""The old name of gan_denoise/corruption/noise.py, which goes with the next release."""

import warnings

from gan_denoise.corruption.noise import *  # noqa: F403

warnings.warn("gan_denoise.noise is gan_denoise.corruption.noise now", DeprecationWarning, 2)
