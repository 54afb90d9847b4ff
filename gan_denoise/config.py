"""YAML files, read strictly: experiments merge their base, and a key that nobody reads is an error.

An experiment is a YAML file. `base: other.yaml` (one level) starts from another; mappings merge,
lists replace and `null` deletes; a mapping with another `name:` replaces too, since the sizes of
one generator do not fit another. `key.subkey=value` pairs from the command line are merged last, in
the same way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gan_denoise.errors import InputError, nearest


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the types of YAML 1.2 (core schema).

    010 is ten, 1:30 and `yes` are text, 1e-3 is a number. There is no merge key: `<<` is a key like
    any other. A key given twice is an error, and so is nesting without end.
    """

    yaml_implicit_resolvers: dict = {}  # those of YAML 1.1 are not inherited
    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None
        or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {_DEEPEST} levels deep", mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f'key "{key}" is given twice', node.start_mark
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


class _TextLoader(_StrictLoader):
    """The strict loader where every value is text: 007 and no are names."""

    yaml_implicit_resolvers: dict = {}


_DEEPEST, _LARGEST = 50, 10**6
for _type, _pattern, _first in (  # YAML 1.2.2, section 10.3.2
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN", list("-+.")),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_type}", re.compile(f"^(?:{_pattern})$"), _first
    )
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


class _StrictDumper(yaml.SafeDumper):
    """Quotes what the loader would take for another type, such as the digest 668531744e70."""

    yaml_implicit_resolvers = _StrictLoader.yaml_implicit_resolvers

    def ignore_aliases(self, data: object) -> bool:
        return True


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML text that `parse_yaml` reads as the same values."""
    return yaml.dump(value, Dumper=_StrictDumper, sort_keys=False, width=120)


def parse_yaml(text: str, source: str, *, as_text: bool = False) -> Any:
    """Parse YAML text strictly, by YAML 1.2.

    as_text: every value stays text. Raises InputError that names `source` and the line.
    """
    try:
        value = yaml.load(text, Loader=_TextLoader if as_text else _StrictLoader)
        _walk(value)
        return value
    # Python refuses an int of thousands of digits by a ValueError
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise InputError(
            f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}"
        ) from error


def _walk(value: Any) -> None:
    """Refuse, by ValueError, values that cannot be walked to their end or written as UTF-8.

    Aliases of aliases, or of values that hold them, have no end.
    """
    count, waiting = 0, [value]
    while waiting:
        item, count = waiting.pop(), count + 1
        if count > _LARGEST:
            raise ValueError(f"its aliases make more than {_LARGEST} values")
        if isinstance(item, str):
            item.encode()
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item


def read_yaml(path: str | Path, *, as_text: bool = False) -> dict:
    """Read a YAML file that holds a mapping.

    as_text: every value stays text (007 is a name). Raises InputError.
    """
    path = Path(path)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path), as_text=as_text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a mapping of keys to values, found {type(content).__name__}"
        )
    return content


def check_keys(mapping: object, keys: Iterable[str], where: str) -> None:
    """Refuse a key that is not in `keys`, and offer the nearest one that is. Raises InputError."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"{where}: expected a mapping of keys to values, found {mapping!r}")
    keys = list(keys)
    for key in mapping:
        if key not in keys:
            raise InputError(f'{where}: unknown key "{key}"{nearest(str(key), keys)}')


def check_number(
    value: Any, where: str, *, low: float = -math.inf, high: float = math.inf, whole: bool = False
) -> None:
    """Refuse what is no finite number from `low` to `high`. Raises InputError.

    whole: whether only whole numbers are accepted.
    """
    kinds = int if whole else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        limits = (
            ""
            if low == -math.inf
            else f" from {low:g}" + ("" if high == math.inf else f" to {high:g}")
        )
        raise InputError(
            f"{where}: expected a {'whole ' if whole else ''}number{limits}, found {value!r}"
        )


def check_interval(
    value: Any, where: str, *, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Return the value if it is [a, b] with low <= a <= b <= high. Raises InputError."""
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{where}: expected two numbers, [low, high], found {value!r}")
    for end in value:
        check_number(end, where, low=low, high=high)
    if value[0] > value[1]:
        raise InputError(f"{where}: {value[0]} is above {value[1]}: swap the two")
    return value


def merge(base: Mapping, changes: Mapping, *, nulls: bool = False) -> dict:
    """`base` with `changes`: mappings merge, anything else replaces, None deletes.

    A mapping with another `name` replaces too. nulls: None stays as a value, to delete a key in a
    later merge.
    """
    merged = dict(base) if changes.get("name", base.get("name")) == base.get("name") else {}
    for key, value in changes.items():
        if value is None and not nulls:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = merge(before if isinstance(before, Mapping) else {}, value, nulls=nulls)
        else:
            merged[key] = value
    return merged


def parse_overrides(pairs: Iterable[str]) -> dict:
    """`["lr=1e-3", "generator.width=64"]` -> `{"lr": 0.001, "generator": {"width": 64}}`.

    Values are YAML. Raises InputError.
    """
    changes: dict = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputError(f'"{pair}": expected key=value, as in lr=1e-3 or generator.width=64')
        value = parse_yaml(text, pair)
        for part in reversed(name.split(".")):
            value = {part: value}
        # merge() would drop a null, which has to delete a key of the experiment
        _nest(changes, value)
    return changes


def _nest(into: dict, changes: Mapping) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _nest(into[key], value)
        else:
            into[key] = value


def load_experiment(path: str | Path, overrides: Iterable[str] = ()) -> dict:
    """Load an experiment: its base, its own changes, then `key=value` overrides.

    Raises InputError. An override may not bring back what the experiment itself deletes: `l1` with
    losses.mrstft=1 would not be l1 any more. The keys are checked by the code that reads them.
    """
    path = Path(path)
    settings = read_yaml(path)
    base = settings.pop("base", None)
    experiment = merge({}, settings)
    if base is not None:
        base_path = path.parent / str(base)
        parent = read_yaml(base_path)
        if "base" in parent:
            raise InputError(
                f"{base_path}: is a base of {path.name} and may not have a base itself (one level"
                " only)"
            )
        experiment = merge(parent, settings)
    changes = parse_overrides(overrides)
    for name in _deleted(settings, changes):
        raise InputError(
            f"{path}: {name} is null there, which is what the experiment is about: change"
            " another one"
        )
    return merge(experiment, changes)


def _deleted(settings: Mapping, changes: Mapping, prefix: str = "") -> Iterator[str]:
    """The keys that `changes` would bring back although the experiment's file sets them to null."""
    for key, value in changes.items():
        if key in settings and settings[key] is None and value is not None:
            yield prefix + key
        elif isinstance(value, Mapping) and isinstance(settings.get(key), Mapping):
            yield from _deleted(settings[key], value, f"{prefix}{key}.")
