"""Modules found by their file's name: how an experiment's `name` becomes a generator or a discriminator."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from gan_denoise.config import check_keys
from gan_denoise.errors import InputError, nearest


def names(package: ModuleType) -> list[str]:
    """The names of all modules of a package."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def build(package: ModuleType, kind: str, name: Any, sizes: Mapping[str, Any], **given: Any) -> nn.Module:
    """Build class `kind` of module `name`. sizes: the experiment's keywords. given: those that it may not choose.

    Raises InputError for an unknown name or size, and for sizes that cannot be built.
    """
    where = kind.lower()
    if name not in names(package):
        raise InputError(f'{where}: unknown name "{name}"{nearest(str(name), names(package))}')
    cls = getattr(importlib.import_module(f"{package.__name__}.{name}"), kind)
    known = [parameter for parameter in inspect.signature(cls).parameters if parameter not in given]
    check_keys(sizes, known, f"{where} {name}")
    try:
        return cls(**given, **sizes)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise InputError(f"{where} {name}: {error}") from error
