"""From files to the table: what does not belong together is refused, or named."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
import yaml

import report
from conftest import here, local, one_error_line, run
from gan_denoise import checkpoint, datadir, generators, metrics
from gan_denoise.errors import InputError
from gan_denoise.provenance import code, overlap
from gan_denoise.provenance.inputs import data_digest
from gan_denoise.scoring import read_csv
from gan_denoise.system.files import digest
from reporting.statistics import Run
from test_corpora import voicebank
from test_report import about, results, shifted, write_results  # noqa: F401
from training_runs import TRAIN


def model(folder: Path, data: Path, seed: int, name: str = "l1") -> None:
    """A model of random weights, with a config.json as training writes it of this data."""
    torch.manual_seed(seed)
    options = {"name": "convnext", "width": 8, "blocks": 1, "level_ms": 64.0}
    splits = {part: datadir.read(data / part, noisy=True) for part in ("train", "dev")}
    config = {
        "name": name,
        "generator": options,
        "experiment": {"generator": options},
        "sample_rate": 16000,
        "noise": datadir.read_noise(data / "train")["fingerprint"],
        "data": {part: data_digest(split, data / part) for part, split in splits.items()},
        **{"seed": 0, "step": 4, "parameters": 100, "trained_s": 1, "machine": "test"},
    }
    generator = generators.build(options, sample_rate=16000)
    with torch.no_grad():  # or all begin by giving back what they hear
        for weight in generator.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    checkpoint.save_model(folder, generator, config)


@pytest.fixture(scope="module")
def through_stage_5(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with data/ and exp/ through stage 5, and a copy of it as it was then."""
    folder, copy = (tmp_path_factory.mktemp("finished") / name for name in ("here", "as_it_was"))
    data, exp = folder / "data", folder / "exp"
    shutil.copytree(prepared, data)
    for part in ("train", "dev", "test"):  # whose tables name the files that were copied
        for table in ("noisy.scp",):
            path = data / part / table
            path.write_text(path.read_text().replace(str(prepared), str(data)))
    model(exp / "l1/model", data, seed=0)
    assert stage_3(data, exp) == stage_4(data, exp) == stage_5(data, exp) == ""
    shutil.copytree(folder, copy)
    return folder, copy


@pytest.fixture
def finished(through_stage_5: tuple[Path, Path]) -> tuple[Path, Path]:
    """Data and an experiments' folder through stage 5, which no other test has changed."""
    folder, copy = through_stage_5
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    return folder / "data", folder / "exp"


def stage_3(data: Path, exp: Path) -> str:
    """Error lines of a stage, "" where it is content."""
    answers = [local("oracle", data / "test", exp / "oracle_mag", exp / "oracle_mask")]
    answers.append(local("enhance", exp / "l1/model", data / "test", exp / "l1"))
    return errors(*answers)


def stage_4(data: Path, exp: Path) -> str:
    names = ("noisy", "oracle_mag", "oracle_mask", "l1")
    return errors(local("score", data / "test", *(exp / name for name in names)))


def stage_5(data: Path, exp: Path, *options: Any) -> str:
    return errors(here(report.main, "report.py", "--data", data, *options, exp))


def errors(*answers: Any) -> str:
    failed = [one for one in answers if one.returncode not in (0, 3)]
    for one in failed:
        one_error_line(one)
    return "\n".join(one.stderr.splitlines()[-1] for one in failed)


def shown(exp: Path) -> str:
    return (exp / "RESULTS.md").read_text()


def test_new_weights_need_stages_3_and_4(finished: tuple[Path, Path]) -> None:
    data, exp = finished
    before = (exp / "report.html").read_text()
    model(exp / "l1/model", data, seed=1)
    assert "4 of 4 enhanced files are of other weights than" in stage_4(data, exp)
    assert "of other weights than" in stage_5(data, exp)
    assert stage_3(data, exp) == ""
    assert "does not belong to the files in" in stage_5(data, exp)
    assert stage_4(data, exp) == stage_5(data, exp) == ""
    assert (exp / "report.html").read_text() != before
    # Half of a stage 3
    model(exp / "l1/model", data, seed=2)
    table = (exp / "l1/enhanced.made").read_text().splitlines()
    assert stage_3(data, exp) == ""
    half = (exp / "l1/enhanced.made").read_text().splitlines()[:2] + table[2:]
    (exp / "l1/enhanced.made").write_text("\n".join(half) + "\n")
    assert "2 of 4 enhanced files are not what stage 3 has written" in stage_4(data, exp)


def test_the_best_weights_by_dev_can_be_tested(finished: tuple[Path, Path]) -> None:
    """From stage 3 to the table, which says so; those of the last ones are refused."""
    data, exp = finished
    model(exp / "l1/model_best", data, seed=5)
    best = ("--which", "best")
    systems = [exp / name for name in ("noisy", "oracle_mag", "oracle_mask", "l1")]
    assert "of other weights than" in errors(local("score", *best, data / "test", *systems))
    assert errors(local("enhance", exp / "l1/model_best", data / "test", exp / "l1")) == ""
    assert "of other weights than" in stage_4(data, exp)
    assert errors(local("score", *best, data / "test", *systems)) == ""
    assert "of other weights than" in stage_5(data, exp)
    assert stage_5(data, exp, *best, "--figures", "pdf") == ""
    assert "| l1 (best on dev) |" in shown(exp)
    assert {path.name for path in (exp / "figures").iterdir()} == {
        f"{what}.pdf"
        for metric in ("pesq_wb", "si_sdr_db")
        for what in (f"gain_in_{metric}", f"{metric}_against_the_input")
    }


def test_a_folder_of_another_systems_files_takes_part(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    """Beside an experiment whose file lies elsewhere."""
    data, exp = finished
    file = tmp_path / "mine.yaml"
    file.write_text("# l1, begun elsewhere. Why?\ncompare_with: [theirs, l1]\n")
    model(exp / "mine/model", data, seed=3, name="mine")
    assert errors(local("enhance", exp / "mine/model", data / "test", exp / "mine")) == ""
    folder = shutil.copytree(exp / "l1/enhanced", tmp_path / "theirs")
    assert errors(local("external", data / "test", exp, f"theirs={folder}")) == ""
    assert errors(local("score", data / "test", exp / "theirs", exp / "mine")) == ""
    assert stage_5(data, exp, "--experiment", file) == ""
    assert "| mine - theirs |" in shown(exp) and "- mine: l1, begun elsewhere.\n" in shown(exp)
    assert "| theirs - l1 " in shown(exp) and "- theirs: A system from elsewhere" in shown(exp)
    again = ("external", data / "test", exp)
    assert errors(local("external", "--check", *again[1:], f"theirs={folder}")) == ""
    other = shutil.copytree(folder, tmp_path / "other")
    refused = local("external", "--check", *again[1:], f"theirs={other}")
    one_error_line(refused, "stage 3 has listed other files")
    twice = local(*again, f"theirs={folder}", f"theirs={other}")
    one_error_line(twice, "theirs is named twice")
    first = sorted(folder.iterdir())[0]
    samples, rate = sf.read(first)
    sf.write(first, samples[:-1], rate)
    one_error_line(local(*again, f"theirs={folder}"), str(first), f"frames is {len(samples) - 1}")
    first.unlink()
    one_error_line(local(*again, f"theirs={folder}"), "has no file of 1 of 4 test recordings")
    one_error_line(local(*again, f"l1={folder}"), "l1 is the name of a training here")


def test_an_oracles_file_that_was_replaced_is_refused(finished: tuple[Path, Path]) -> None:
    data, exp = finished
    first, second, *_ = sorted((exp / "oracle_mag/enhanced").iterdir())
    shutil.copyfile(second, first)
    assert "1 of 4 enhanced files are not what stage 3 has written" in stage_4(data, exp)
    assert stage_3(data, exp) == stage_4(data, exp) == ""


def test_a_model_of_two_trainings_is_refused(finished: tuple[Path, Path]) -> None:
    data, exp = finished
    weights = exp / "l1/model/model.safetensors"
    model(exp / "other", data, seed=3)
    shutil.copyfile(exp / "other/model.safetensors", weights)
    assert "model.safetensors is not the file that config.json describes" in stage_3(data, exp)


def test_other_code_makes_anew(
    finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, exp = finished
    before = shown(exp)
    monkeypatch.setattr(code, "of_enhancement", lambda generator: "0123456789ab")
    assert "4 of 4 enhanced files are made by other code than is here now" in stage_4(data, exp)
    assert "made by other code" in stage_5(data, exp)
    again = local("enhance", exp / "l1/model", data / "test", exp / "l1")
    assert "4 of them made before by other weights or other code" in again.stderr
    assert stage_4(data, exp) == stage_5(data, exp) == "" and shown(exp) == before
    monkeypatch.setattr(code, "of_scores", lambda metrics=(): "ba9876543210")
    assert "was scored by code that differs from this checkout" in stage_5(data, exp)
    assert stage_4(data, exp) == stage_5(data, exp) == "" and shown(exp) == before


def test_what_is_published_is_what_was_shown(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, exp = finished
    folder = tmp_path / "results"
    folder.mkdir()
    publish = ("report.py", "--publish", folder, exp)
    assert here(report.main, *publish).returncode == 0
    (folder / "gan.csv").write_text("left over\n")
    assert here(report.main, *publish).returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        *("about.yaml", "l1.csv", "noisy.csv", "oracle_mag.csv", "oracle_mask.csv")
    ]
    shutil.rmtree(exp / "l1")
    one_error_line(here(report.main, *publish), "run stage 5 again")
    assert stage_5(data, exp) == "" and here(report.main, *publish).returncode == 0
    assert not (folder / "l1.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # nothing is left beside it

    for wrong, words in {
        exp: "is, holds or lies in",
        exp.parent: "is, holds or lies in",
        exp / "noisy": "is, holds or lies in",
        tmp_path: "holds something else than one published run",
        folder / "noisy.csv": "holds something else than one published run",
    }.items():
        one_error_line(here(report.main, "report.py", "--publish", wrong, exp), words)
    collect = ("report.py", "--collect", tmp_path)
    assert here(report.main, *collect).returncode == 0
    text = (folder / "noisy.csv").read_text()
    (folder / "noisy.csv").write_text(text.replace("1.", "4."))
    one_error_line(here(report.main, *collect), "results/noisy.csv: is not as it was published")
    (folder / "noisy.csv").write_text(text)
    (folder / "oracle_mag.csv").unlink()
    one_error_line(here(report.main, *collect), "results/oracle_mag.csv: is gone")


def test_only_code_that_matters_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    texts = {
        "__init__": "",
        "one": '"""Doc."""\nfrom pkg import two\ndef f(x):\n    """Doc."""\n    return two.g(x)\n',
        "two": "def g(x):\n    from pkg.three import C\n    return x + C\n",
        "three": "C = 1\n",
        "other": "D = 2\n",
    }
    monkeypatch.setattr(code, "_PLACES", {"pkg": tmp_path})

    def of(**changes: str) -> str:
        for name, text in (texts | changes).items():
            (package / f"{name}.py").write_text(text)
        code._digest.cache_clear()
        return code._digest(("pkg.one",))

    same = of()
    assert of(other="D = 3\n") == same  # nobody imports it
    assert of(two="# why\ndef g( x ):\n  from pkg.three import (C,)\n  return (x + C)\n") == same
    assert of(one=texts["one"].replace("Doc.", "Other words.")) == same
    typed = texts["two"].replace("def g(x):", "def g(x: float) -> float:")
    assert of(two=typed) == same
    assert of(three="C = 2\n") != same  # imported within a function
    assert of(two=texts["two"].replace("+", "-")) != same
    code._digest.cache_clear()


def test_seeds_of_other_code_are_not_pooled(results: Path) -> None:  # noqa: F811
    settings = {"parameters": 1, "step": 1, "seed": 0, "settings": "s"}
    trained = {name: settings | {"code": ["c"]} for name in ("l1", "gan", "gan_seed1")}
    about(results, **trained)
    assert Run.read(results).folders["gan"] == ["gan", "gan_seed1"]
    about(results, **trained | {"gan_seed1": settings | {"code": ["c", "d"]}})
    run_ = Run.read(results)
    assert run_.folders["gan"] == ["gan"] and run_.folders["gan_seed1"] == ["gan_seed1"]


def test_a_finished_model_without_its_checkpoint_is_not_trained_over(
    prepared: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    exp = tmp_path / "exp"
    command = ("python", TRAIN, tiny_experiment, "--data", prepared, "--exp", exp)
    assert run(*command, "steps=2").returncode == 0
    weights = (exp / "model/model.safetensors").read_bytes()
    config = json.loads((exp / "model/config.json").read_text())
    assert len(config["origin"]["training"]) == 1
    (exp / "checkpoint.pt").unlink()
    again = run(*command, "steps=2")
    assert again.returncode == 0 and "finished already, 2 steps" in again.stderr
    one_error_line(run(*command, "steps=2", "gain_db=[-3, 3]"), "other settings (gain_db")
    assert (exp / "model/model.safetensors").read_bytes() == weights
    # And it knows whom it was trained on
    train, test = (datadir.read(prepared / part) for part in ("train", "test"))
    assert overlap.met(exp / "model", test) == ""
    assert "recordings" in overlap.met(exp / "model", train)
    names = (exp / "model" / overlap.NAME).read_text()
    assert not any(speaker in names.split() for speaker in train.spk2utt)


def test_a_model_that_knows_the_test_speakers_says_so(finished: tuple[Path, Path]) -> None:
    data, exp = finished
    test = datadir.read(data / "test", noisy=True)
    (first, *_) = test.utt_ids
    one = datadir.DataDir(
        {first: test.wav[first]}, {first: test.utt2spk[first]}, {first: test.utt2dur[first]}
    )
    overlap.write(exp / "l1/model", overlap.people(one))
    result = local("enhance", exp / "l1/model", data / "test", exp / "l1")
    speaker = one.utt2spk[one.utt_ids[0]]
    assert f"was trained on 1 of these 1 speakers, by their names ({speaker})" in result.stderr
    assert "and 1 of these 4 recordings" in result.stderr


def test_a_parallel_corpus_reaches_the_table(tmp_path: Path, tiny_experiment: Path) -> None:
    corpus, data, exp = voicebank(tmp_path / "vb"), tmp_path / "data", tmp_path / "exp"
    rate = ("--sample-rate", 16000)
    assert local("prepare", "--corpus", corpus, *rate, data).returncode == 0
    splits = [data / part for part in ("train", "dev", "test")]
    assert local("corrupt", "--no-audit", *splits).returncode == 0
    assert local("same_data", data, exp).returncode == 0
    trained = run("python", TRAIN, tiny_experiment, "--data", data, "--exp", exp / "l1", "steps=2")
    assert trained.returncode == 0, trained.stderr
    assert stage_3(data, exp) == stage_4(data, exp) == stage_5(data, exp) == ""
    assert "parallel corpus at 16000 Hz" in shown(exp) and "| tiny" in shown(exp)
    assert local("same_data", data, exp).returncode == 0
    noise = yaml.safe_load((data / "test/noise.yaml").read_text())
    assert noise["procedure"] == "given by the corpus" and noise["fingerprint"] != digest([])


def test_who_cannot_score_has_a_digest_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain` asks for it, where the extra `score` is not installed."""
    here_ = code.of_scores()

    def none(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", none)
    assert code.of_scores() != here_


def test_stage_4_takes_further_metrics_and_the_report_checks_them(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metrics.OPTIONAL, "lsd", metrics.METRICS["lsd"])  # on demand for conditions
    data, exp = tmp_path / "data", tmp_path / "exp"
    shutil.copytree(prepared / "test", data / "test_same")
    noisy, place = exp / "noisy", exp / "noisy/conditions/same"
    datadir.write_table(place / "enhanced.scp", datadir.read(data / "test_same", noisy=True).noisy)
    result = local("score", "--metrics", "lsd", data / "test_same", noisy)
    assert result.returncode in (0, 3), result.stderr
    rows = read_csv(place / "scores.csv")
    assert {"pesq_wb", "estoi", "si_sdr", "lsd"} < rows[0].keys() and rows[0]["lsd"] > 0.0
    report.check_scores(exp, data)
    record = (place / "scores.yaml").read_text()
    (place / "scores.yaml").write_text(record.replace(code.of_scores(["lsd"]), "another"))
    with pytest.raises(InputError, match="was scored by code that differs"):
        report.check_scores(exp, data)
    result = local("score", "--metrics", "wer,mos", data / "test_same", noisy)
    assert result.returncode == 2 and "unknown metric 'mos' (there are: " in result.stderr
