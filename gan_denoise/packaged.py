"""The models that come with the package, by name. Torch is not needed to ask for one."""

from __future__ import annotations

from pathlib import Path

from gan_denoise.errors import InputError, nearest

_HERE = Path(__file__).parent
# For use; boxed/CARD.md says what they can do
BOXED = {name: _HERE / "boxed" / name for name in ("files", "live")}
HIGH = _HERE / "boxed/high/model.safetensors"  # what both do above 8 kHz (high_band.py)
# For research: what RESULTS.md has rows of; published/README.md
PUBLISHED = {
    path.parent.name: path.parent for path in sorted(_HERE.glob("published/*/config.json"))
}
MODELS = BOXED | PUBLISHED


def model_folder(model: str | Path) -> Path:
    """The folder of a model: one of the package by its name, or a model directory.

    A directory that has the name of a packaged model is given as ./files, for example. Raises
    InputError for a word that is neither.
    """
    folder, name = Path(model), str(model)
    if name in MODELS:
        return MODELS[name]
    if len(folder.parts) == 1 and not folder.exists():
        raise InputError(
            name,
            f"is not a model directory, nor a model of the package{nearest(name, MODELS)}",
            "name one such as exp/l1/model, or one of the package",
        )
    return folder
