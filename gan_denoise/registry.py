"""Modules found by their file's name: how a word in an experiment selects the code.

The packages are generators, discriminators and losses.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from torch import nn

from gan_denoise.config import check_keys, check_number
from gan_denoise.errors import InputError, nearest

Module = TypeVar("Module", bound=nn.Module)


def names(package: types.ModuleType) -> list[str]:
    """The names of all modules of a package."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def build(
    package: types.ModuleType,
    kind: str,
    name: Any,
    sizes: Mapping[str, Any],
    probe: Callable[[Module], object],
    **fixed: Any,
) -> Module:
    """Build class `kind` of module `name`.

    sizes: the experiment's keywords. fixed: keywords that the experiment may not choose, for
    classes that take them. probe: calls the new module once, on something short. Raises InputError
    for an unknown name or size, and for sizes that cannot be built.
    """
    where = kind.lower()
    if name not in names(package):
        raise InputError(f'{where}: unknown name "{name}"{nearest(str(name), names(package))}')
    cls = getattr(importlib.import_module(f"{package.__name__}.{name}"), kind)
    signature = inspect.signature(cls).parameters
    parameters = {
        key: value
        for key, value in signature.items()
        if key not in fixed and value.kind not in (value.VAR_POSITIONAL, value.VAR_KEYWORD)
    }
    if sizes and not parameters:
        raise InputError(f"{where} {name}: has no settings, found {', '.join(map(str, sizes))}")
    check_keys(sizes, parameters, f"{where} {name}")
    kinds = get_type_hints(cls.__init__)
    for key, value in sizes.items():
        low = 0 if parameters[key].default == 0 else 1
        _check_size(value, kinds.get(key), f"{where} {name}: {key}", low=low)
    try:
        fixed = {key: value for key, value in fixed.items() if key in signature}
        module = cls(**fixed, **sizes).float()  # whatever torch's default type is
        # Some impossible sizes raise an error only when the module is called
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            probe(module)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{where} {name}: {error}") from error
    return module


def _check_size(value: Any, kind: Any, where: str, *, low: int) -> None:
    """Refuse a size that does not have the type that the constructor's annotation `kind` asks for.

    low: the least value of an int. Raises InputError.
    """
    if isinstance(kind, types.UnionType):  # with None, for a default that depends on the rate
        kind = get_args(kind)[0]
    if kind == Sequence[int]:
        if not isinstance(value, list) or not value:
            raise InputError(f"{where}: expected a list of whole numbers, found {value!r}")
        for item in value:
            check_number(item, where, low=1, whole=True)
    elif kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{where}: expected true or false, found {value!r}")
    elif kind is int:
        check_number(value, where, low=low, whole=True)
    elif kind is float:
        check_number(value, where, low=0.0)
