"""The published models: made from trained ones, called by their names, and their rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import gan_denoise
import publish
from conftest import ROOT, cli, here, local, one_error_line, speech_like, write
from gan_denoise import checkpoint, packaged
from gan_denoise.metrics import ALL
from gan_denoise.packaged import PUBLISHED
from reporting import tables
from reporting.statistics import Run
from small_models import SMALL, randomised

CARD = ROOT / "gan_denoise/published/README.md"


def trained(folder: Path, **changes: Any) -> Path:
    """A model directory as a finished training leaves it."""
    options, written = SMALL["causal"], {"generator": SMALL["causal"], "steps": 5}
    config = {"name": "small", "step": 5, "generator": options, "sample_rate": 16000}
    facts = {**config, "experiment": written | changes.pop("experiment", {}), **changes}
    checkpoint.save_model(folder, randomised(options), facts)
    return folder


def test_a_model_is_published_and_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = trained(tmp_path / "model"), tmp_path / "published"
    (model / "trained_on.txt").write_text("salt 1\nspeaker 2\n")
    result = here(publish.main, "publish.py", model, out)
    assert result.returncode == 0 and re.search(r"small: float16; .* [4-9]\d\.\d dB", result.stderr)
    weights = safetensors.torch.load_file(out / "small/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (out / "small/trained_on.txt").read_text() == "salt 1\nspeaker 2\n"
    config = json.loads((out / "small/config.json").read_text())
    assert config["licence"] == "MIT" and config["rounding_snr_db"] > 40
    assert [path.name for path in out.iterdir()] == ["small"]
    monkeypatch.setitem(packaged.MODELS, "small", out / "small")
    wave = speech_like(0)
    ours, whole = (gan_denoise.load(name)(wave, 16000) for name in ("small", model))
    assert ours.dtype == np.float32 and 0 < np.abs(ours - whole).max() < 0.01 * np.abs(whole).max()
    noisy = write(tmp_path / "noisy.wav", wave, subtype="FLOAT")
    result = cli("enhance", "--model", "small", noisy, tmp_path / "out.wav")
    assert result.returncode == 0, result.stderr
    assert "✓ weights" in cli("explain", "small").stdout
    one_error_line(here(publish.main, "publish.py", model, out), "small: exists")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 4}, "was not trained to its end (4 of 5 updates)"),
        ({"experiment": {"scenes": {"recordings": []}}}, "licences config.json does not name"),
        ({"experiment": {"distil": {"teacher": "exp/l1/model"}}}, "does not name"),
    ],
)
def test_what_is_not_to_be_published_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model = trained(tmp_path / "model", **changes)
    one_error_line(here(publish.main, "publish.py", model, tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_model_has_the_nearest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noisy = write(tmp_path / "noisy.wav", speech_like(0))
    for command in (("enhance", "--model", "fils", noisy, "out.wav"), ("explain", "fils")):
        one_error_line(cli(*command), "fils: is not a model directory", 'did you mean "files"?')
    one_error_line(cli("export", "fils", "out.onnx"), "fils: is not a model directory", "files")
    assert cli("serve", "--model", "fils").returncode == 2
    trained(tmp_path / "files")  # a folder with such a name has a path
    assert "seed" in cli("explain", "files").stdout.split("\n")[0]
    assert "small" in cli("explain", "./files").stdout.split("\n")[0]


def rows() -> dict[str, dict[str, str]]:
    """The card's table: name -> heading -> cell."""
    lines = [
        line.strip("|").split("|") for line in CARD.read_text().splitlines() if line[:1] == "|"
    ]
    heading, *body = ([cell.strip(" `") for cell in line] for line in lines)
    return {row[0]: dict(zip(heading, row, strict=True)) for row in body if row[0] in PUBLISHED}


def test_the_published_models_are_small_and_described() -> None:
    assert rows().keys() == PUBLISHED.keys()
    sizes = [path.stat().st_size for folder in PUBLISHED.values() for path in folder.iterdir()]
    assert sum(sizes) <= 16e6
    for name, folder in PUBLISHED.items():
        config = json.loads((folder / "config.json").read_text())
        assert config["name"] == name and config["licence"] == "MIT"
        assert config["step"] == config["experiment"]["steps"]
        assert "✓ weights" in cli("explain", name).stdout


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.read(ROOT / "egs/vctk/results/all_published")


def test_the_cards_rows_are_those_of_the_results(run: Run) -> None:
    whole = tables.systems(run)
    by_name = {row[0]: row for row in whole}
    for name, row in rows().items():
        for metric in ("pesq_wb", "estoi", "si_sdr"):
            heading = ALL[metric].heading
            cell = by_name[name][whole[0].index(heading)] if name in by_name else "-"
            assert row[heading] == cell.split(" ")[0], name


def test_the_verdict_of_the_judges_is_that_of_the_scores(run: Run) -> None:
    """FINDINGS.md's table: each difference, bold where it wins or loses."""
    page = (ROOT / "egs/vctk/FINDINGS.md").read_text(encoding="utf-8")
    below = page.partition("**`gan` wins on no metric")[2]
    table = below[below.index("| judge") :].partition("\n\n")[0]
    heading, _, *rows = (line.strip("| ").split(" | ") for line in table.splitlines())
    judged = {(name, judge): result for name, _, judge, result in tables.judges(run)[1:]}
    for judge, *cells in rows:
        for name, cell in zip(heading[1:], cells, strict=True):
            word, by = judged[name, judge].split(" ")[:2]
            assert cell == (by if word == "ties" else f"**{by}**"), (name, judge)
    assert len(rows) == sum(name == heading[1] for name, _ in judged)
    assert not any(
        result.startswith("wins") for (name, _), result in judged.items() if name == heading[1]
    )


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mini`, ten recordings, and `noisy`, as the card's commands make them."""
    folder = tmp_path_factory.mktemp("published")
    assert local("make_mini", "--voices", 2, "--sentences", 5, folder / "mini").returncode == 0
    assert cli("corrupt", folder / "mini", folder / "noisy").returncode == 0
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_models_figure_is_reproduced(name: str, mini: Path, tmp_path: Path) -> None:
    """By the card's commands, on another machine within 0.02 PESQ."""
    result = cli("enhance", "--model", name, mini / "noisy", tmp_path)
    assert result.returncode == 0, result.stderr
    result = cli("score", "--metrics", "pesq_wb", mini / "mini", tmp_path)
    match = re.search(r"pesq_wb +(\d\.\d+) +10 of 10", result.stdout)
    assert match, result.stderr
    assert float(match[1]) == pytest.approx(float(rows()[name]["mini"]), abs=0.02)
