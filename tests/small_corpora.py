"""Small corpora of each layout, and what Kaldi asks of the data directories made from them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from conftest import local, speech_like, write
from gan_denoise import datadir
from gan_denoise.config import dump_yaml


def prepare(corpus: Path, data: Path, *options: Any) -> subprocess.CompletedProcess:
    return local("prepare", "--corpus", corpus, "--sample-rate", 16000, *options, data)


def kaldi_accepts(folder: Path) -> None:
    """Check what Kaldi's validate_data_dir.sh --no-feats --no-text checks, with sort and sets."""
    tables = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    utts = [line.split()[0] for line in tables["utt2spk"].splitlines()]
    assert utts and utts == sorted(set(utts), key=str.encode)
    for name in ("wav.scp", "utt2dur", "text", "noisy.scp"):
        if name in tables:
            assert tables[name].endswith("\n")
            assert [line.split()[0] for line in tables[name].splitlines()] == utts, name
    lines = tables["utt2spk"].splitlines()
    assert all(len(line.split()) == 2 for line in lines)
    # Sort -k2
    by_speaker = sorted(lines, key=lambda line: (line.split(" ", 1)[1].encode(), line.encode()))
    assert by_speaker == lines
    listed = [line.split() for line in tables["spk2utt"].splitlines()]
    assert [speaker for speaker, *_ in listed] == sorted(
        {speaker for speaker, *_ in listed}, key=str.encode
    )
    assert {(utt, speaker) for speaker, *utt_ids in listed for utt in utt_ids} == {
        tuple(line.split()) for line in lines
    }
    assert all(float(line.split()[1]) > 0 for line in tables["utt2dur"].splitlines())


def speakers(data: Path) -> dict[str, set[str]]:
    return {split: set(datadir.read(data / split).spk2utt) for split in ("train", "dev", "test")}


def utterances(data: Path) -> dict[str, set[str]]:
    return {split: set(datadir.read(data / split).wav) for split in ("train", "dev", "test")}


def vctk(
    folder: Path,
    audio_name: str,
    suffix: str,
    names: tuple[Any, ...] = ("p225", "p226", "p232", "p280", "p315", "s5"),
) -> Path:
    """A small VCTK: sentences 001 and 002 by everybody, 030 and 031 by each speaker alone."""
    for index, speaker in enumerate(names):
        for number in (1, 2, 30, 31):
            stem = f"{speaker}_{number:03d}"
            wave = speech_like(100 * index + number, 0.6, 48000)
            write(folder / audio_name / speaker / f"{stem}{suffix}", wave, 48000, subtype="PCM_16")
            if speaker != "p315":
                text = f"Sentence {number}." if number < 25 else f"Sentence {number} by {speaker}."
                (folder / "txt" / speaker).mkdir(parents=True, exist_ok=True)
                (folder / "txt" / speaker / f"{stem}.txt").write_text(text + "\n")
    return folder


def corrupt(data: Path, *names: str) -> subprocess.CompletedProcess:
    return local("corrupt", "--no-audit", *(data / name for name in names))


def write_split(folder: Path, **lists: Any) -> Path:
    path = folder / "split.yaml"
    path.write_text(dump_yaml(lists))
    return path
