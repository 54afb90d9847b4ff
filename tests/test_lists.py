"""Lists that somebody has written: CSV and scp files, Kaldi's tables, and the splits they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import cli, one_error_line, speech_like, write
from gan_denoise import datadir
from gan_denoise.errors import InputError
from kaldi import corpora
from kaldi.corpora.listing import split_named
from small_corpora import prepare, write_split


def table(folder: Path, *lines: str, name: str = "list.csv") -> Path:
    """A list of a.wav, b.wav, c.wav and d.wav, which lie beside it."""
    for seed, speaker in enumerate("abcd"):
        if not (folder / f"{speaker}.wav").exists():
            write(folder / f"{speaker}.wav", speech_like(seed), subtype="PCM_16")
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def splits(path: Path) -> dict[str, str | None]:
    return {one.speaker: one.split for one in corpora.read(path).recordings}


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError) as caught:
        corpora.read(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_words_for_splits() -> None:
    words = {
        "train": "train Training tr validated clean_trainset_28spk_wav train-clean-100",
        "dev": "dev valid VAL validation cv dev_clean devset2 train_dev",
        "test": "test tt clean_testset_wav test_other myTest",
        "eval": "eval evaluation eval2000",
    }
    for split, names in words.items():
        assert {name: split_named(name) for name in names.split()} == dict.fromkeys(
            names.split(), split
        )
    for name in ("clean_device1", "devi", "tested", "attest", "invalid", "invalidated", "p225", ""):
        assert split_named(name) is None, name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("train train val test", "train train dev test"),
        ("tr tr cv tt", "train train dev test"),
        ("train train dev eval", "train train dev test"),
        ("train train eval test", "train train dev test"),
        ("validated validated Valid Test", "train train dev test"),
    ],
)
def test_splits_of_a_csv(tmp_path: Path, written: str, meant: str) -> None:
    rows = [f"{who}.wav,{word}" for who, word in zip("abcd", written.split(), strict=True)]
    told = splits(table(tmp_path, "clean,split", *rows))
    assert told == dict(zip("abcd", meant.split(), strict=True))


def test_a_split_of_unknown_name_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "clean,split", "a.wav,train", "b.wav,held out")
    refused(path, f"{path}:3: its split is called 'held out': call it one of train, ")
    path = table(tmp_path, "clean,split", "a.wav,train", "b.wav,eval")
    refused(path, f"{path}: calls a split eval, and none dev or test: which is it?: call it")


@pytest.mark.parametrize(
    ("utt_id", "words"),
    [
        ("../x", "../x: an utt_id may not be a path: rename it"),
        ("p225/009", "p225/009: an utt_id may not be a path: rename it"),
        (".x", ".x: an utt_id may not be a path: rename it"),
        ("a b", "the utt_id 'a b' holds blanks or control characters"),
        ("a\x01b", "the utt_id 'a\\x01b' holds blanks or control characters"),
        ("a\u3000b", "the utt_id 'a\\u3000b' holds blanks or control characters: write another"),
    ],
)
def test_utt_ids_that_are_no_names_of_files_are_refused(
    tmp_path: Path, utt_id: str, words: str
) -> None:
    path = table(tmp_path, "clean,utt_id", "a.wav,a", f"b.wav,{utt_id}")
    refused(path, f"{path}:3: {words}")
    if " " not in utt_id:
        pairs = table(tmp_path, "a a.wav b.wav", f"{utt_id} b.wav c.wav", name="pairs.scp")
        refused(pairs, f"{pairs}:2: {words}")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b\x00.wav,b,hello", "holds a control character: rename the file, or correct the text"),
        ("b.wav,b,he\x07llo", "holds a control character: rename the file, or correct the text"),
        ("b.wav,b c,hello", "the speaker 'b c' holds blanks or control characters"),
        (
            "b.wav,b,Well,hello",
            "has 4 fields, and the table 3 columns (clean, speaker, text): give",
        ),
        ("b.wav,b", "has 2 fields, and the table 3 columns (clean, speaker, text): give"),
        (",b,hello", "names no clean file"),
    ],
)
def test_rows_of_a_csv_that_cannot_be_read_are_named(tmp_path: Path, row: str, words: str) -> None:
    path = table(tmp_path, "clean,speaker,text", 'a.wav,a,"two', 'lines"', "", row)
    refused(path, f"{path}:5: {words}")


def test_a_line_of_an_scp_file_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    for value, words in (
        ("b\x00.wav", "holds a control character: 'b b\\x00.wav': rename the file"),
        ("cat b.wav |", "b: commands (`... |`) are not run: write the audio to a file first"),
    ):
        path.write_text(f"a a.wav\nb {value}\n")
        with pytest.raises(InputError) as caught:
            datadir.read_scp(path)
        assert str(caught.value) == f"{path}:2: {words}"
    path.write_text("a a.wav\nb b\x00.wav\n")
    one_error_line(cli("corrupt", path, tmp_path / "out"), f"{path}:2: holds a control character")


def kaldi(folder: Path) -> Path:
    table(folder, *(f"{name} {folder}/{name}.wav" for name in "abcd"), name="wav.scp")
    return table(folder, *(f"{name} {name}" for name in "abcd"), name="utt2spk").parent


def test_segments_of_kaldi_are_not_ignored(tmp_path: Path) -> None:
    path = table(kaldi(tmp_path), "a-1 a 0.2 0.9", name="segments")
    refused(tmp_path, f"{path}: the recordings of wav.scp would be used whole")


def test_lines_of_kaldis_tables_without_a_recording_are_counted(tmp_path: Path) -> None:
    folder = kaldi(tmp_path)
    assert corpora.read(folder).notes == ()
    for name, lines in (("utt2spk", "x x\ny y\n"), ("text", "a one\nz two\n")):
        with open(folder / name, "a") as file:
            file.write(lines)
    assert corpora.read(folder).notes == (
        f"{folder}/utt2spk: 2 lines of no recording, such as x",
        f"{folder}/text: 1 lines of no recording, such as z",
    )


def test_why_no_file_of_a_known_layout_can_be_used_is_said(tmp_path: Path) -> None:
    path = table(tmp_path, "clean", "x.wav", "y.wav")
    refused(
        path,
        f"{path}: is a listed corpus, but none of its files can be used (2): the first,"
        f" {tmp_path}/x.wav: is listed, but is not there",
    )
    for kind, suffix in (("clean", "wav"), ("noisy", "flac")):
        write(tmp_path / f"pairs/{kind}/a_1.{suffix}", speech_like(1))
    refused(tmp_path / "pairs", "clean/a_1.wav: has no counterpart")


def test_what_no_split_has_is_counted(tmp_path: Path) -> None:
    path = table(
        tmp_path, "clean,speaker,text", "a.wav,a,Yes", "b.wav,b,yes", "c.wav,c,no", "d.wav,d,so"
    )
    for speaker, line in (("b", "b.wav,b,other"), ("c", "c.wav,c,third")):
        write(tmp_path / f"{speaker}2.wav", speech_like(ord(speaker)), subtype="PCM_16")
        with open(path, "a") as file:
            file.write(line.replace(".", "2.") + "\n")
    split = write_split(tmp_path, train=["a"], dev=["b"], test=["c"])
    result = prepare(path, tmp_path / "data", "--split", split)
    assert result.returncode == 0, result.stderr
    assert (
        "  left out: 1 speakers whom --split names for none of train, dev and test, with 1"
        " recordings, such as d\n"
        "  left out: 1 recordings from dev, since other speakers read their sentences too, such as"
        " b\n"
    ) in result.stderr


def test_noisy_recordings_of_another_rate_are_counted(tmp_path: Path) -> None:
    for seed, speaker in enumerate("abcd"):
        wave = speech_like(seed)
        write(tmp_path / f"corpus/clean/{speaker}_1.wav", wave, subtype="PCM_16")
        rate = 8000 if speaker in "bc" else 16000
        noisy = wave[:: 16000 // rate] + speech_like(seed + 50, 1.0, rate) / 9
        write(tmp_path / f"corpus/noisy/{speaker}_1.wav", noisy, rate, subtype="PCM_16")
    result = prepare(tmp_path / "corpus", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert (
        "  2 noisy recordings are at 8000 Hz and their clean ones are not, such as b_1: above 4 kHz"
        " they hold nothing\n"
    ) in result.stderr
