"""Generators: one file each, found by its name.

`generators/foo.py` holds one class `Generator(nn.Module)`: (B, 1, T) float32 noisy -> (B, 1, T) float32 enhanced for any
T >= 1, without randomness at inference. Its constructor takes `sample_rate` in Hz and its sizes as keywords with
defaults. It has two attributes, in samples: `receptive_field`, how far each side of an output sample its inputs reach,
and `hop_length`, the grid on which a signal may be cut for processing in chunks (1 where there is none).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping

from torch import nn

from gan_denoise.config import check_keys
from gan_denoise.errors import InputError, nearest


def names() -> list[str]:
    """The names of all generators."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build(options: Mapping, *, sample_rate: int) -> nn.Module:
    """Build a generator from `{"name": ..., **sizes}`. Raises InputError for an unknown name or size."""
    if not isinstance(options, Mapping):
        raise InputError(
            f"generator: expected name: and sizes, as in {{name: convnext, width: 128}}, found {options!r}"
        )
    sizes = dict(options)
    name = sizes.pop("name", None)
    if name not in names():
        raise InputError(f'generator: unknown name "{name}"{nearest(str(name), names())}')
    generator = importlib.import_module(f"{__name__}.{name}").Generator
    known = [parameter for parameter in inspect.signature(generator).parameters if parameter != "sample_rate"]
    check_keys(sizes, known, f"generator {name}")
    try:
        return generator(sample_rate=sample_rate, **sizes)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"generator {name}: {error}") from error
