"""The report: intervals, seeds that are pooled, differences that are paired."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from bootstrap import estimate
from results import Run

from gan_denoise import scoring


def test_an_interval_covers_the_truth_as_often_as_it_says(monkeypatch):
    """Many small studies of 8 speakers with a known mean of 0: about 95 % (fewer, with so few speakers) contain it."""
    monkeypatch.setattr("bootstrap.REPLICATES", 500)
    draw = np.random.default_rng(0)
    covered, widths = 0, []
    for study in range(200):
        speakers = {str(i): draw.normal(draw.normal(0.0, 0.3), 0.5, size=12).tolist() for i in range(8)}
        found = estimate(speakers, seed=study)
        covered += found.low <= 0.0 <= found.high
        widths.append((found.high - found.low) / 2)
    assert 0.84 < covered / 200 <= 1.0
    assert np.mean(widths) == pytest.approx(1.96 * np.sqrt((0.3**2 + 0.5**2 / 12) / 8), rel=0.2)


def test_an_estimate_is_a_mean_over_speakers():
    found = estimate({"a": [1.0] * 9, "b": [3.0]})
    assert found.mean == 2.0 and (found.low, found.high) == (1.0, 3.0)
    assert estimate({"a": [0.5, 0.5], "b": [0.5]}) == (0.5, 0.5, 0.5)


@pytest.fixture
def results(tmp_path):
    def write(name: str, system: str, seed: int | str, pesq: dict[str, float]) -> None:
        rows = [
            {
                "system": system, "seed": seed, "split": "test", "utt_id": utt_id, "spk_id": utt_id[0],
                "fingerprint": "f", "pesq_wb": value, "stoi": 0.9, "estoi": 0.8, "si_sdr": 5.0, "wsdr": -0.9,
            }
            for utt_id, value in pesq.items()
        ]  # fmt: skip
        scoring.write_csv(tmp_path / f"{name}.csv", rows)

    noisy = {"a_1": 1.0, "a_2": 1.2, "b_1": 1.4}
    write("noisy", "noisy", "", noisy)
    write("oracle_mag", "oracle_mag", "", {key: 3.0 for key in noisy})
    write("l1", "l1", 0, {key: value + 0.5 for key, value in noisy.items()})
    write("gan", "gan", 0, {key: value + 0.6 for key, value in noisy.items()})
    write("gan_seed1", "gan", 1, {key: value + 0.8 for key, value in noisy.items()})
    about = {
        "command": "", "corpus": {"layout": "plain", "sample_rate": 16000, "speakers": {"train": []}},
        "noise": {"fingerprint": "f"}, "models": {},
    }  # fmt: skip
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(about))
    return tmp_path


def test_seeds_are_pooled_and_differences_paired(results):
    run = Run.read(results)
    assert list(run.systems) == ["noisy", "oracle_mag", "l1", "gan"]
    assert run.folders["gan"] == ["gan", "gan_seed1"] and run.label("gan") == "gan (2 seeds)"
    assert run.means("noisy")["pesq_wb"] == pytest.approx((1.1 + 1.4) / 2)
    assert run.means("gan")["pesq_wb"] == pytest.approx((1.8 + 2.1) / 2)
    found = run.difference("gan", "l1", "pesq_wb")
    assert found == pytest.approx((0.1, 0.1, 0.1))  # every utterance of seed 0, which both have, differs by the same
    assert run.differences() == [("gan", "l1")]
    assert "| gan - l1   |     1 | +0.100 [+0.100, +0.100] |" in run.differences_table()
    assert "6 of 6" in run.table() and "Paired differences" in run.section()


def test_an_utterance_that_one_system_failed_is_in_no_difference(results):
    text = (results / "gan_seed1.csv").read_text().splitlines()
    column = text[0].split(",").index("pesq_wb")
    cells = text[1].split(",")
    cells[column] = ""
    (results / "gan_seed1.csv").write_text("\n".join([text[0], ",".join(cells), *text[2:]]) + "\n")
    run = Run.read(results)
    assert set(run.values("gan", "pesq_wb")) == {("a", "a_2"), ("b", "b_1")}
    assert "5 of 6" in run.table()
