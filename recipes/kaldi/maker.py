"""What makes enhanced files, and whether files are what it has made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gan_denoise.errors import InputError
from gan_denoise.provenance import code
from gan_denoise.provenance.inputs import Provenance, file_digest, file_digests

WHICH = {"last": "model", "best": "model_best"}  # of a run's models: its folder


class Maker(NamedTuple):
    """What makes enhanced files: digests of a model's weights, and of the code that runs it."""

    weights: str
    code: str


def maker_of(model: Path) -> Maker:
    """The maker that a model directory, as it is now, and this code are together.

    Raises InputError where the directory holds no model, or weights that are not those of its
    config.json.
    """
    config, weights = read_config(model), file_digest(model / "model.safetensors")
    if weights is None:
        raise InputError(f"{model}: holds no finished model: run stage 2 first")
    if config.get("weights", weights) != weights:
        raise InputError(
            f"{model}: model.safetensors is not the file that config.json describes"
            f" (weights {weights}, not {config['weights']}): one of the two was replaced: run stage"
            " 2 again in a new --exp"
        )
    return Maker(weights, code.of_enhancement(config["generator"]["name"]))


def check_enhanced(
    exp: Path, folder: Path, files: Mapping[str, Path], *, which: str = "last", jobs: int = 1
) -> None:
    """Refuse enhanced files that stage 3 has not made with this model and this code.

    which: whether the files must come from the last model of the run, or from its best one. folder:
    the one whose enhanced.made tells of `files` (utt_id -> file): EXP, or one of its conditions.
    Without EXP/model the files are the recipe's oracles or another system's. Nothing is known of
    these where there is no enhanced.made. Raises InputError.
    """
    entries = Provenance(folder / "enhanced.made").made
    place = exp / WHICH[which]
    model = maker_of(place) if (exp / "model/config.json").is_file() else None
    if model is None and not entries:
        return
    digests = file_digests(files, jobs=jobs)
    kinds: dict[str, list[str]] = {}
    for utt_id in files:
        entry = entries.get(utt_id)
        more = entry.more if entry and model else ()
        if entry is None or entry.digest != digests[utt_id] or len(more) != len(model or ()):
            kinds.setdefault("not what stage 3 has written", []).append(utt_id)
        elif model and more[0] != model.weights:
            kinds.setdefault(f"of other weights than {place}", []).append(utt_id)
        elif model and more[1] != model.code:
            kinds.setdefault("made by other code than is here now", []).append(utt_id)
    for what, utt_ids in kinds.items():
        raise InputError(
            f"{folder}: {len(utt_ids)} of {len(files)} enhanced files are {what}, {utt_ids[0]} for"
            f" one: run stage 3 again (for a condition too), or remove {folder / 'enhanced.scp'}"
        )


def read_config(model: Path) -> dict[str, Any]:
    """A model directory's config.json. Raises InputError."""
    path = model / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        _ = config["experiment"], config["generator"]["name"]
    except FileNotFoundError as error:
        raise InputError(f"{model}: holds no finished model: run stage 2 first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a model configuration ({error})") from error
    return config
