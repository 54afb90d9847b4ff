"""Scores that the repository keeps: published from an experiment, and collected in RESULTS.md."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import file_digest
from reporting.results import opening, section
from reporting.statistics import Run


def scored_tables(exp: Path) -> dict[str, str | None]:
    """EXP's tables of scores, by their place in it: their digests."""
    return {str(path.relative_to(exp)): file_digest(path) for path in tables_of(exp)}


def tables_of(exp: Path) -> list[Path]:
    return sorted([*exp.glob("*/scores.csv"), *exp.glob("*/conditions/*/scores.csv")])


def publish(exp: Path, folder: Path, note: str) -> None:
    """Make FOLDER hold what stage 5 has shown of EXP last, and nothing else.

    Raises InputError where EXP has changed since, and where FOLDER holds something else than
    published scores.
    """
    run = Run.read(exp)
    if run.about.get("scores") != scored_tables(exp):
        raise InputError(
            f"{exp}: its scores are not those that stage 5 last showed (some are new, or a"
            " system was removed): run stage 5 again"
        )
    check_place(exp, folder)
    about = {key: value for key, value in run.about.items() if key != "scores"}
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside it and then in its place, so that a full disk loses nothing
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".publish-") as name:
        new = Path(name) / "new"
        for path in tables_of(exp):
            system, *condition = path.relative_to(exp).parts[:-1]
            place = new.joinpath(*condition[1:])
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / f"{system}.csv")
        about["files"] = published(new)
        text = dump_yaml({"note": note, **about} if note else about)
        (new / "about.yaml").write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rename(Path(name) / "before")
        new.rename(folder)


def check_place(exp: Path, folder: Path) -> None:
    """Refuse a folder that publishing would harm. Raises InputError."""
    here, there = exp.resolve(), folder.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise InputError(folder, f"is, holds or lies in {exp}", "name another folder")
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    ours = [folder / "about.yaml", *folder.glob("*.csv"), *folder.glob("*/*.csv")]
    strange = [path for path in files if path not in ours]
    if folder.is_file() or strange or (files and ours[0] not in files):
        raise InputError(
            folder,
            f"holds something else than one published run: {(strange or files or [folder])[0]}",
            "name a folder of its own, such as egs/vctk/results/NAME",
        )


def published(folder: Path) -> dict[str, str | None]:
    """The tables of a folder of results, by their place in it: their digests."""
    paths = sorted([*folder.glob("*.csv"), *folder.glob("*/*.csv")])
    return {str(path.relative_to(folder)): file_digest(path) for path in paths}


def collect(results: Path) -> str:
    """The committed RESULTS.md: a section for each folder of `results`."""
    folders = sorted(path.parent for path in results.glob("*/about.yaml"))
    if not folders:
        raise InputError(f"{results}: holds no results: `report.py --publish` puts them there")
    intro = (
        "# Results\n\nMade by `python recipes/report.py --collect egs/vctk/results >"
        " egs/vctk/RESULTS.md` from the scores in `results/`.\n"
    )
    for folder in folders:
        check_unchanged(folder)
    runs = {folder.name.replace("_", " "): Run.read(folder) for folder in folders}
    sections = (f"\n## {name}\n\n{section(run)}" for name, run in runs.items())
    return f"{intro}\n{opening(list(runs.values()))}{''.join(sections)}"


def check_unchanged(folder: Path) -> None:
    """Refuse tables that are not as they were published. Raises InputError."""
    now = published(folder)
    then = read_yaml(folder / "about.yaml").get("files", now)  # earlier ones did not note it
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise InputError(
                folder / name,
                "is not as it was published" if name in now else "is gone",
                "publish it again, or restore it",
            )
