"""What a generator costs: the multiplications of a second of audio."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

_LENGTH_S = 4.0  # long enough for what happens once at either end to count little


def macs_per_second(options: Mapping, sample_rate: int) -> int:
    """Multiply-accumulate operations of a generator for a second of audio.

    options: `generator:` of an experiment. Convolutions, linear and recurrent layers and attention
    are counted, as torch's FlopCounterMode counts them; Fourier transforms and what works on single
    values are not.
    """
    import torch  # here: the tables of finished runs are read without
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from gan_denoise import generators

    generator = generators.build(options, sample_rate=sample_rate).eval()
    wave = torch.zeros(1, 1, round(_LENGTH_S * sample_rate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of oneDNN, about GPUs
        # oneDNN's LSTM and fused attention are single operations, which the counter does not know
        with (
            torch.no_grad(),
            torch.backends.mkldnn.flags(enabled=False),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            generator(wave)
    return round(counter.get_total_flops() / 2 / _LENGTH_S)
