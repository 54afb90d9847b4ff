"""Generators: one file each, found by its name.

`generators/foo.py` holds one class `Generator`, a contract.Generator or, for live use, a
contract.StreamingGenerator. Its constructor takes `sample_rate` in Hz and its sizes as keywords
with defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch

from gan_denoise import registry
from gan_denoise.contract import Generator
from gan_denoise.errors import InputError


def names() -> list[str]:
    """The names of all generators."""
    return registry.names(sys.modules[__name__])


def build(options: Mapping, *, sample_rate: int) -> Generator:
    """Build a generator from `{"name": ..., **sizes}`.

    Raises InputError for an unknown name or size.
    """
    if not isinstance(options, Mapping):
        raise InputError(
            "generator: expected name: and sizes, as in {name: convnext, width: 128}, found"
            f" {options!r}"
        )
    sizes = dict(options)
    name = sizes.pop("name", None)

    def probe(generator: Generator) -> None:
        generator(torch.zeros(1, 1, 64, dtype=torch.float32))

    return registry.build(
        sys.modules[__name__], "Generator", name, sizes, probe, sample_rate=sample_rate
    )
