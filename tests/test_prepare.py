"""Stage 0: corpora of each layout become data directories, or are refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from conftest import CONF, local, one_error_line, speech_like, write
from gan_denoise import datadir
from gan_denoise.errors import InputError
from kaldi import corpora, notices
from small_corpora import corrupt, kaldi_accepts, prepare, speakers, utterances, vctk, write_split


def test_plain_corpus(prepared: Path) -> None:
    people = speakers(prepared)
    assert sorted(people["train"] | people["dev"] | people["test"]) == [
        "ann",
        "bob",
        "spk10",
        "spk1_",
        "zoe",
    ]
    assert (
        not people["train"] & people["dev"]
        and not people["train"] & people["test"]
        and not people["dev"] & people["test"]
    )
    for split in people:
        kaldi_accepts(prepared / split)
    everything = set().union(*utterances(prepared).values())
    assert "spk1_rec0" in everything and "spk10_rec3" in everything and len(everything) == 20


def test_kaldi_order_of_speakers_that_begin_alike() -> None:
    assert datadir.speaker_ids(["spk1", "spk10", "spk2"]) == {
        "spk1": "spk1_",
        "spk10": "spk10",
        "spk2": "spk2",
    }
    assert datadir.speaker_ids(["p225", "s5"]) == {"p225": "p225", "s5": "s5"}
    # "a_" already comes before "ab_"
    assert datadir.speaker_ids(["a", "ab"]) == {"a": "a", "ab": "ab"}


def test_speakers_whose_recordings_interleave_are_refused(tmp_path: Path) -> None:
    for seed, path in enumerate(("a/001", "a/zzz", "a_b/001", "c/001", "d/001")):
        write(tmp_path / f"corpus/{path}.wav", speech_like(seed))
    one_error_line(
        prepare(tmp_path / "corpus", tmp_path / "data"), "stand among those of a", "rename"
    )


def test_vctk_092(tmp_path: Path) -> None:
    corpus = vctk(tmp_path / "VCTK", "wav48_silence_trimmed", "_mic1.flac")
    mic2 = corpus / "wav48_silence_trimmed/p225/p225_030_mic2.flac"
    shutil.copy(corpus / "wav48_silence_trimmed/p225/p225_030_mic1.flac", mic2)
    mic2.with_name("p225_099_mic2.flac").write_bytes(mic2.read_bytes())  # no mic1
    (corpus / "txt/p225/p225_077.txt").write_text("A text without a recording.\n")
    (corpus / "speaker-info.txt").write_text(
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np315  18  M  American  (mic2 files"
        " unavailable)\n"
    )
    data = tmp_path / "data"
    result = prepare(
        corpus, data, "--split", write_split(tmp_path, dev=["p226"], test=["p232", "s5"])
    )
    assert result.returncode == 0, result.stderr
    assert "VCTK 0.92" in result.stderr
    ids = utterances(data)
    # 001 and 002 are read by others too
    assert ids["test"] == {"p232_030", "p232_031", "s5_030", "s5_031"}
    assert ids["dev"] == {"p226_030", "p226_031"}
    assert ids["train"] == {
        f"{s}_{n:03d}" for s in ("p225", "p280", "p315") for n in (1, 2, 30, 31)
    }
    skipped = (data / "skipped").read_text()
    assert "p225_099_mic1.flac: there is a mic2 recording only" in skipped
    assert "p225_077.txt: there is a text but no recording" in skipped
    test = datadir.read(data / "test")
    assert test.text["p232_030"] == "Sentence 30 by p232."
    assert not (data / "train/text").exists()  # p315 has none, and Kaldi wants all or nothing
    info = sf.info(test.wav["p232_030"])
    assert (info.samplerate, info.channels, info.frames) == (16000, 1, 9600)
    for split in ids:
        kaldi_accepts(data / split)


def test_vctk_080_with_its_archive_folder(tmp_path: Path) -> None:
    corpus = vctk(tmp_path / "corpus/VCTK-Corpus", "wav48", ".wav").parent
    result = prepare(corpus, tmp_path / "data", "--subset", 1)
    assert result.returncode == 0, result.stderr
    assert "VCTK 0.80" in result.stderr
    ids = utterances(tmp_path / "data")
    assert ids["test"] == {"p232_030"} and ids["dev"] == {"p226_030"}  # VCTK's fixed split
    assert ids["train"] == {"p225_001", "p280_001", "p315_001", "s5_001"}


def test_parallel_corpus_brings_its_noise(tmp_path: Path) -> None:
    corpus = tmp_path / "voicebank"
    for index, (folder, speaker) in enumerate(
        (("trainset", "p226"), ("trainset", "p227"), ("trainset", "p228"), ("testset", "p232"))
    ):
        for number in (1, 2):
            wave = speech_like(10 * index + number, 0.6)
            name = f"{speaker}_{number:03d}{'_mic1' if folder == 'testset' else ''}.wav"
            write(corpus / f"clean_{folder}_wav" / name, wave, subtype="PCM_16")
            noisy = wave + np.random.default_rng(number).standard_normal(len(wave)) / 50
            write(corpus / f"noisy_{folder}_wav" / name, noisy, subtype="PCM_16")
    write(corpus / "clean_trainset_wav/p226_009.wav", speech_like(0))
    write(corpus / "clean_trainset_wav/p227_009.wav", speech_like(0))
    write(corpus / "noisy_trainset_wav/p227_009.wav", speech_like(0, 0.9))
    data = tmp_path / "data"
    result = prepare(corpus, data)
    assert result.returncode == 0, result.stderr
    assert "parallel" in result.stderr
    assert "p226_009.wav: has no counterpart" in result.stderr
    assert "p227_009.wav: has 14400 samples, its clean counterpart 16000" in result.stderr
    assert speakers(data)["test"] == {"p232"}
    result = corrupt(data, "train", "dev", "test")
    assert result.returncode == 0, result.stderr
    test = datadir.read(data / "test", noisy=True)
    assert test.noisy["p232_001"] == corpus / "noisy_testset_wav/p232_001_mic1.wav"
    assert (
        yaml.safe_load((data / "test/noise.yaml").read_text())["procedure"] == "given by the corpus"
    )
    result = local("corrupt", "--noise", CONF / "noise.yaml", data / "test")
    one_error_line(result, "brings its own noise", "--noise")


def test_nested_folders_and_case_of_suffixes(tmp_path: Path) -> None:
    for seed, speaker in enumerate(("ann", "bob", "cat")):
        folder = tmp_path / "corpus" / speaker
        write(folder / "monday" / "x.WAV", speech_like(10 * seed), format="WAV")
        write(folder / f"{speaker}_y.flac", speech_like(10 * seed + 1))
    write(tmp_path / "corpus/loose.wav", speech_like(3))
    (tmp_path / "corpus/ann/other.mp3").write_bytes(b"no audio")
    result = prepare(tmp_path / "corpus", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert (
        "lies outside the speakers' folders" in result.stderr
        and "ann/other.mp3: cannot be decoded" in result.stderr
    )
    assert "skipped 2 in all" in result.stderr
    everything = set().union(*utterances(tmp_path / "data").values())
    assert everything == {f"{s}_{n}" for s in ("ann", "bob", "cat") for n in "xy"}
    kaldi_accepts(tmp_path / "data/train")


def test_folders_that_are_not_speakers_are_refused(tmp_path: Path) -> None:
    """Set folders, a speaker's own folder, and VCTK's folders at every level."""
    for path in ("train/s01/1", "train/s02/1", "dev/s03/1", "test/s04/1"):
        write(tmp_path / f"sets/{path}.wav", speech_like(0))
    line = prepare(tmp_path / "sets", tmp_path / "data")
    one_error_line(
        line, "sets/dev: holds recordings only in its sub-folders", f"--corpus {tmp_path}/sets/dev"
    )
    chapters = ("1034", "11"), ("1034", "12"), ("1040", "7"), ("1069", "3")
    for seed, (speaker, chapter) in enumerate(chapters):
        recording = tmp_path / f"libri/{speaker}/{chapter}/{speaker}-{chapter}-0000.flac"
        write(recording, speech_like(seed))
    assert prepare(tmp_path / "libri", tmp_path / "data").returncode == 0
    assert set().union(*speakers(tmp_path / "data").values()) == {"1034", "1040", "1069"}
    one_error_line(
        prepare(tmp_path / "libri/1034", tmp_path / "no"),
        "all its recordings begin with 1034",
        "folder above",
    )
    shutil.copytree(tmp_path / "libri", tmp_path / "LibriSpeech/dev-clean")
    one_error_line(
        prepare(tmp_path / "LibriSpeech", tmp_path / "no"),
        f"such as --corpus {tmp_path}/LibriSpeech/dev-clean",
    )
    for seed, speaker in enumerate(("ann", "bob", "eve")):  # a split file says who is a speaker
        write(tmp_path / f"nested/{speaker}/monday/x.wav", speech_like(seed))
    one_error_line(
        prepare(tmp_path / "nested", tmp_path / "no"), "if ann is a speaker, say so by --split"
    )
    split = write_split(tmp_path, train=["ann"], dev=["bob"], test=["eve"])
    assert prepare(tmp_path / "nested", tmp_path / "own", "--split", split).returncode == 0
    corpus = vctk(
        tmp_path / "up/VCTK", "wav48_silence_trimmed", "_mic1.flac", names=("p225", "p226", "p232")
    )
    result = prepare(corpus / "wav48_silence_trimmed", tmp_path / "vctk")
    assert "is a VCTK 0.92 corpus: 12 recordings, 3 speakers" in result.stderr
    one_error_line(prepare(tmp_path / "up", tmp_path / "no"), f"such as --corpus {corpus}")


def test_bad_recordings_are_skipped_and_counted(plain_corpus: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(plain_corpus, corpus)
    good = speech_like(0)
    write(corpus / "ann/nan.wav", np.where(np.arange(16000) == 5, np.nan, good), subtype="FLOAT")
    write(corpus / "ann/silent.wav", np.zeros(16000))
    write(corpus / "ann/stereo.wav", np.stack([good, good], 1))
    write(corpus / "bob/none.wav", np.zeros(0))
    (corpus / "bob/empty.wav").write_bytes(b"")
    (corpus / "bob/text.wav").write_text("this is not audio, whatever its name says\n" * 9)
    whole = write(tmp_path / "whole.flac", good).read_bytes()
    (corpus / "zoe/cut.flac").write_bytes(whole[: len(whole) // 2])
    whole = write(tmp_path / "whole.wav", good).read_bytes()
    (corpus / "zoe/cut.wav").write_bytes(whole[: len(whole) // 2])
    data = tmp_path / "data"
    result = prepare(corpus, data)
    one_error_line(result, "cut.wav", "cut.flac", "same utt_id")
    (corpus / "zoe/cut.wav").rename(corpus / "zoe/short.wav")
    result = prepare(corpus, data)
    assert result.returncode == 0, result.stderr
    skipped = (data / "skipped").read_text().splitlines()
    assert len(skipped) == 8 and "skipped 8 in all" in result.stderr
    for name, reason in {
        "nan.wav": "NaN",
        "silent.wav": "silence",
        "stereo.wav": "2 channels",
        "none.wav": "no samples",
        "empty.wav": "0 bytes",
        "text.wav": "cannot be decoded",
        "cut.flac": "truncated",
        "short.wav": "truncated",
    }.items():
        assert any(name in line and reason in line for line in skipped), (name, skipped)
    assert sum(len(ids) for ids in utterances(data).values()) == 20


def test_a_large_corpus_is_announced_and_a_small_disk_refused(
    plain_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(notices, "_LARGE_BYTES", 1)
    recordings = corpora.read(plain_corpus).recordings
    notices.announce_cost(recordings, tmp_path, 16000, 2)
    said = capsys.readouterr().err
    assert (
        "20 recordings, about 0 h of audio" in said and "GB are free" in said and "2 job(s)" in said
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 10**5))
    with pytest.raises(
        InputError, match="GB are needed and 0.0 GB free: use --subset, or --data on another disk"
    ):
        notices.announce_cost(recordings, tmp_path, 16000, 2)


def test_useless_corpora_are_refused_in_one_line(plain_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_error_line(
        prepare(tmp_path / "empty", tmp_path / "data"), "no recordings found", "folder per speaker"
    )
    one_error_line(
        prepare(tmp_path / "nowhere", tmp_path / "data"), "no such corpus folder", "--corpus"
    )
    for number in range(3):
        write(tmp_path / f"one/ann/{number}.wav", speech_like(number))
    one_error_line(prepare(tmp_path / "one", tmp_path / "data"), "1 speaker(s)", "three in all")
    split = write_split(tmp_path, dev=["ann"], test=["zoo"])
    one_error_line(
        prepare(plain_corpus, tmp_path / "data", "--split", split),
        'no speaker "zoo" (did you mean "zoe"?)',
    )
    split = write_split(tmp_path, dev=["ann"], test=["ann"])
    one_error_line(
        prepare(plain_corpus, tmp_path / "data", "--split", split), "speaker ann is listed twice"
    )
    split = write_split(tmp_path, dev=["ann"], tests=["zoe"])
    one_error_line(
        prepare(plain_corpus, tmp_path / "data", "--split", split),
        'unknown key "tests" (did you mean "test"?)',
    )
    assert not (tmp_path / "data/corpus.yaml").exists()
    one_error_line(prepare(plain_corpus, plain_corpus / "data"), "lies inside the corpus", "--data")
