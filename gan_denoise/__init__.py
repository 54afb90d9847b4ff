"""gan_denoise: waveform speech denoisers, trained with or without an adversary.

The library knows no corpus and prints nothing. `load` is the one name that most callers need;
everything else is imported from the module that has the subject (`gan_denoise.corruption.noise`,
`gan_denoise.metrics`, ...).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_denoise.enhance import Denoiser

# onnxruntime tells its makers what it runs, and keeps a device's id in the home folder, unless this
# is set before it is imported. Recordings are private: whoever wants that sets it to 0
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

__version__ = "0.1.0"
__all__ = ["load"]


def load(model_dir: str | Path | None = None, device: str = "cpu") -> Denoiser:
    """Load a trained denoiser, which is called with a wave and its sample rate.

    `load()(wave, sample_rate)` takes the model in the package, `load("exp/l1/model")` another one.
    Raises `gan_denoise.errors.InputError` when the directory is no model.
    """
    from gan_denoise.enhance import Denoiser  # torch is imported here, not by `import gan_denoise`

    return Denoiser.load(model_dir, device=device)
