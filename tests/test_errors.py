"""Errors that name where, what and the remedy; the line that they are."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_denoise import audio
from gan_denoise.errors import InputError, input_error
from gan_denoise.system import workers


@pytest.mark.parametrize(
    "error, fields, line",
    [
        (
            InputError(Path("a.wav"), "is empty", "replace it"),
            ("a.wav", "is empty", "replace it"),
            "a.wav: is empty: replace it",
        ),
        (
            InputError("a masked array", remedy="fill it"),
            ("", "a masked array", "fill it"),
            "a masked array: fill it",
        ),
        (InputError("--port", "is taken"), ("--port", "is taken", ""), "--port: is taken"),
        (InputError("a: b: c"), ("", "a: b: c", ""), "a: b: c"),  # as it was written
    ],
)
def test_an_error_is_its_fields_and_one_line_in_any_process(
    error: Any, fields: tuple[Any, ...], line: str
) -> None:
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert (same.where, same.problem, same.remedy) == fields
        assert str(same) == line


def test_a_file_is_named_once() -> None:
    source, target = Path("in.wav"), Path("out.wav")
    named = InputError(target, "cannot hold 9 channels")
    assert named.at(source, target) is named
    assert str(InputError("is silent").at(source)) == "in.wav: is silent"
    other = InputError("noise.yaml", "is missing", "check the path").at(source)
    assert str(other) == "in.wav: noise.yaml: is missing: check the path"


def test_an_error_of_the_machine_has_the_same_fields() -> None:
    error = input_error(PermissionError(errno.EACCES, "Permission denied", "a.wav"))
    assert (error.where, error.problem) == ("a.wav", "Permission denied")
    assert error.remedy == "change its permissions or write elsewhere"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_worker_passes_the_fields_on(jobs: int, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (outcome,) = workers.each(
        audio.read, [tmp_path / "empty.wav"], jobs=jobs, always_isolated=jobs > 1
    )
    assert outcome.error is not None
    assert outcome.error.where == str(tmp_path / "empty.wav")
    assert outcome.error.remedy == "replace or remove it"
    assert outcome.reason == str(outcome.error)


def test_the_api_says_where() -> None:
    with pytest.raises(InputError) as raised:
        audio.resample(np.zeros((2, 2000)), 16000, 8000)
    assert (raised.value.where, raised.value.remedy) == ("", "transpose them")
