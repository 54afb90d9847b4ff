"""Whose library a program of the recipe works with: that of the clone in which it stands. Another
clone's environment, or PYTHONPATH, would have it train, and note, what stands in another place.
"""

from __future__ import annotations

from pathlib import Path

from gan_denoise.errors import InputError

_IMPORTED = Path(__file__).resolve().parents[1]


def check_place(program: Path) -> None:
    """Refuse to go on where `program` stands in a clone and gan_denoise was imported from
    elsewhere, unless the code there is the same (an installed copy). Raises InputError that names
    both.
    """
    for folder in program.resolve().parents:
        own = folder / "gan_denoise"
        if (own / "__init__.py").is_file():
            if own != _IMPORTED and _code(own) != _code(_IMPORTED):
                raise InputError(
                    f"{program}: gan_denoise was imported from {_IMPORTED}, which is not what lies"
                    f" beside this program ({own}): set PYTHONPATH={folder}, or unset it and use"
                    f" the environment {folder}/.venv"
                )
            return


def _code(package: Path) -> dict[str, bytes]:
    files = package.rglob("*.py")
    return {str(path.relative_to(package)): path.read_bytes() for path in files}
