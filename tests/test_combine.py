"""Several corpora in one run: their data directories, and tables with a section for each."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, local, one_error_line, run, speech_like, write
from gan_denoise import datadir
from gan_denoise.config import dump_yaml, read_yaml
from kaldi import combination
from reporting.results import section
from reporting.statistics import Run


@pytest.fixture(scope="module")
def second_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three more speakers, in VCTK 0.80's layout."""
    folder = tmp_path_factory.mktemp("more") / "small_vctk"
    for index, speaker in enumerate(("p1", "p2", "p3")):
        for number in range(2):
            path = folder / "wav48" / speaker / f"{speaker}_{100 + number}.wav"
            write(path, speech_like(50 + 10 * index + number, 1.0), subtype="PCM_16")
    return folder


def combined(
    data: Path, *corpora: Any, options: tuple[Any, ...] = ()
) -> subprocess.CompletedProcess:
    named = [word for corpus in corpora for word in ("--corpus", corpus)]
    return local("combine", *named, "--sample-rate", 16000, *options, data)


def test_several_corpora_stay_apart(
    plain_corpus: Path, second_corpus: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split.yaml"
    split.write_text("dev: [bob, p1]\ntest: [zoe, spk10, p3]\n")
    data = tmp_path / "data"
    corpora = f"{plain_corpus} {second_corpus}"
    options = ("--data", data, "--exp", tmp_path / "exp", "--conditions", "clean mixed", "--nj", 1)
    command = (ROOT / "egs/vctk/run.sh", "--corpus", corpora, "--split", split, *options)
    result = run("bash", *command, "--stop-stage", 1)
    assert result.returncode == 0, result.stderr
    test, train = (datadir.read(data / name, noisy=True) for name in ("test", "train"))
    assert set(test.spk2utt) == {"zoe", "spk10", "p3"}
    assert len(train) == 2 * 4 + 2 and len(datadir.read(data / "test_clean", noisy=True)) == 10
    alone = datadir.read(data / "corpora" / second_corpus.name / "test")
    assert {utt_id: test.wav[utt_id] for utt_id in alone.wav} == alone.wav  # the same names
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert run("bash", *command, "--stop-stage", 1).returncode == 0  # which changes nothing
    noisy = [path for path in before if "noisy" in str(path) or path.name == "wav.scp"]
    assert noisy and all(path.stat().st_mtime_ns == before[path] for path in noisy)
    split.write_text("dev: [bob, p1]\ntest: [zoe, nobody, p3]\n")
    one_error_line(run("bash", *command, "--stop-stage", 0), 'no corpus has a speaker "nobody"')
    split.write_text("dev: [bob, p1]\ntest: [zoe]\n")
    one_error_line(run("bash", *command, "--stop-stage", 0), "names no speaker of", "for test")
    one_error_line(combined(data, plain_corpus), "was made from another --corpus")


def test_corpora_that_share_names_get_prefixes(plain_corpus: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(plain_corpus, twin)
    assert combined(tmp_path / "data", plain_corpus, twin).returncode == 0
    record = read_yaml(tmp_path / "data/corpus.yaml")
    everyone = [s for part in record["corpora"]["twin"].values() for s in part]
    assert len(everyone) == 5 and all(speaker.startswith("twin-") for speaker in everyone)
    train = datadir.read(tmp_path / "data/train")
    assert all(utt_id.startswith(("twin-", f"{plain_corpus.name}-")) for utt_id in train.wav)


def test_one_corpus_named_twice_is_refused(plain_corpus: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(plain_corpus)
    for other in (link, plain_corpus / "../" / plain_corpus.name):
        one_error_line(
            combined(tmp_path / "data", plain_corpus, other),
            f"--corpus: {other} is {plain_corpus} once more: name it once",
        )


def test_texts_of_several_corpora_that_changed_are_written_anew(tmp_path: Path) -> None:
    def written(**text: str) -> dict[str, str]:
        wav = {"a_1": Path("/a.wav"), "b_1": Path("/b.wav")}
        utts = {"a_1": "a", "b_1": "b"}
        combination.write(datadir.DataDir(wav, utts, {"a_1": 1.0, "b_1": 2.0}, text), tmp_path)
        return datadir.read(tmp_path).text

    assert written(a_1="one", b_1="two") == {"a_1": "one", "b_1": "two"}
    time = (tmp_path / "wav.scp").stat().st_mtime_ns
    assert written(a_1="one", b_1="two") and (tmp_path / "wav.scp").stat().st_mtime_ns == time
    assert written(a_1="one", b_1="three") == {"a_1": "one", "b_1": "three"}
    assert written(a_1="one") == {}  # Kaldi wants all or nothing


def test_a_table_has_a_section_for_each_corpus(tmp_path: Path) -> None:
    for system, gain in (("noisy", 0.0), ("oracle_mag", 2.0), ("l1", 1.0)):
        rows = [
            f"{system},,test,{spk}_{n},{spk},f,{1.5 + gain + n},3.0"
            for spk in ("a", "b")
            for n in (0, 1)
        ]
        heading = "system,seed,split,utt_id,spk_id,fingerprint,pesq_wb,si_sdr"
        write_text = "\n".join([heading, *rows]) + "\n"
        (tmp_path / f"{system}.csv").write_text(write_text)
    corpus = {"layout": "combined", "sample_rate": 16000, "speakers": {"train": ["c"]}}
    corpus["corpora"] = {"ocean": ["a"], "libri": ["b"]}
    about = {"command": "", "corpus": corpus, "noise": {"fingerprint": "f"}, "models": {}}
    (tmp_path / "about.yaml").write_text(dump_yaml(about))
    parts = Run.read(tmp_path).by_corpus()
    assert set(parts) == {"ocean", "libri"}
    assert {row["spk_id"] for row in parts["libri"].systems["l1"]} == {"b"}
    assert parts["ocean"].gap_closed("l1", "pesq_wb") == pytest.approx(0.5)
    assert "### ocean" in section(Run.read(tmp_path))


def test_a_corpus_that_moved_is_the_same_among_several(
    plain_corpus: Path, second_corpus: Path, tmp_path: Path
) -> None:
    data, old, new = tmp_path / "data", tmp_path / "old", tmp_path / "new"
    shutil.copytree(second_corpus, old)
    assert combined(data, plain_corpus, old).returncode == 0
    before = datadir.read(data / "test")
    old.rename(new)
    checked = local("combine", "--corpus", plain_corpus, "--corpus", new, "--check", data)
    one_error_line(checked, f"{old}, which is gone", f"moved to {new}", "stage 0 again")
    assert combined(data, plain_corpus, new).returncode == 0
    after = datadir.read(data / "test")
    assert (after.utt2spk, after.utt2dur) == (before.utt2spk, before.utt2dur)
    assert str(new) in read_yaml(data / "corpus.yaml")["corpus"]
    other = new.rename(tmp_path / "other")
    write(other / "wav48/p1/p1_100.wav", speech_like(99), subtype="PCM_16")
    one_error_line(combined(data, plain_corpus, other), f"--corpus {new}, not {other}")
