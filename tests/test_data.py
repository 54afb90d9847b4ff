"""Data directories, once they are there: what changed is made anew, what is wrong is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import local, one_error_line, speech_like, write
from gan_denoise import datadir
from gan_denoise.config import read_yaml
from gan_denoise.errors import InputError
from small_corpora import corrupt, prepare, write_split


def test_what_changed_in_a_corpus_is_made_anew_and_nothing_else(
    plain_corpus: Path, tmp_path: Path
) -> None:
    """Four changes: a recording is replaced, two files are spoiled, a recording is added.

    The replaced recording keeps its size and time. One spoiled file is a converted one, the other a
    noisy one.
    """
    corpus, data = tmp_path / "corpus", tmp_path / "data"
    shutil.copytree(plain_corpus, corpus)
    write(corpus / "ann/rec0.wav", speech_like(70, 1.0, 8000), 8000)  # one that is converted
    split = write_split(tmp_path, dev=["bob"], test=["zoe"])
    names = ("train", "dev", "test")

    def again() -> dict[Path, int]:
        for result in (prepare(corpus, data, "--split", split), corrupt(data, *names)):
            assert result.returncode == 0, result.stderr
        return {path: path.stat().st_mtime_ns for path in data.rglob("*.wav")}

    kept = again()
    assert again() == kept
    noisy = data / "train/noisy"
    converted = datadir.read(data / "train").wav["ann_rec0"]

    def changed() -> set[str]:
        nonlocal kept
        before, kept = kept, again()
        return {str(path.relative_to(data)) for path in kept if kept[path] != before.get(path)}

    source, times = corpus / "ann/rec1.wav", (corpus / "ann/rec1.wav").stat()
    write(source, speech_like(71, 1.2), subtype="PCM_16")
    assert source.stat().st_size == times.st_size
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed() == {"train/noisy/ann_rec1.wav"}
    write(corpus / "ann/rec0.wav", speech_like(72, 1.0, 8000), 8000)
    local = str(converted.relative_to(data.resolve()))
    assert changed() == {local, "train/noisy/ann_rec0.wav"}
    converted.write_bytes(b"")
    assert changed() == {local}  # the same content again, so the noise stays
    (noisy / "ann_rec2.wav").write_bytes((noisy / "ann_rec2.wav").read_bytes()[:-100])
    assert changed() == {"train/noisy/ann_rec2.wav"}
    (noisy / "ann_rec3.wav").unlink()
    # Half a line
    (data / "train/noisy.made").write_text((data / "train/noisy.made").read_text()[:-9])
    assert "train/noisy/ann_rec3.wav" in changed()
    write(corpus / "ann/rec9.wav", speech_like(73, 1.5), subtype="PCM_16")
    assert changed() == {"train/noisy/ann_rec9.wav"}
    (corpus / "ann/rec9.wav").unlink()
    assert changed() == set() and "ann_rec9" not in datadir.read(data / "train", noisy=True).noisy
    write(corpus / "eve/rec0.wav", speech_like(74))
    one_error_line(prepare(corpus, data, "--split", split), "has other speakers", "--data")


def test_tables_of_a_list_that_changed_are_written_anew(tmp_path: Path) -> None:
    """Its texts, a speaker's label, and whether it names noisy files; no recording changes."""
    data, rows = tmp_path / "data", {}
    for seed, speaker in enumerate(("a", "a", "b", "b", "c", "c", "d", "d")):
        wave, key = speech_like(seed, 0.6), f"u{seed}"
        write(tmp_path / f"{key}.wav", wave, subtype="PCM_16")
        noise = speech_like(seed + 50, 0.6) / 9
        write(tmp_path / f"noisy/{key}.wav", wave + noise, subtype="PCM_16")
        rows[key] = [f"{key}.wav", speaker, {"c": "dev", "d": "test"}.get(speaker, ""), key * 2]

    def again(noisy: bool = False) -> str:
        columns = ["clean", "speaker", "split", "text", "noisy"][: 4 + noisy]
        lines = [[*row, f"noisy/{row[0]}"][: len(columns)] for row in rows.values()]
        content = "".join(f"{','.join(line)}\n" for line in [columns, *lines])
        (tmp_path / "list.csv").write_text(content)
        listed, checked = (
            prepare(tmp_path / "list.csv", data),
            corrupt(data, "train", "dev", "test"),
        )
        assert (listed.returncode, checked.returncode) == (0, 0), listed.stderr + checked.stderr
        assert local("same_data", data, tmp_path / "exp").returncode == 0
        return listed.stderr

    again()
    assert "up to date" in again()
    noisy = {path: path.stat().st_mtime_ns for path in data.rglob("*.wav")}
    rows["u0"][3] = '"a  new\ntext"'
    assert "its tables are written anew" in again() and "up to date" in again()
    texts = {"u0": "a new text", "u1": "u1u1", "u2": "u2u2", "u3": "u3u3"}
    assert datadir.read(data / "train").text == texts
    rows["u1"][1] = "b"
    assert "its tables are written anew" in again() and "up to date" in again()
    assert datadir.read(data / "train").utt2spk["u1"] == "b"
    assert noisy == {path: path.stat().st_mtime_ns for path in data.rglob("*.wav")}
    assert "8 recordings to prepare anew" in again(noisy=True)
    assert "up to date" in again(noisy=True)
    test = datadir.read(data / "test", noisy=True)
    assert test.noisy["u6"] == tmp_path / "noisy/u6.wav"
    assert read_yaml(data / "corpus.yaml")["layout"] == "parallel (listed)"
    assert "its tables are written anew" in again() and "up to date" in again()
    assert datadir.read(data / "test", noisy=True).noisy["u6"].is_relative_to(data)
    assert "given" not in (data / "test/noise.yaml").read_text()


def test_a_clean_file_that_is_not_as_long_as_its_utterance_is_refused(
    prepared: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    utt_id = datadir.read(data / "train").utt_ids[0]
    longer = write(tmp_path / "longer.wav", speech_like(0, 3.0), subtype="PCM_16")
    table = datadir.read_table(data / "train/wav.scp") | {utt_id: longer}
    datadir.write_table(data / "train/wav.scp", table)
    one_error_line(corrupt(data, "train"), "longer.wav", utt_id, "lasts 3.000 s, utt2dur says")


def test_data_from_something_else_is_refused(
    plain_corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    result = prepare(plain_corpus, prepared)
    assert result.returncode == 0 and "up to date" in result.stderr
    one_error_line(prepare(tmp_path, prepared), "--corpus", "--data")
    one_error_line(prepare(plain_corpus, prepared, "--subset", 2), "--subset none, not 2")
    split = write_split(tmp_path, dev=["ann"], test=["zoe"])
    one_error_line(prepare(plain_corpus, prepared, "--split", split), "another split", "--split")
    result = local("prepare", "--check", "--sample-rate", 48000, prepared)
    one_error_line(result, "--sample-rate 16000, not 48000")


def test_a_corpus_that_moved_is_the_same_by_its_content(plain_corpus: Path, tmp_path: Path) -> None:
    data, old, new = tmp_path / "data", tmp_path / "old", tmp_path / "new"
    shutil.copytree(plain_corpus, old)
    options = ["--sample-rate", 8000, data]
    assert local("prepare", "--corpus", old, *options).returncode == 0
    assert local("corrupt", "--no-audit", data / "test").returncode == 0
    noisy = {path: path.stat().st_mtime_ns for path in (data / "test/noisy").iterdir()}
    old.rename(new)
    result = local("prepare", "--corpus", new, *options)
    assert result.returncode == 0, result.stderr
    assert local("corrupt", "--no-audit", data / "test").returncode == 0
    assert noisy == {path: path.stat().st_mtime_ns for path in (data / "test/noisy").iterdir()}
    other = new.rename(tmp_path / "other")
    write(other / "ann/rec0.wav", speech_like(99), subtype="PCM_16")
    one_error_line(local("prepare", "--corpus", other, *options), f"--corpus {new}, not {other}")


def test_validation_names_what_is_wrong(prepared: Path, tmp_path: Path) -> None:
    def spoiled(name: str, change: Any) -> Path:
        folder = tmp_path / name.replace(".", "_")
        shutil.copytree(prepared / "train", folder, dirs_exist_ok=True)
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(change(lines)))
        return folder

    datadir.validate(prepared / "train")
    for name, change, message in (
        ("utt2spk", lambda lines: lines[::-1], "not sorted"),
        ("wav.scp", lambda lines: lines[:-1], "lists other utterances"),
        (
            "utt2dur",
            lambda lines: [lines[0].split()[0] + " 0\n", *lines[1:]],
            "expected a duration",
        ),
        ("spk2utt", lambda lines: lines[:-1], "not the inverse"),
        ("noisy.scp", lambda lines: lines[:1] + lines, "listed twice"),
    ):
        with pytest.raises(InputError, match=message):
            datadir.validate(spoiled(name, change))
