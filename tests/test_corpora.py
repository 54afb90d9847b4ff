"""Corpora of every layout, what of them is not used, and what must not be in two splits."""

from __future__ import annotations

import csv
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import CONF, local, one_error_line, speech_like, write
from gan_denoise import datadir
from gan_denoise.errors import InputError
from kaldi import corpora

SPEAKERS = ("p226", "p227", "p228", "p232", "p257", "p287")
TEST = ("p232", "p257")


def prepare(
    corpus: Path, data: Path, *options: Any, rate: int = 16000
) -> subprocess.CompletedProcess:
    return local("prepare", "--corpus", corpus, "--sample-rate", rate, *options, data)


def people(data: Path) -> dict[str, set[str]]:
    return {part: set(datadir.read(data / part).spk2utt) for part in ("train", "dev", "test")}


def pair(clean: Path, noisy: Path, seed: int, lag: int = 0) -> None:
    wave = speech_like(seed, 0.6)
    noise = np.random.default_rng(seed).standard_normal(len(wave)) / 50
    write(clean, wave, subtype="PCM_16")
    write(noisy, np.roll(wave, lag) + noise, subtype="PCM_16")


def pairs(folder: Path, *names: str, kinds: tuple[str, ...] = ("clean", "noisy")) -> None:
    """names: of files, with {kind} in them."""
    for name in names:
        clean, noisy = (folder / f"{name.format(kind=kind)}.wav" for kind in kinds)
        pair(clean, noisy, seed=sum(name.encode()))


def voicebank(folder: Path, lag: int = 0) -> Path:
    """A parallel corpus as VoiceBank+DEMAND lies on a disk, of six speakers."""
    for index, speaker in enumerate(SPEAKERS):
        part = "testset" if speaker in TEST else "trainset_28spk"
        for number in (1, 2):
            name = f"{speaker}_{number:03d}.wav"
            clean, noisy = (folder / f"{kind}_{part}_wav" for kind in ("clean", "noisy"))
            pair(clean / name, noisy / name, seed=10 * index + number, lag=lag)
    return folder


def test_the_customary_split_of_voicebank(tmp_path: Path) -> None:
    corpus, data = voicebank(tmp_path / "vb"), tmp_path / "data"
    result = prepare(corpus, data, "--split", CONF / "split_voicebank.yaml")
    assert result.returncode == 0, result.stderr
    assert people(data) == {
        "train": {"p227", "p228"},
        "dev": {"p226", "p287"},
        "test": {"p232", "p257"},
    }
    splits = [data / part for part in ("train", "dev", "test")]
    assert local("corrupt", "--no-audit", *splits).returncode == 0
    noise = {datadir.read_noise(folder)["fingerprint"] for folder in splits}
    assert len(noise) == 1  # one corpus has one noise, whatever each of its files holds
    assert local("same_data", data, tmp_path / "exp").returncode == 0


def test_the_test_set_of_a_corpus_stays_one(tmp_path: Path) -> None:
    corpus = voicebank(tmp_path / "vb")
    split = tmp_path / "split.yaml"
    split.write_text("dev: [p226]\ntest: [p232]\n")
    one_error_line(
        prepare(corpus, tmp_path / "data", "--split", split), "p257 would be in train", "test set"
    )
    for kind in ("clean", "noisy"):
        path = corpus / f"{kind}_testset_wav/p232_002.wav"
        shutil.move(path, corpus / f"{kind}_trainset_28spk_wav/p232_002.wav")
    one_error_line(prepare(corpus, tmp_path / "data"), "p232", "in its test set too")


@pytest.mark.parametrize(
    ("lag", "exchanged", "words"),
    [
        (16, False, "12 of 12 recordings are later than clean by 1.0 ms"),
        (400, False, "12 of 12 recordings are later than clean by 25.0 ms"),
        (0, True, "are the folders swapped?"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(
    tmp_path: Path, lag: int, exchanged: bool, words: str
) -> None:
    corpus = voicebank(tmp_path / "vb", lag)
    if exchanged:
        for part in ("trainset_28spk", "testset"):
            clean, noisy = (corpus / f"{kind}_{part}_wav" for kind in ("clean", "noisy"))
            clean.rename(corpus / "kept")
            noisy.rename(clean)
            (corpus / "kept").rename(noisy)
    for _ in range(2):  # the same when it is tried again
        one_error_line(prepare(corpus, tmp_path / "data"), words)
    assert not (tmp_path / "data/corpus.yaml").exists()


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    for index, (part, speaker) in enumerate(
        (("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d"))
    ):
        clean, noisy = (tmp_path / f"corpus/{part}/{kind}" for kind in ("clean", "noisy"))
        # An accent is one character in one file system, and two in another
        pair(clean / f"{speaker}_\u00e9.wav", noisy / f"{speaker}_e\u0301.wav", seed=index)
    result = prepare(tmp_path / "corpus", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert people(tmp_path / "data") == {"train": {"a", "b"}, "dev": {"c"}, "test": {"d"}}


@pytest.mark.parametrize(
    "names",
    [
        ("{part}_{kind}", "clean", "noisy"),
        ("{kind}_{part}", "Clean", "Noisy"),
        ("my{kind}{part}Set", "Clean", "NOISY"),
        ("{part}/{kind}", "Clean", "noisy"),
        ("all/{kind}_{part}", "clean", "noisy"),
    ],
)
def test_folders_that_differ_by_clean_and_noisy_are_pairs(
    tmp_path: Path, names: tuple[str, str, str]
) -> None:
    called, *kinds = names
    for part, name in (("train", "a_1"), ("train", "b_1"), ("test", "c_1")):
        pairs(tmp_path, f"{called.replace('{part}', part)}/{name}", kinds=tuple(kinds))
    listing = corpora.read(tmp_path)
    assert listing.layout == "parallel" and listing.unused == {}
    told = {one.utt_id: (one.speaker, one.split) for one in listing.recordings}
    assert told == {"a_1": ("a", "train"), "b_1": ("b", "train"), "c_1": ("c", "test")}
    assert all("noisy" in str(one.noisy).casefold() for one in listing.recordings)


@pytest.mark.parametrize("names", ["clean_a noisy_b", "a/x/clean a/x/noisy", "a/clean16k a/noisy"])
def test_noisy_recordings_are_not_taken_for_clean_ones(tmp_path: Path, names: str) -> None:
    """Where it is not clear which folders belong together, a plain corpus would be read."""
    clean, noisy = names.split()
    pair(tmp_path / clean / "x_1.wav", tmp_path / noisy / "x_1.wav", seed=0)
    plain(tmp_path, {"c": 1, "d": 2, "e": 3})
    with pytest.raises(InputError, match="noisy.*would be taken for clean speech.*CSV file"):
        corpora.read(tmp_path)


def test_files_that_differ_by_clean_and_noisy_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path, "a/1_{kind}", "b/1_{kind}", "c/1_{kind}")
    with pytest.raises(InputError, match="1_noisy.wav: seems to be the noisy counterpart"):
        corpora.read(tmp_path)


@pytest.mark.parametrize("called", ["{speaker}/{kind}", "{speaker}_{kind}", "{kind}-{speaker}"])
def test_a_speaker_may_have_a_clean_and_a_noisy_folder(tmp_path: Path, called: str) -> None:
    people = ("anna", "bob", "devi", "tess")
    for first, speaker in enumerate(people):
        for number in (2 * first, 2 * first + 1):
            pairs(tmp_path, f"{called.replace('{speaker}', speaker)}/take_{number}")
    listing = corpora.read(tmp_path)
    assert {one.utt_id: one.speaker for one in listing.recordings} == {
        f"{speaker}_take_{number}": speaker
        for first, speaker in enumerate(people)
        for number in (2 * first, 2 * first + 1)
    }
    assert {one.split for one in listing.recordings} == {None}
    assert listing.notes == ("4 speakers are called as folders are, such as anna",)


def test_a_folder_around_clean_and_noisy_may_be_a_set(tmp_path: Path) -> None:
    pairs(tmp_path, "one/{kind}/p1/p1_1", "one/{kind}/p2/p2_1", "two/{kind}/p3/p3_1")
    assert {one.speaker for one in corpora.read(tmp_path).recordings} == {"p1", "p2", "p3"}
    pairs(tmp_path, "anna/{kind}/monday/1")
    with pytest.raises(InputError, match="anna: may be a speaker, or a set.*monday/1.wav.*--split"):
        corpora.read(tmp_path)
    people = {one.speaker for one in corpora.read(tmp_path, known_speakers={"anna"}).recordings}
    assert people == {"p1", "p2", "p3", "anna"}


def test_names_of_the_dns_challenge(tmp_path: Path) -> None:
    corpus = tmp_path / "dns"
    for number, reader in enumerate(("00012", "00012", "00034", "00056")):
        noisy = f"book_0_chp_1_reader_{reader}_2_x_snr5_tl-20_fileid_{number}.wav"
        clean = corpus / f"clean/clean_fileid_{number}.wav"
        pair(clean, corpus / "noisy" / noisy, seed=number)
    result = prepare(corpus, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    names = set().union(*people(tmp_path / "data").values())
    assert names == {"reader_00012", "reader_00034", "reader_00056"}


def listed(folder: Path) -> list[dict]:
    rows = []
    for index, (speaker, split) in enumerate((("a", ""), ("b", ""), ("c", "dev"), ("d", "test"))):
        clean, noisy = (folder / f"{kind} {index}.wav" for kind in ("clean", "noisy"))
        pair(clean, noisy, seed=index)
        utt_id = f"{speaker}_{index}"
        row = {"utt_id": utt_id, "speaker": speaker, "clean": clean.name, "noisy": noisy.name}
        rows.append(row | {"split": split})
    return rows


def test_a_csv_of_pairs(tmp_path: Path) -> None:
    rows = listed(tmp_path)
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows([*rows, rows[0] | {"utt_id": "a_9", "clean": "gone.wav"}])
    result = prepare(tmp_path / "pairs.csv", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert people(tmp_path / "data") == {"train": {"a", "b"}, "dev": {"c"}, "test": {"d"}}
    assert "gone.wav: is listed, but is not there" in result.stderr
    (tmp_path / "other.csv").write_text("name,file\na,b\n")
    one_error_line(prepare(tmp_path / "other.csv", tmp_path / "no"), "the columns clean")


def test_kaldi_data_directories(tmp_path: Path) -> None:
    for row in listed(tmp_path / "audio"):
        folder = tmp_path / "kaldi" / (row["split"] or "train")
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in (
            ("wav.scp", tmp_path / "audio" / row["clean"]),
            ("noisy.scp", tmp_path / "audio" / row["noisy"]),
            ("utt2spk", row["speaker"]),
        ):
            with open(folder / name, "a") as file:
                file.write(f"{row['utt_id']} {value}\n")
    result = prepare(tmp_path / "kaldi", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert "is a parallel (Kaldi) corpus: 4 recordings, 4 speakers" in result.stderr
    assert people(tmp_path / "data")["test"] == {"d"} and "not used" not in result.stderr


def plain(folder: Path, seeds: dict[str, int], rate: int = 16000, name: str = "x.wav") -> Path:
    for speaker, seed in seeds.items():
        write(folder / speaker / name, speech_like(seed, 1.0, rate), rate)
    return folder


def test_what_is_not_used_is_counted_and_named(tmp_path: Path) -> None:
    corpus = plain(tmp_path / "corpus", {"a": 1, "b": 2, "c": 3})
    (corpus / "a/gone.wav").symlink_to("nowhere.wav")
    (corpus / "a/x.m4a.txt").write_text("text")
    (corpus / "notes.md").write_text("text")
    (corpus / "z").symlink_to("a")
    (corpus / "0").symlink_to("b")  # a link never decides the name, whenever it was made
    result = prepare(corpus, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert set().union(*people(tmp_path / "data").values()) == {"a", "b", "c"}
    for words in (
        f"not used: 1 links to nothing, {corpus}/a/gone.wav",
        "not used: 1 .txt files",
        "not used: 1 .md files",
        f"not used: 2 links to folders that are read already, {corpus}/0 and others",
    ):
        assert words in result.stderr, result.stderr
    assert "WARNING: every recording seems to have a speaker of its own" in result.stderr
    (corpus / "c/y.wav").write_bytes((corpus / "c/x.wav").read_bytes())
    again = prepare(corpus, tmp_path / "data")
    assert "1 recordings are there twice" in again.stderr
    (corpus / "c/y.wav").unlink()
    again = prepare(corpus, tmp_path / "data")
    assert "c_y: was there before, and is gone" in again.stderr


def test_other_rates_and_mp3_are_said(tmp_path: Path) -> None:
    corpus = plain(tmp_path / "corpus", {"a": 1, "b": 2}, 8000)
    plain(corpus, {"c": 3}, 16000, "x.mp3")
    result = prepare(corpus, tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert "2 recordings at 8000 Hz were converted: above 4 kHz they hold nothing" in result.stderr
    assert set().union(*people(tmp_path / "data").values()) == {"a", "b", "c"}


def test_one_recording_is_not_in_two_splits(tmp_path: Path) -> None:
    corpus = plain(tmp_path / "corpus", {"a": 1, "b": 2, "c": 3, "d": 1})
    split = tmp_path / "split.yaml"
    split.write_text("dev: [b]\ntest: [d]\n")
    one_error_line(
        prepare(corpus, tmp_path / "data", "--split", split),
        f"{corpus}/d/x.wav: is the same recording as {corpus}/a/x.wav",
        "one for test, one for train",
    )


def test_one_person_of_two_corpora_is_in_one_split(tmp_path: Path) -> None:
    """Without a split file, a rule decides in each corpus by itself."""
    first = plain(tmp_path / "first", {"a": 1, "b": 2, "c": 3})
    second = plain(tmp_path / "second", {"b": 4, "c": 5, "d": 6, "e": 7})
    splits = []
    for corpus in (first, second):
        assert prepare(corpus, tmp_path / corpus.name / "../alone").returncode == 0
        splits.append(people(tmp_path / "alone"))
        shutil.rmtree(tmp_path / "alone")
    places = [{who: part for part in split for who in split[part]} for split in splits]
    torn = [speaker for speaker in "bc" if places[0][speaker] != places[1][speaker]]
    assert torn  # or the test shows nothing
    named = ("--corpus", first, "--corpus", second, "--sample-rate", 16000)
    result = local("combine", *named, tmp_path / "data")
    assert result.returncode == 1 and "if they are one person" in result.stderr
    assert "--equal-names apart" in result.stderr
    result = local("combine", *named, "--equal-names", "apart", tmp_path / "data")
    assert result.returncode == 0, result.stderr


def test_an_accent_is_one_character_in_every_name(tmp_path: Path) -> None:
    """File systems write it as one (NFC) or two (NFD): speakers, utt_ids, and a split's names."""
    corpus, data = tmp_path / "corpus", tmp_path / "data"
    for index, speaker in enumerate(("Zoë", "Bjørn", "José")):
        folder = corpus / unicodedata.normalize("NFD", speaker)
        for number in range(2):
            name = unicodedata.normalize("NFD", f"été_{number}.wav")
            write(folder / name, speech_like(10 * index + number), subtype="PCM_16")
    split = tmp_path / "split.yaml"
    split.write_text(f"dev: [Zoë]\ntest: [{unicodedata.normalize('NFD', 'José')}]\n")
    result = prepare(corpus, data, "--split", split)
    assert result.returncode == 0, result.stderr
    assert people(data) == {"train": {"Bjørn"}, "dev": {"Zoë"}, "test": {"José"}}
    assert datadir.read(data / "test").utt_ids == ["José_été_0", "José_été_1"]
