"""run.sh as a newcomer calls it: the whole recipe on a small mini corpus, repeats, refusals."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import CONF, ROOT, local, one_error_line, run
from gan_denoise.scoring import read_csv

RUN = ROOT / "egs/vctk/run.sh"


REPORT = ROOT / "recipes/report.py"


TINY = (
    "steps=6 warm_start_steps=3 discriminator_steps=2 batch_size=2 segment_s=0.5 workers=0"
    " validate_utterances=2 generator.width=8 generator.blocks=1"
)


def recipe(*options: Any, **others: Any) -> subprocess.CompletedProcess:
    return run("bash", RUN, *options, **others)


SYSTEMS = ("l1", "l1_mrstft", "gan")  # what mini trains where nothing is said
DIFFERENCES = ("l1_mrstft - l1", "gan - l1_mrstft", "gan - l1")


@pytest.fixture(scope="module")
def small_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus made as stage 0 makes it, with 4 voices and 5 sentences."""
    folder = tmp_path_factory.mktemp("recipe")
    result = local("make_mini", "--voices", 4, "--sentences", 5, folder / "mini")
    assert result.returncode == 0, result.stderr
    return folder


OPTIONS = ["--corpus", "mini/", "--data", "data", "--exp=exp", "--nj", "2"]
OPTIONS += ["--train-opts", TINY, "--conditions", "clean"]


def test_from_a_corpus_to_a_table(small_mini: Path, prepared: Path) -> None:
    """In parts that build on each other."""
    result = recipe("--stage", 0, *OPTIONS, cwd=small_mini)  # paths are relative to the caller
    assert result.returncode == 0, result.stderr
    # The tables are what a newcomer reads
    assert "| l1" in result.stdout and "| gan - l1" in result.stdout
    the_tables_are_whole(small_mini / "exp")
    the_scores_are_those_of_their_systems(small_mini / "exp")
    the_page_is_whole(small_mini / "exp")
    a_finished_stage_does_nothing_again(small_mini)
    what_was_spoiled_is_made_anew(small_mini)
    looked = recipe("--stage", 4, "--data", "data", "--exp=exp", cwd=small_mini)
    assert "first look" in looked.stderr and "clean zero scale add heavy mixed" in looked.stderr
    other_settings_and_data_are_refused(small_mini, prepared)


def the_tables_are_whole(exp: Path) -> None:
    results = (exp / "RESULTS.md").read_text()
    assert "bash egs/vctk/run.sh --stage 0 --corpus mini/ --data data" in results
    rows = [line.split("|")[1].strip() for line in results.splitlines() if line.startswith("| ")]
    oracles = ("noisy", "oracle mask", "oracle magnitude")
    differences = ("difference", *DIFFERENCES) * 2  # in five columns, and in all metrics
    assert rows == [
        *("system", *oracles, *SYSTEMS, *differences),
        *("PESQ-WB / SI-SDR dB", *oracles, *SYSTEMS, *differences),  # on clean
        *("PESQ-WB gain", *SYSTEMS),
    ]
    assert results.split("bash egs")[1].count("2 of 2") == 6


def the_scores_are_those_of_their_systems(exp: Path) -> None:
    clean = read_csv(exp / "noisy/conditions/clean/scores.csv")
    # Nothing is damaged there
    assert all(row["si_sdr"] == 100.0 and row["pesq_wb"] > 4.6 for row in clean)
    assert len(read_csv(exp / "gan/conditions/clean/scores.csv")) == 2
    scores = {name: read_csv(exp / name / "scores.csv") for name in ("noisy", "oracle_mag", "l1")}
    assert scores["l1"][0]["system"] == "l1" and scores["l1"][0]["seed"] == "0"
    assert scores["noisy"][0]["seed"] == ""
    assert len({row["fingerprint"] for rows in scores.values() for row in rows}) == 1
    for noisy, oracle in zip(scores["noisy"], scores["oracle_mag"], strict=True):
        assert oracle["pesq_wb"] > noisy["pesq_wb"] + 1.0
        assert oracle["si_sdr"] > noisy["si_sdr"] + 5.0


def the_page_is_whole(exp: Path) -> None:
    page = (exp / "report.html").read_text()
    assert page.count("class=room ") == 2 and page.count("data-system=") == 2 * 5
    assert "http://" not in page and "https://" not in page  # opens offline
    assert any((exp / "l1/tensorboard").iterdir())


def a_finished_stage_does_nothing_again(folder: Path) -> None:
    exp, data = folder / "exp", folder / "data"
    files = [*data.rglob("*.wav"), *exp.rglob("scores.csv"), *exp.rglob("enhanced.scp")]
    times = {path: path.stat().st_mtime_ns for path in files}
    again = recipe("--stage", 0, "--stop-stage", 4, *OPTIONS, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times


def what_was_spoiled_is_made_anew(folder: Path) -> None:
    exp, data = folder / "exp", folder / "data"
    results = (exp / "RESULTS.md").read_text()
    enhanced = sorted((exp / "l1/enhanced").iterdir())
    before = enhanced[0].read_bytes()
    enhanced[0].write_bytes(enhanced[1].read_bytes())
    os.utime(exp / "l1/scores.csv", (4e9, 4e9))  # dated in the future: contents decide
    refused = run("python", REPORT, "--data", data, exp)
    words = ("l1/scores.csv: does not belong to the files in", "run stages 3 and 4 again")
    one_error_line(refused, *words)
    assert local("enhance", exp / "l1/model", data / "test", exp / "l1").returncode == 0
    assert enhanced[0].read_bytes() == before
    command = yaml.safe_load((exp / "about.yaml").read_text())["command"]
    (exp / "RESULTS.md").unlink()
    again = run("python", REPORT, "--command", command, "--data", data, exp)
    assert again.returncode == 0, again.stderr
    assert (exp / "RESULTS.md").read_text() == results  # stage 5 repeated says the same
    assert yaml.safe_load((data / "corpus.yaml").read_text())["mini"] is True


def other_settings_and_data_are_refused(folder: Path, other_data: Path) -> None:
    other = f"{TINY} optimizer.lr=1e-2"  # or other figures would stand below this command
    result = recipe("--stage", 3, *OPTIONS, "--train-opts", other, cwd=folder)
    one_error_line(result, "exp/l1: was started with other settings", "optimizer.lr")
    one = ("--experiments", "l1")  # which no other has to be built for
    for stage in ("2", "3", "5"):  # an exp folder belongs to one data folder
        words = "with other settings" if stage == "2" else "was made from other data"
        asked = ("--stage", stage, "--stop-stage", stage, "--data", other_data)
        result = recipe(*asked, "--exp", folder / "exp", *one, cwd=folder)
        one_error_line(result, words, "--exp")
    for changed, expected in {
        ("--sample-rate", "48000"): ["--sample-rate 16000, not 48000"],
        ("--subset", "2"): ["--subset"],
        ("--corpus", str(folder)): ["--corpus"],
        ("--noise", str(CONF / "noise_heavy.yaml")): ["corrupted by another procedure", "--noise"],
    }.items():
        for stages in (("0", "1"), ("2", "2")):
            some = ("--stage", stages[0], "--stop-stage", stages[1])
            result = recipe(*some, *OPTIONS, *changed, *one, cwd=folder)
            one_error_line(result, *expected, "--data")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--conditions", "loud"], ['unknown condition "loud"', "clean add heavy"]),
        (["--stages", "0"], ["unknown option --stages (did you mean --stage?)"]),
        (["--stage"], ["--stage needs a value"]),
        (["--stage", "two"], ["--stage: expected a whole number"]),
        (["--stage", "9"], ["--stage 9", "from -1 to 5"]),
        (["--stage", "3", "--stop-stage", "2"], ["nothing to do"]),
        (["--seeds", "0 00"], ['--seeds: expected whole numbers, found "00"']),
        (["--seeds", "1 0 1"], ["--seeds: 1 is listed twice"]),
        (["--external", "a=. b=. a=."], ["--external: a is named twice"]),
        (["--train-opts", "steps=6 seed=1 steps=9"], ["--train-opts: steps is set twice"]),
        (["--ngpu", "-1"], ["--ngpu: expected a whole number from 0"]),
        (["--sample-rate", "18446744073709567616"], ["--sample-rate: expected a whole number"]),
        (["--equal-names", "apart"], ["--equal-names: is for several corpora"]),
        (["--metrics", "wer", "--stage", "5"], ["--metrics: is for stage 4"]),
        (["--stage", "5", "--seeds", "0 1"], ["exp/l1: has no scores: run stages 2 to 4 for it"]),
        (["--nj", "0"], ["--nj: expected a whole number from 1"]),
        (["--sample-rate", "4800"], ["--sample-rate: expected 8000 to 192000 Hz, found 4800"]),
        (["stage"], ['unexpected argument "stage"']),
        (["--experiments", "l2"], ['unknown experiment "l2"', "l1"]),
        (["--which", "first"], ['--which: expected last or best, found "first"']),
        (["--external", "theirs"], ['--external: expected NAME=FOLDER, found "theirs"']),
        (["--external", "theirs=nowhere"], ["--external: nowhere: no such folder"]),
        (["--external", "gan=."], ["--external: gan is one of --experiments"]),
        (["--train-opts", "seed=5"], ['--seeds "5"']),
        (["--split", "nowhere.yaml"], ["--split", "nowhere.yaml: no such file"]),
        (["--corpus", "nowhere"], ["no such corpus folder"]),
        (["--stage=3"], ["run stage 0 first"]),
        (["--stage=-1", "--stop-stage=-1"], ["--corpus DIR"]),
    ],
)
def test_wrong_options_are_one_line(options: list[str], words: list[str], tmp_path: Path) -> None:
    one_error_line(recipe(*options, "--data", "data", "--exp", "exp", cwd=tmp_path), *words)


def test_a_stage_that_fails_ends_the_run(prepared: Path, tmp_path: Path) -> None:
    """Also the fourth, of which one exit status means that it went on."""
    asked = ["--stage", 4, "--data", prepared, "--exp", tmp_path, "--experiments", "l1"]
    result = recipe(*asked, "--conditions", " ")
    one_error_line(result, "oracle_mag/enhanced.scp: is missing: run stage 3 first")
    assert "stage 5" not in result.stdout + result.stderr


def test_bad_noise_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "noise.yaml").write_text("seed: 0\nstft: {n_fft: 1024}\nmanipulations: []\n")
    safe = {"PYTHONSAFEPATH": "1"}  # programs find their own modules all the same
    options = ["--noise", "noise.yaml", "--data", "data", "--exp", "exp"]
    result = recipe(*options, cwd=tmp_path, env=safe)
    one_error_line(result, "noise.yaml: stft: window")
    assert {path.name for path in tmp_path.iterdir()} == {"noise.yaml"}


def test_a_run_that_was_started_with_wrong_data_does_not_claim_its_exp(
    prepared: Path, tmp_path: Path
) -> None:
    """Only a finished model does; that of other data is named."""
    check = "same_data", prepared, tmp_path / "exp"
    (tmp_path / "exp/l1").mkdir(parents=True)
    (tmp_path / "exp/l1/checkpoint.pt").write_text("of a run that was stopped at once")
    assert local(*check).returncode == 0
    (tmp_path / "exp/l1/model").mkdir()
    (tmp_path / "exp/l1/model/config.json").write_text(
        '{"data": {"train": "0", "dev": "0"}, "noise": "0"}'
    )
    one_error_line(local(*check), "exp/l1: was made from other data", "--data", "--exp")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("corrupt", ["--jobs", "0", "x"]),
        ("oracle", ["--jobs", "-1", "x", "y", "z"]),
        ("prepare", ["--sample-rate", "0", "x"]),
        ("prepare", ["--subset", "-1", "x"]),
    ],
)
def test_counts_are_from_one(script: str, options: list[str]) -> None:
    result = local(script, *options)
    assert result.returncode == 2 and "expected a whole number from 1" in result.stderr


def test_help_names_every_option(tmp_path: Path) -> None:
    result = recipe("--help")
    assert result.returncode == 0
    for option in (
        "--stage",
        "--corpus",
        "--noise",
        "--split",
        "--subset",
        "--experiments",
        "--which",
        "--external",
        "--seeds",
        "--ngpu",
        "--nj",
        "--cmd",
        "--slurm",
    ):
        assert option in result.stdout


def test_however_the_script_is_called(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "linked.sh").symlink_to(RUN)
    one_error_line(
        run("bash", tmp_path / "linked.sh", "--experiments", "l2"),
        'unknown experiment "l2"',
        "l1_mrstft",
    )
    one_error_line(run("sh", RUN, "--stage", 5), "this is a script for bash")
    # A blank within a setting, two between
    settings = "gain_db=[-12.0, 6.0]  optimizer.betas=[0.8, 2.0]"
    stage = ["--stage", 2, "--stop-stage", 2, "--experiments", "l1", "--conditions", ""]
    result = recipe(*stage, "--data", prepared, "--exp", tmp_path / "exp", "--train-opts", settings)
    one_error_line(result, "betas", "2.0")


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/dev/full").exists(), reason="root may write anywhere"
)
def test_unwritable_output_is_one_line(plain_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder is wanted")
    result = recipe(
        "--corpus",
        plain_corpus,
        "--data",
        tmp_path / "file/data",
        "--exp",
        tmp_path / "exp",
        "--stop-stage",
        0,
    )
    one_error_line(result, str(tmp_path / "file"))
