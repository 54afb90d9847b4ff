"""Stage 1's noisy.scp and noise.yaml of a data directory.

The noisy files come from the fixed procedure, or from a parallel corpus, which brings its own.
DATADIR/noisy.made says what every noisy file was made from: those are made anew whose clean file
has changed.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from gan_denoise import audio, datadir
from gan_denoise.config import dump_yaml
from gan_denoise.corruption.noise import corrupt_file, load_once
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import split_of
from gan_denoise.system.files import digest, write_atomically
from gan_denoise.system.terminal import say
from kaldi.options import Part
from kaldi.stage import Making, Piece, list_files, make


def brings_noise(folder: Path) -> bool:
    """Whether a data directory is of a parallel corpus."""
    return (folder / "given.scp").is_file()


def noise_of(folder: Path, data: DataDir, noise: Path) -> dict[str, Any]:
    """What noise.yaml of a data directory is to say.

    It names the procedure `noise` where the corpus brings no noise of its own. Raises InputError
    where noise.yaml says something else.
    """
    sample_rate = audio.read(next(iter(data.wav.values())))[1]
    if brings_noise(folder):
        return _of_corpus(folder, sample_rate)
    procedure = load_once(noise)
    fingerprint = procedure.fingerprint(sample_rate)
    if (folder / "noise.yaml").is_file():
        before = datadir.read_noise(folder)["fingerprint"]
        if before != fingerprint:
            raise InputError(
                f"{folder}: was corrupted by another procedure ({before}, not {fingerprint}):"
                " repeat its --noise, or choose another --data"
            )
    return {
        "fingerprint": fingerprint,
        "sample_rate": sample_rate,
        "procedure": procedure.at(sample_rate),
        "folder": str(noise.resolve().parent),  # where relative paths of its `mix` begin
    }


def _of_corpus(folder: Path, sample_rate: int) -> dict[str, Any]:
    """What noise.yaml says of a parallel corpus.

    The fingerprint of every split is that of what train holds, since a model for one split is a
    model for all. data_digest tells the recordings themselves apart.
    """
    train = folder.parent / "train/given.digests"
    listed = datadir.read_table(train if train.is_file() else folder / "given.digests")
    return {
        "fingerprint": digest([sample_rate, listed]),
        "sample_rate": sample_rate,
        "procedure": "given by the corpus",
    }


def corrupt(
    folder: Path, data: DataDir, noise: Path, record: dict[str, Any], jobs: int, part: Part
) -> bool:
    """Make the noisy files of a part of a data directory that are missing or out of date.

    Returns whether there was something to do. record: noise.yaml. Raises InputError.
    """
    if brings_noise(folder):
        return not part and write_tables(folder, record, datadir.read_scp(folder / "given.scp"))
    started, label = time.monotonic(), f"stage 1: {folder.name}"
    target, split = (folder / "noisy").resolve(), split_of(folder)
    files = {utt_id: target / f"{utt_id}.wav" for utt_id in data.utt_ids}
    rests_on = (record["fingerprint"], split)
    making = Making(data, (data.wav,), files, folder / "noisy.made", rests_on)
    work = partial(corrupt_one, noise=noise, split=split)
    done = make(making, work, label=label, jobs=jobs, part=part)
    if done.utt_ids:
        seconds = time.monotonic() - started
        say(
            f"{label}: {len(done.utt_ids)} recordings in {seconds:.1f} s, "
            f"{done.duration_s / seconds:.0f} x real time, {jobs} job(s)"
        )
    return not part and (write_tables(folder, record, files) or bool(done.utt_ids))


def corrupt_one(piece: Piece, *, noise: Path, split: str) -> None:
    (clean,) = piece.sources
    corrupt_file(noise, clean, piece.file, piece.utt_id, split=split, duration_s=piece.duration_s)


def write_tables(folder: Path, record: dict[str, Any], noisy: dict[str, Path]) -> bool:
    """Write noise.yaml and noisy.scp where they do not say this already.

    Returns whether they did not.
    """
    scp, described = folder / "noisy.scp", folder / "noise.yaml"
    same = (
        described.is_file() and datadir.read_noise(folder)["fingerprint"] == record["fingerprint"]
    )
    if same:
        return list_files(scp, noisy)
    write_atomically(described, dump_yaml(record))
    datadir.write_table(scp, noisy)  # last: now the stage is finished
    return True
