"""Lists that somebody has written: CSV and scp files, Kaldi's tables, and the splits they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import speech_like, write
from gan_denoise.errors import InputError
from kaldi import corpora
from kaldi.corpora.listing import split_named


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
