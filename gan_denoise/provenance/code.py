"""A digest of the code on which a figure rests.

It keeps the figures of other code from being taken for those of this code.

What counts is what is imported on the way to it, as Python reads it: comments, docstrings, the
types of arguments and the layout of lines change nothing, and neither do the modules that only find
files, start processes and talk to people (`_PLUMBING`). Where a package computes a metric itself,
its version counts as well.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gan_denoise.system.files import digest

ROOT = Path(__file__).resolve().parents[2]  # where `gan_denoise` lies, and recipes/ in a checkout
# Package or program -> the folder it lies in
_PLACES = {"gan_denoise": ROOT, "training": ROOT / "recipes", "train": ROOT / "recipes"}
_PLUMBING = {"gan_denoise", "training", "gan_denoise.provenance", "gan_denoise.system"}
_PLUMBING |= {"gan_denoise.datadir", "gan_denoise.errors"}
_PLUMBING |= {f"gan_denoise.provenance.{name}" for name in ("code", "inputs", "origin")}
_PLUMBING |= {
    f"gan_denoise.system.{name}" for name in ("files", "ids", "owner", "terminal", "workers")
}
_PLUMBING |= {
    f"training.{name}" for name in ("board", "launch", "logbook", "records", "stopping", "trackers")
}
_JUDGES = ("training.critic", "training.judge", "training.validation")  # which few trainings heed
_METRICS = ("pesq", "pystoi", "mir_eval")
_DISTRIBUTIONS = {"visqol": "visqol-python"}  # of packages that are imported by another name


def of_scores(metrics: Iterable[str] = ()) -> str:
    """Of what computes the metrics of every table, and these."""
    from gan_denoise.metrics import MODULES, OPTIONAL

    asked = sorted(OPTIONAL.keys() & set(metrics))
    modules = sorted({MODULES[name] for name in asked})
    packages = sorted({package for name in asked for package in OPTIONAL[name].packages})
    versions = [_version(package) for package in (*_METRICS, *packages)]
    return digest([_digest(("gan_denoise.scoring", *modules)), versions])


def of_enhancement(generator: str) -> str:
    """Of what enhances by the generator of this name."""
    return _digest(("gan_denoise.enhance", f"gan_denoise.generators.{generator}"))


def of_training(experiment: Mapping[str, Any], *, warm_start: bool = False) -> str:
    """Of what trains by the settings of an experiment; warm_start: until an adversary enters."""
    modules = ["train", f"gan_denoise.generators.{experiment['generator']['name']}"]
    modules += [f"gan_denoise.losses.{name}" for name in experiment.get("losses") or ()]
    adversary = {} if warm_start else experiment.get("adversary") or {}
    metric = adversary.get("metric") or {}
    for bank in (adversary, metric):
        modules += [
            f"gan_denoise.discriminators.{name}" for name in bank.get("discriminators") or ()
        ]
    return _digest(tuple(modules), but=() if metric else _JUDGES)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:  # who scores nothing need not have it
        return None


@functools.cache
def _digest(roots: tuple[str, ...], but: tuple[str, ...] = ()) -> str:
    """Of the modules `roots` and all of ours that they import, but for some."""
    digests: dict[str, str] = {}
    left = list(roots)
    while left:
        module = left.pop()
        path = _path(module)
        if path is None or module in {*digests, *but, *_PLUMBING}:
            continue
        tree = ast.parse(path.read_bytes())
        digests[module] = digest(ast.dump(_what_computes(tree)))
        left += _imported(tree)
    return digest(sorted(digests.items()))


def _path(module: str) -> Path | None:
    """The file of a module of ours; None where it is none."""
    place = _PLACES.get(module.split(".")[0])
    if place is None:
        return None
    base = place.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names that may be modules, of all imports, those within functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _what_computes(tree: ast.Module) -> ast.Module:
    """A module without docstrings, and without the types of arguments and of what is returned."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return tree
