"""Bad and odd inputs over all commands work, or are answered in one line with an exit status.

`pytest -n 0 -s tests/test_odd_inputs.py` shows the answers too.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import cli, speech_like, write
from gan_denoise import generators
from odd_inputs import BAD, CASES, FILES, PLACE, RATE, WAVE, Case
from small_models import SMALL, save

# Of the recipe; others are commands of gan-denoise
PROGRAMS = {"prepare", "corrupt.py", "condition", "oracle", "score.py", "report", "train"}


def answer(case: Case) -> subprocess.CompletedProcess:
    """Run a case in this process, and return the program's answer.

    It is a command of gan-denoise or, by its module, a program of the recipe.
    """
    program, *arguments = case.command or ("",)
    if program not in PROGRAMS:
        return cli(*case.command)  # an exception fails the test
    module, status = importlib.import_module(program.removesuffix(".py")), 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", [program, *map(str, arguments)])
        if program == "train":  # what is not refused would train for an hour
            patch.delattr(module.Draws, "next")
        try:
            module.main()
        except SystemExit as left:
            assert not isinstance(left.code, str)
            status = left.code or 0
        except Exception:  # what Python would show
            status = 1
            traceback.print_exc()
    return subprocess.CompletedProcess(case.command, status, out.getvalue(), err.getvalue())


def wrong_with(case: Case, result: subprocess.CompletedProcess) -> str | None:
    """Why an answer is not good, or None."""
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    if result.returncode != case.status:
        return f"status {result.returncode}, not {case.status}"
    if "Traceback" in result.stderr:
        return "a traceback"
    if result.returncode and len(errors) != 1:
        return f"{len(errors)} error lines"
    if missing := [word for word in case.words if word not in result.stderr]:
        return f"no word of {missing}"
    return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with good and bad files, a small model, lists and settings.

    Nothing half-written stays in it.
    """
    folder = tmp_path_factory.mktemp("odd")
    save(folder / "model", SMALL["causal"], generators.build(SMALL["causal"], sample_rate=RATE))
    write(folder / "good/a.wav", WAVE)
    for name, content in BAD.items():
        (folder / "bad").mkdir(exist_ok=True)
        (folder / "bad" / name).write_bytes(content)
        write(folder / "clean" / name, WAVE, format="WAV")
    for number in range(3):
        write(folder / f"corpus/s{number}/r.wav", speech_like(number))
    for case in (
        Case(("prepare", "--corpus", folder / "corpus", "--sample-rate", RATE, folder / "made")),
        Case(
            (
                "corrupt.py",
                "--no-audit",
                *(folder / "made" / split for split in ("train", "dev", "test")),
            )
        ),
    ):
        assert answer(case).returncode == 0
    (folder / "empty_folder").mkdir()
    os.mkfifo(folder / "pipe.wav")
    (folder / "file").write_text("a file")
    for name, text in FILES.items():
        if isinstance(text, str):
            text = text.replace(str(PLACE), str(folder)).encode()
        (folder / name).write_bytes(text)
    yield folder
    assert not [path for path in folder.rglob(".*") if path.name.endswith(".part")]


def test_there_are_two_hundred_of_them() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_odd_input_is_answered_well(place: Path, case: Case) -> None:
    result = answer(case.at(place))
    print(f"{case}: {result.stderr.replace(str(place), '...').strip()[-200:]}")
    assert wrong_with(case, result) is None, result.stderr[-500:]
    assert not (place / "out.wav").exists()


@pytest.mark.parametrize("command", ["enhance", "corrupt", "score"])
def test_a_folder_of_bad_files_is_answered_line_by_line(
    place: Path, tmp_path: Path, command: str
) -> None:
    write(place / "bad/good.wav", WAVE)
    write(place / "clean/good.wav", WAVE)
    names = sorted(path.name for path in (place / "bad").iterdir())
    assert len(names) == 26
    if command == "score":  # utt_ids: the stems, of which some are there twice
        bad, clean = tmp_path / "bad", tmp_path / "clean"
        for name in names:
            write(clean / f"{name.replace('.', '_')}.wav", WAVE)
            (bad / f"{name.replace('.', '_')}.wav").parent.mkdir(exist_ok=True)
            (bad / f"{name.replace('.', '_')}.wav").write_bytes((place / "bad" / name).read_bytes())
        result = cli("score", "--metrics", "si_sdr", clean, bad)
        named = [name.replace(".", "_") for name in names]
    elif command == "corrupt":
        folder = tmp_path / "in"
        for name in names:
            (folder / name.replace(".", "_")).mkdir(parents=True)
            (folder / name.replace(".", "_") / name).write_bytes(
                (place / "bad" / name).read_bytes()
            )
        result = cli("corrupt", folder, tmp_path / "out")
        named = names
    else:
        result = cli("enhance", "--model", place / "model", place / "bad", tmp_path / "out")
        named = names
    assert result.returncode == 1 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 25, result.stderr
    for name in named:
        assert sum(name in line for line in errors) == (not name.startswith("good")), (name, errors)
