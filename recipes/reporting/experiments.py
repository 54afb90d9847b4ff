"""What each experiment is, and what it is compared with, as its file says.

The keys are `summary` and `compare_with`, which the training does not see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gan_denoise.config import load_experiment, read_yaml
from gan_denoise.errors import InputError
from training.experiment import NOTES

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
BASELINE = "l1"
# What a setting is called where two experiments differ by it; others by their own name
_WORDS = {"adversary": "the adversary", "generator": "the generator", "optimizer": "the optimizer"}
_WORDS |= {"batch_size": "the batch size", "precision": "the precision"}
_WORDS |= {"steps": "the number of updates", "warm_start_steps": "the length of the warm start"}
_ELSEWHERE = {
    "summary": "A system from elsewhere, of which only the enhanced files are known.",
    "compare_with": [BASELINE, "gan"],
    "why": "it comes from elsewhere, so it is compared with the baseline and the full recipe",
    "differs": {},
}
_WORDS |= {"distil": "the teacher", "fresh_noise": "noise that is drawn anew at every visit"}


def describe(systems: Mapping[str, bool], files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What is known of each system: summary, compare_with, why and differs.

    compare_with: the systems that it is compared with. why: the reason for these, where its file
    does not name them. differs: each of these systems -> in what this one differs from it.

    systems: name -> whether it was trained here, and so has a file. files: experiment -> its YAML
    file, where it is not in recipes/experiments. Raises InputError.
    """
    places = {path.stem: path for path in EXPERIMENTS.glob("*.yaml")} | dict(files)
    return {
        name: _describe(name, places) if trained else dict(_ELSEWHERE)
        for name, trained in systems.items()
    }


def _describe(name: str, places: Mapping[str, Path]) -> dict[str, Any]:
    if name not in places:
        others = [BASELINE] if name != BASELINE else []
        why = "its experiment's file is not at hand, so it is compared with the baseline"
        return {"summary": "", "compare_with": others, "why": why, "differs": {}}
    path = places[name]
    written = read_notes(path)
    others, why = written.get("compare_with", []), ""
    if "compare_with" not in written:
        base = str(written["base"]).removesuffix(".yaml") if "base" in written else None
        others = [other for other in dict.fromkeys((base, BASELINE)) if other not in (None, name)]
        why = f"{path.name} has no compare_with, so it is compared with its base and the baseline"
    ours = load_experiment(path)
    differs = {
        other: list(_differing(ours, load_experiment(places[other])))
        for other in others
        if other in places
    }
    return {"summary": written["summary"], "compare_with": others, "why": why, "differs": differs}


def read_notes(path: Path) -> dict[str, Any]:
    """The keys `summary`, `base` and `compare_with` (a list of names) of an experiment's file.

    Without a summary, the first sentence of the first comment is taken. Raises InputError.
    """
    written = read_yaml(path)
    notes = {key: written[key] for key in ("base", *NOTES) if key in written}
    notes.setdefault("summary", _first_sentence(path.read_text(encoding="utf-8-sig")))
    if not isinstance(notes["summary"], str):
        raise InputError(f"{path}: summary: expected a sentence, found {notes['summary']!r}")
    if "compare_with" in notes:
        others = notes["compare_with"]
        others = [others] if isinstance(others, str) else others
        if not isinstance(others, list) or not all(isinstance(other, str) for other in others):
            raise InputError(
                f"{path}: compare_with: expected an experiment's name or a list of names ([]: with"
                f" none), found {notes['compare_with']!r}"
            )
        if path.stem in others:
            raise InputError(f"{path}: compare_with: {path.stem} is this experiment: name another")
        notes["compare_with"] = others
    return notes


def _first_sentence(text: str) -> str:
    words = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").strip())
    sentence, dot, _ = " ".join(words).partition(". ")
    return sentence + dot.strip()


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted((ours.keys() | theirs.keys()) - set(NOTES)):
        mine, other = ours.get(key), theirs.get(key)
        if mine == other:
            continue
        if key == "losses" and isinstance(mine, Mapping) and isinstance(other, Mapping):
            parts = sorted(mine.keys() | other.keys())
            yield from (f"the {part} loss" for part in parts if mine.get(part) != other.get(part))
        else:
            yield _WORDS.get(key, key)
