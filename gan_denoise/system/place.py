"""A program of the recipe works with the library of the clone in which it stands.

With another clone's environment, or PYTHONPATH, it would train with other code, and note that.
"""

from __future__ import annotations

from pathlib import Path

from gan_denoise.errors import InputError

_IMPORTED = Path(__file__).resolve().parents[1]


def check_place(program: Path) -> None:
    """Refuse to go on where gan_denoise was imported from outside the clone of `program`.

    A library elsewhere that has the same code (an installed copy) is accepted. Raises InputError
    that names both places.
    """
    for folder in program.resolve().parents:
        package = folder / "gan_denoise"
        if (package / "__init__.py").is_file():
            if package != _IMPORTED and _code(package) != _code(_IMPORTED):
                raise InputError(
                    f"{program}: gan_denoise was imported from {_IMPORTED}, which is not what lies"
                    f" beside this program ({package}): set PYTHONPATH={folder}, or unset it and"
                    f" use the environment {folder}/.venv"
                )
            return


def _code(package: Path) -> dict[str, bytes]:
    files = package.rglob("*.py")
    return {str(path.relative_to(package)): path.read_bytes() for path in files}
