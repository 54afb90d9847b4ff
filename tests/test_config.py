"""YAML: an experiment's base and changes; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_denoise import config
from gan_denoise.errors import InputError


def test_experiments_merge_their_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nb: [1, 2]\nc: 1e-3\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\na: {y: 3}\nb: [9]\nc: null\n")
    assert config.load_experiment(tmp_path / "own.yaml") == {"a": {"x": 1, "y": 3}, "b": [9]}
    changed = config.load_experiment(tmp_path / "own.yaml", ["a.x=null", "a.z=1e-2", "d.e=[1, 2]"])
    assert changed == {"a": {"y": 3, "z": 0.01}, "b": [9], "d": {"e": [1, 2]}}
    # Plain PyYAML would read a string
    assert config.load_experiment(tmp_path / "base.yaml")["c"] == 0.001
    (tmp_path / "third.yaml").write_text("base: own.yaml\n")
    with pytest.raises(InputError, match="one level only"):
        config.load_experiment(tmp_path / "third.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'key "a" is given twice'),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        config.read_yaml(tmp_path / "bad.yaml")
