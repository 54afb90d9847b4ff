"""What an experiment's `scenes:` and `fresh_noise:` may say.

gan_denoise/corruption/scenes.py and gan_denoise/corruption/conditions.py act on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_denoise.config import check_interval, check_keys, check_number
from gan_denoise.corruption.rooms import LONGEST_S
from gan_denoise.corruption.synthetic import check_kind
from gan_denoise.errors import InputError, nearest

SHARES = ("noise", "procedure", "both", "clean", "alone")
# The highest value of each numeric setting; 0 switches the effect off
_NUMBERS = {"tilt_db": 40.0, "equaliser_db": 40.0, "band_limit": 1.0, "babble": 1.0}
# The highest value of each numeric setting that may be left out
_OPTIONAL = {"whisper": 1.0, "changes": 1.0, "mutes": 1.0, "offset": 1.0, "codec": 1.0}
_LISTS = ("recordings", "held_out")
_KEYS = (*_NUMBERS, *_LISTS, "shares", "snr_db", "sources", "voices", "speed", "synthetic")
_ROOMS = ("share", "count", "rt60_s", "distance_m", "early_ms")
_RUMBLE, _TARGET = ("share", "snr_db"), ("high_pass_hz", "background_db", "quiet_first")


def check_scenes(options: Any, where: str) -> None:
    """Refuse an unknown, missing or impossible setting. Raises InputError."""
    check_keys(options, (*_KEYS, *_OPTIONAL, "rooms", "rumble", "target"), where)
    for key in _KEYS:
        if key not in options:
            raise InputError(f'{where}: "{key}" is missing')
    check_keys(options["shares"], SHARES, f"{where}: shares")
    for name, share in options["shares"].items():
        check_number(share, f"{where}: shares: {name}", low=0.0)
    if not any(options["shares"].values()):
        raise InputError(f"{where}: shares: none is above 0")
    for key, high in (_NUMBERS | _OPTIONAL).items():
        check_number(options.get(key, 0.0), f"{where}: {key}", low=0.0, high=high)
    check_number(options["sources"], f"{where}: sources", low=1, whole=True)
    check_interval(options["snr_db"], f"{where}: snr_db", low=-100.0, high=100.0)
    check_interval(options["speed"], f"{where}: speed", low=0.25, high=4.0)
    if options.get("rooms") is not None:
        _check_rooms(options["rooms"], f"{where}: rooms")
    if options.get("rumble") is not None:
        _check_whole(options["rumble"], _RUMBLE, f"{where}: rumble")
        check_number(options["rumble"]["share"], f"{where}: rumble: share", low=0.0, high=1.0)
        check_interval(options["rumble"]["snr_db"], f"{where}: rumble: snr_db", low=-100, high=100)
    if options.get("target") is not None:
        _check_target(options["target"], f"{where}: target")
    for voices in check_interval(options["voices"], f"{where}: voices"):
        check_number(voices, f"{where}: voices", low=1, whole=True)
    for key in _LISTS:
        if not isinstance(options[key], list):
            raise InputError(f"{where}: {key}: expected a list, found {options[key]!r}")
    for entry in options["recordings"]:
        check_keys(entry, ("folder", "weight", "by_kind"), f"{where}: recordings")
        if not isinstance(entry.get("folder"), str) or not isinstance(entry.get("by_kind"), bool):
            form = "{folder: DIR, weight: 1.0, by_kind: false}"
            raise InputError(f"{where}: recordings: expected {form}, found {entry}")
        check_number(entry.get("weight"), f"{where}: recordings: weight", low=1e-6)
    check_keys(options["synthetic"], ("weight", "kinds"), f"{where}: synthetic")
    check_number(options["synthetic"].get("weight"), f"{where}: synthetic: weight", low=1e-6)
    for kind in options["synthetic"].get("kinds", ()):
        check_kind(kind, where)


def _check_whole(options: Any, keys: tuple[str, ...], where: str) -> None:
    check_keys(options, keys, where)
    for key in keys:
        if key not in options:
            raise InputError(f'{where}: "{key}" is missing')


def _check_target(options: Any, where: str) -> None:
    _check_whole(options, _TARGET, where)
    check_number(options["high_pass_hz"], f"{where}: high_pass_hz", low=1.0, high=1000.0)
    check_number(options["background_db"], f"{where}: background_db", low=0.0, high=60.0)
    check_number(options["quiet_first"], f"{where}: quiet_first", low=1, high=10, whole=True)


def _check_rooms(options: Any, where: str) -> None:
    check_keys(options, (*_ROOMS, "folder"), where)
    _check_whole({key: options[key] for key in options if key != "folder"}, _ROOMS, where)
    check_number(options["share"], f"{where}: share", low=0.0, high=1.0)
    check_number(options["count"], f"{where}: count", low=1, whole=True)
    check_interval(options["rt60_s"], f"{where}: rt60_s", low=0.05, high=LONGEST_S)
    check_interval(options["distance_m"], f"{where}: distance_m", low=0.1, high=7.0)
    check_number(options["early_ms"], f"{where}: early_ms", low=0.0, high=1000.0)
    if not isinstance(options.get("folder", ""), str):
        raise InputError(f"{where}: folder: expected a folder's name, found {options['folder']!r}")


def check_fresh_noise(setting: object, where: str, procedures: Path) -> None:
    """Refuse what is neither true, false nor {data | clean | NAME: share}.

    procedures: the folder that must hold a noise_NAME.yaml for each NAME. Raises InputError.
    """
    if isinstance(setting, bool):
        return
    if not isinstance(setting, Mapping) or not setting:
        raise InputError(
            f"{where}: expected true, false, or shares such as {{data: 0.8, clean: 0.2}}, found"
            f" {setting!r}"
        )
    conditions = [
        "data",
        "clean",
        *(path.stem.removeprefix("noise_") for path in procedures.glob("noise_*.yaml")),
    ]
    for name, share in setting.items():
        if name not in conditions:
            raise InputError(f'{where}: unknown condition "{name}"{nearest(str(name), conditions)}')
        check_number(share, f"{where}: {name}", low=1e-6)
