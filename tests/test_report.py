"""The report: intervals, seeds that are pooled, differences that are paired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import CONF
from gan_denoise import scoring
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.errors import InputError
from report import report
from reporting import legend, tables
from reporting.bootstrap import estimate
from reporting.experiments import EXPERIMENTS, describe
from reporting.formats import FORMATS, comma_separated, latex, markdown
from reporting.results import opening, section
from reporting.statistics import Run
from reporting.verdict import verdict
from training.experiment import read_experiment


def test_an_interval_covers_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many small studies with a known mean of 0, about 95 % contain that mean.

    Each has 8 speakers, and with so few it is somewhat less than 95 %.
    """
    monkeypatch.setattr("reporting.bootstrap.REPLICATES", 500)
    draw = np.random.default_rng(0)
    covered, widths = 0, []
    for study in range(200):
        speakers = {
            str(i): draw.normal(draw.normal(0.0, 0.3), 0.5, size=12).tolist() for i in range(8)
        }
        interval = estimate(speakers, seed=study)
        covered += interval.low <= 0.0 <= interval.high
        widths.append((interval.high - interval.low) / 2)
    assert 0.84 < covered / 200 <= 1.0
    assert np.mean(widths) == pytest.approx(1.96 * np.sqrt((0.3**2 + 0.5**2 / 12) / 8), rel=0.2)


def test_an_estimate_is_a_mean_over_speakers() -> None:
    estimated = estimate({"a": [1.0] * 9, "b": [3.0]})
    assert estimated == pytest.approx((2.0, 1.0, 3.0))
    assert estimate({"a": [0.5, 0.5], "b": [0.5]}) == (0.5, 0.5, 0.5)


UTTERANCES = {
    f"{speaker}_{number}": 1.0 + 0.2 * number + (speaker == "b")
    for speaker in "ab"
    for number in range(6)
}


def write_results(
    folder: Path,
    name: str,
    system: str,
    seed: int | str,
    pesq: Mapping[str, float | None],
    **columns: Any,
) -> None:
    rows = [
        {
            "system": system,
            "seed": seed,
            "split": "test",
            "utt_id": utt_id,
            "spk_id": utt_id[0],
            "fingerprint": "f",
            "pesq_wb": value,
            "stoi": 0.9,
            "estoi": 0.8,
            "si_sdr": 5.0,
            "wsdr": -0.9,
            **columns,
        }
        for utt_id, value in pesq.items()
    ]
    scoring.write_csv(folder / f"{name}.csv", rows)


def shifted(by: float) -> dict[str, float]:
    return {key: value + by for key, value in UTTERANCES.items()}


def about(folder: Path, corpora: dict | None = None, **models: Any) -> None:
    corpus = {"layout": "plain", "sample_rate": 16000, "speakers": {"train": []}}
    record = {
        "command": "",
        "corpus": corpus | ({"corpora": corpora} if corpora else {}),
        "noise": {"fingerprint": "f"},
        "models": models,
    }
    (folder / "about.yaml").write_text(dump_yaml(record))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(tmp_path, "noisy", "noisy", "", UTTERANCES)
    write_results(tmp_path, "oracle_mag", "oracle_mag", "", dict.fromkeys(UTTERANCES, 4.0))
    write_results(tmp_path, "l1", "l1", 0, shifted(0.5))
    write_results(tmp_path, "gan", "gan", 0, shifted(0.6))
    write_results(tmp_path, "gan_seed1", "gan", 1, shifted(0.8))
    about(tmp_path)
    return tmp_path


def test_seeds_are_pooled_and_differences_paired(results: Path) -> None:
    run = Run.read(results)
    assert list(run.systems) == ["noisy", "oracle_mag", "l1", "gan"]
    assert run.folders["gan"] == ["gan", "gan_seed1"] and run.label("gan") == "gan (2 seeds)"
    assert run.means("noisy")["pesq_wb"] == pytest.approx(2.0)
    assert run.means("gan")["pesq_wb"] == pytest.approx(2.7)
    difference = run.difference("gan", "l1", "pesq_wb")
    # Every utterance of seed 0, which both have, differs by the same
    assert difference == pytest.approx((0.1, 0.1, 0.1))
    assert run.differences() == [("gan", "l1")]
    assert "| gan - l1   |     1 | +0.100 [+0.100, +0.100] |" in markdown(tables.differences(run))
    assert "24 of 24" in markdown(tables.systems(run)) and "Paired differences" in section(run)
    assert tables.missing(run) == []


def test_the_verdict_credits_each_difference_with_what_it_is(results: Path) -> None:
    """Not the adversary with what the STFT loss does."""
    write_results(results, "l1_mrstft", "l1_mrstft", 0, shifted(0.55))
    alone = (
        "gan is better than l1_mrstft in PESQ-WB: +0.050 [+0.050, +0.050], and +0.00 [+0.00, +0.00]"
        " dB in SI-SDR. The two differ by the adversary alone."
    )
    both = (
        "gan is better than l1 in PESQ-WB: +0.100 [+0.100, +0.100], and +0.00 [+0.00, +0.00] dB in"
        " SI-SDR. The two differ by the adversary and the mrstft loss."
    )
    assert verdict(Run.read(results)).endswith(f"{alone} {both}")
    write_results(results, "l1_mrstft", "l1_mrstft", 0, shifted(0.58))
    level = "gan is level with l1_mrstft in PESQ-WB: +0.020 [+0.020, +0.020] (less than 0.03"
    assert f"{level} counts as level), and" in verdict(Run.read(results))
    (results / "l1_mrstft.csv").unlink()
    unknown = "These systems do not tell which of these parts matters."
    assert verdict(Run.read(results)).endswith(f"{both} {unknown}")
    (results / "l1.csv").unlink()
    assert "adversary" not in verdict(Run.read(results))


def test_a_new_experiment_is_one_file(
    results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The experiment stands in the tables, compared with what its file names.

    One that names nothing is compared with its base and l1, and the table says so.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    base = (EXPERIMENTS / "gan.yaml").read_text()
    (elsewhere / "gan.yaml").write_text(base)
    (elsewhere / "mine.yaml").write_text(
        "# gan with a third more of L1. Is that better?\nbase: gan.yaml\ncompare_with: gan\n"
        "losses: {l1: 13.0}\n"
    )
    (elsewhere / "old.yaml").write_text("base: gan.yaml\nadversary: null\n")
    files = {name: elsewhere / f"{name}.yaml" for name in ("mine", "old")}
    for number, name in enumerate(files):
        assert read_experiment(files[name], [], CONF).steps == 4000
        write_results(results, name, name, 0, shifted(0.9 + 0.1 * number))
    record = read_yaml(results / "about.yaml")
    record["experiments"] = describe(dict.fromkeys(("l1", "gan", *files), True), files)
    (results / "about.yaml").write_text(dump_yaml(record))
    run = Run.read(results)
    assert run.differences() == [("gan", "l1"), ("mine", "gan"), ("old", "gan"), ("old", "l1")]
    sentences = verdict(run).split(". ")
    assert "The two differ by the adversary alone" in sentences
    assert any(sentence.startswith("old is better than gan in PESQ-WB: ") for sentence in sentences)
    assert tables.comparisons(run) == [
        "old is compared with gan, l1: old.yaml has no compare_with, so it is compared with its"
        " base and the baseline."
    ]
    assert dict(legend.systems([run]))["mine"] == "gan with a third more of L1"
    assert len(tables.headlines(run)[0]) == len(tables.condition_headlines(run)[0]) == 5
    assert "- mine: gan with a third more of L1.\n" in opening([run])


def test_judges_that_were_asked_for_are_columns(results: Path) -> None:
    assert "wer" not in Run.read(results).shown
    for name in ("noisy", "oracle_mag", "l1", "gan"):
        write_results(results, name, name, 0, shifted(0.5), wer=0.25, wer_insertions=1.0)
    run = Run.read(results)
    assert run.shown[-1] == "wer" and dict(legend.columns([run]))["WER"].endswith("lower is better")


def test_who_wins_by_which_judge(results: Path) -> None:
    """In one metric gan wins, in one it loses, in one it ties; on another test it has no WER."""
    assert len(tables.judges(Run.read(results))) == 1  # none was asked
    (results / "loud").mkdir()
    for name, by, wer in (("noisy", 0.0, 0.5), ("oracle_mag", 2.0, 0.1), ("l1", 0.5, 0.2)):
        write_results(results, name, name, 0, shifted(by), wer=wer)
        write_results(results / "loud", name, name, 0, shifted(by))
    for place in (results, results / "loud"):
        write_results(place, "gan", "gan", 0, shifted(0.6), wer=0.3)
    heading, *rows = tables.judges(Run.read(results))
    assert heading == ["difference", "on", "judge", "result"]
    by_judge = {(on, judge): result for name, on, judge, result in rows if name == "gan - l1"}
    assert by_judge["test", "PESQ-WB"] == "wins +0.100 [+0.100, +0.100]"
    assert by_judge["test", "ESTOI"].startswith("ties +0.000")
    assert by_judge["test", "WER"].startswith("loses +0.100")
    assert by_judge["loud", "PESQ-WB"] == by_judge["test", "PESQ-WB"]
    assert ("loud", "WER") not in by_judge
    assert "Who wins by which judge" in section(Run.read(results))


def test_p_is_corrected_for_the_number_of_pairs(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(results, "l1_mrstft", "l1_mrstft", 0, shifted(0.55))
    run = Run.read(results)
    p_values = {("l1_mrstft", "l1"): 0.01, ("gan", "l1_mrstft"): 0.04, ("gan", "l1"): 0.03}
    monkeypatch.setattr(Run, "p_value", lambda self, *pair: p_values[pair])
    corrected = {("l1_mrstft", "l1"): 0.03, ("gan", "l1_mrstft"): 0.06, ("gan", "l1"): 0.06}
    assert run.corrected == pytest.approx(corrected)


def test_means_side_by_side_are_over_the_same_utterances(results: Path) -> None:
    """One of two equal systems lacks one value, and both still have the same means and gaps.

    What is missing is named.
    """
    write_results(results, "twin", "twin", 0, shifted(0.5) | {"b_5": None})
    run = Run.read(results)
    means = {name: run.means(name)["pesq_wb"] for name in run.systems}
    assert means["twin"] == means["l1"] and run.gap_closed("twin", "pesq_wb") == run.gap_closed(
        "l1", "pesq_wb"
    )
    assert means["noisy"] == pytest.approx((1.5 + np.mean([2.0, 2.2, 2.4, 2.6, 2.8])) / 2)
    (line,) = tables.missing(run)
    assert (
        line
        == "PESQ-WB: means over the 11 of 12 utterances that all systems have; without a value:"
        " twin 1 of 12 (b_5)."
    )
    assert line in section(run) and "11 of 12" in markdown(tables.systems(run))
    assert set(run.values("twin", "pesq_wb")) == {
        (key[0], key) for key in UTTERANCES if key != "b_5"
    }


def test_a_condition_has_its_own_differences_of_each_corpus_too(results: Path) -> None:
    """Those of the whole, of the systems that were tested there, on the noise of that test."""
    (results / "loud").mkdir()
    for name, gain in {"noisy": 0.0, "l1": 0.4, "gan": 0.1}.items():
        heard = {key: value - (key[0] == "b") for key, value in shifted(gain).items()}
        write_results(results / "loud", name, name, 0, heard, fingerprint="louder")
    write_results(results, "other", "other", 0, shifted(0.2))
    about(results, {"both": ["a", "b"], "one": ["a"]})
    run = Run.read(results)
    assert tables.conditions(run)[1:] == [
        ["noisy", "1.50 / 5.0"],
        ["l1", "1.90 / 5.0"],
        ["gan", "1.60 / 5.0"],
    ]
    (row,) = tables.condition_differences(run)[1:]
    assert row[:4] == ["gan - l1", "loud", "1", "-0.300 [-0.300, -0.300]"] and "worse" in row
    both, one = (tables.condition_differences(part)[1:] for part in run.by_corpus().values())
    assert both == [row] and one[0][:4] == ["gan - l1", "loud", "1", "-"]  # of one speaker
    assert section(run).count("| gan - l1   | loud |") == 6


@pytest.mark.parametrize(
    "kept", [{"a_0"}, {key for key in UTTERANCES if key[0] == "a"}, {"a_0", "a_1", "b_0"}]
)
def test_too_few_utterances_or_speakers_have_no_interval_and_no_verdict(
    kept: Any, tmp_path: Path
) -> None:
    for name, gain in (("noisy", 0.0), ("oracle_mag", 2.0), ("l1", 0.5), ("gan", 0.6)):
        write_results(tmp_path, name, name, 0, {key: UTTERANCES[key] + gain for key in kept})
    about(tmp_path)
    run = Run.read(tmp_path)
    assert tables.differences(run, ("pesq_wb",))[1] == ["gan - l1", "1", "-", "-", "-", "-"]
    assert "±" not in markdown(tables.systems(run)) and "[" not in verdict(run)


def test_at_8_khz_the_narrow_band_leads(tmp_path: Path) -> None:
    for name, gain in (("noisy", 0.0), ("oracle_mag", 2.0), ("l1", 0.5), ("gan", 0.6)):
        narrow = [(key, value + gain) for key, value in UTTERANCES.items()]
        rows = [
            {
                "system": name,
                "seed": 0,
                "split": "test",
                "utt_id": key,
                "spk_id": key[0],
                "fingerprint": "f",
                "pesq_nb": value,
                "stoi": 0.9,
                "si_sdr": 5.0,
            }
            for key, value in narrow
        ]
        scoring.write_csv(tmp_path / f"{name}.csv", rows)
    about(tmp_path)
    run = Run.read(tmp_path)
    assert run.shown == ("pesq_nb", "stoi", "si_sdr") and "PESQ-NB" in markdown(tables.systems(run))
    assert tables.differences(run)[0][-3] == "in PESQ-NB" and run.verdict("gan", "l1") == "better"
    assert verdict(run).startswith("gan takes PESQ-NB from 2.00 to 2.60 (30 % of the gap")


def test_at_48_khz_tables_have_what_lies_above_8_khz(results: Path) -> None:
    assert not {"lsd_high", "si_sdr_high"} & set(Run.read(results).shown)
    for path in results.glob("*.csv"):
        rows = scoring.read_csv(path)
        scoring.write_csv(path, [row | {"lsd_high": 6.5, "si_sdr_high": -1.25} for row in rows])
    run = Run.read(results)
    assert run.shown[-2:] == ("lsd_high", "si_sdr_high")
    heading, noisy, *_ = tables.systems(run)
    assert noisy[heading.index("LSD > 8 kHz dB")] == "6.50"
    assert noisy[heading.index("SI-SDR > 8 kHz dB")] == "-1.25"
    meanings = dict(legend.columns([run]))
    assert meanings["LSD > 8 kHz dB"].endswith("lower is better")
    assert meanings["SI-SDR > 8 kHz dB"].endswith("higher is better")


def test_a_metric_that_a_system_lacks_is_no_tie(results: Path) -> None:
    write_results(results, "gan", "gan", 0, dict.fromkeys(UTTERANCES))
    (results / "gan_seed1.csv").unlink()
    run = Run.read(results)
    assert run.verdict("gan", "l1") == "-" and run.p_value("gan", "l1") is None
    # What has none at all takes none from the others
    assert run.means("l1")["pesq_wb"] == pytest.approx(2.5)


def test_a_system_from_elsewhere_is_compared_with_all_seeds(results: Path) -> None:
    write_results(results, "theirs", "theirs", "", shifted(0.9))
    run = Run.read(results)
    assert ("theirs", "l1") in run.differences() and ("theirs", "gan") in run.differences()
    gains = [run.difference("theirs", name, "pesq_wb") for name in ("l1", "gan")]
    assert [gain and gain.mean for gain in gains] == pytest.approx([0.4, 0.2])  # of gan's two seeds


def test_a_row_is_one_training(results: Path) -> None:
    """Experiments of one name and other settings are rows of their own.

    One seed twice is refused.
    """
    write_results(results, "mine", "gan", 0, shifted(0.9))
    with pytest.raises(
        InputError, match="mine.csv: is gan with seed 0, as gan is: remove one of the two"
    ):
        Run.read(results)
    about(results, gan={"settings": "x"}, gan_seed1={"settings": "x"}, mine={"settings": "y"})
    run = Run.read(results)
    assert list(run.systems) == ["noisy", "oracle_mag", "l1", "gan", "mine"]
    assert run.label("gan") == "gan (2 seeds)" and run.means("mine")["pesq_wb"] == pytest.approx(
        2.9
    )


def test_tables_that_are_none_are_refused(results: Path) -> None:
    write_results(results, "a|b", "a|b", 0, shifted(0.1))
    run = Run.read(results)
    assert (
        "| a\\|b " in markdown(tables.systems(run))
        and len({line.count(" | ") for line in markdown(tables.systems(run)).splitlines()[2:]}) == 1
    )
    text = (results / "l1.csv").read_text()
    for changed, message in (
        (text.replace("1.500000", "nan"), "l1.csv: a_0: pesq_wb: is not a score: 'nan'"),
        (text.replace("1.500000", "good"), "l1.csv: a_0: pesq_wb: is not a score: 'good'"),
        (text.replace("system", "method", 1), "l1.csv: has no column system"),
        ("", "l1.csv: holds no scores"),
    ):
        (results / "l1.csv").write_text(changed)
        with pytest.raises(InputError, match=message):
            Run.read(results)
    (results / "l1.csv").write_bytes(b"utt_id\n\xff\n")
    with pytest.raises(InputError, match="l1.csv: is not a table of scores"):
        Run.read(results)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        report(tmp_path / "exp", tmp_path / "data", "")
    assert not list(tmp_path.iterdir())


def test_tables_for_papers_and_programs() -> None:
    cells = [["system", "PESQ-WB", "p"], ["l1_mrstft, 2 seeds", "2.46 ± 0.06", "-"]]
    assert comma_separated(cells) == ('system,PESQ-WB,p\n"l1_mrstft, 2 seeds",2.46 ± 0.06,-\n')
    assert latex(cells).splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"system & PESQ-WB & p \\",
        r"\midrule",
        r"l1\_mrstft, 2 seeds & 2.46 $\pm$ 0.06 & - \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert [write(cells[:1]) for write in FORMATS.values()] == ["", "", ""]
