"""Tables of scores become systems: one for each training, its seeds pooled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gan_denoise.errors import InputError
from gan_denoise.scoring import read_csv

REFERENCES = {
    "noisy": "noisy",
    "oracle_mask": "oracle mask",
    "oracle_mag": "oracle magnitude",
}  # the first rows of every table
COLUMNS = {"system", "seed", "utt_id", "spk_id", "fingerprint"}


def read_systems(
    folder: Path, paths: dict[str, Path], settings: Mapping[str, tuple]
) -> tuple[dict[str, list[dict]], dict[str, list[str]]]:
    """Read tables of scores: name -> CSV file becomes row -> scores and row -> names.

    A row is one training: its experiment with its overrides, by the same code, over the seeds. It
    has the experiment's name or, where two rows would have the same name, that of its folder.
    settings: name -> digests of the settings and of the code of what was trained, where known. All
    must have been scored on one noise.
    """
    trainings: dict[tuple[str, tuple | None], dict[str, list[dict]]] = {}
    for name in sorted(paths, key=place):
        rows = read_csv(paths[name])
        if lacking := sorted(COLUMNS - rows[0].keys()):
            raise InputError(
                f"{paths[name]}: has no column {lacking[0]}: these are no scores of stage 4: move"
                " it away"
            )
        system = str(rows[0]["system"])
        same = trainings.setdefault((system, settings.get(name)), {})
        for other, others in same.items():
            if others[0].get("seed") == rows[0].get("seed"):
                raise InputError(
                    f"{paths[name]}: is {system} with seed {rows[0].get('seed')}, as {other} is:"
                    " remove one of the two"
                )
        same[name] = rows
    systems: dict[str, list[dict]] = {}
    folders: dict[str, list[str]] = {}
    for (system, digests), scores in trainings.items():
        alike = [other for other in trainings if other[0] == system and other != (system, digests)]
        shortest = min(scores, key=len)
        label = shortest.split("_seed")[0] if alike else system
        label = shortest if label in systems else label  # other seeds, trained by other code
        if label in systems:
            raise InputError(
                f"{folder}: two different trainings are called {label}: rename one of their folders"
            )
        systems[label] = [row for rows in scores.values() for row in rows]
        folders[label] = list(scores)
    fingerprints = {row["fingerprint"]: name for name, rows in systems.items() for row in rows}
    if len(fingerprints) > 1:
        names = " and ".join(fingerprints.values())
        raise InputError(
            f"{folder}: {names} were scored on different noise: a table never mixes them: run stage"
            " 4 again"
        )
    return systems, folders


def systems_of(systems: Mapping[str, list[dict]]) -> dict[str, bool]:
    """The experiments of the rows of `read_systems`: whether each was trained here.

    A system from elsewhere has no seed.
    """
    first = [rows[0] for rows in systems.values()]
    return {row["system"]: row["seed"] != "" for row in first if row["system"] not in REFERENCES}


def place(name: str) -> tuple[int, str]:
    """The order of systems in a table.

    Limits come first, then the baseline, what lies between, the full recipe, and its variations.
    """
    order = (*REFERENCES, "l1", "l1_mrstft", "gan")
    experiment = name.split("_seed")[0]
    return (order.index(experiment) if experiment in order else len(order), name)
