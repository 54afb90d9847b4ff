#!/usr/bin/env python3
"""Stage 0: from a corpus to Kaldi data directories DATA/train, DATA/dev and DATA/test, with speakers of their own each.

    prepare.py --corpus DIR [--split FILE] [--subset N] [--sample-rate HZ] [--jobs N] DATA

Recordings that are already mono at the wanted rate are used where they lie; others are converted into DATA/local. Bad
recordings are reported, listed in DATA/skipped and left out. What was made from what stands in DATA/corpus.yaml.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
import yaml
from corpora import Recording, read
from splits import decide_split, read_split, select

from gan_denoise import audio, workers
from gan_denoise.config import read_yaml
from gan_denoise.datadir import DataDir, c_sorted, speaker_ids, write_table
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically
from gan_denoise.mix import SPLITS
from gan_denoise.noise import digest
from gan_denoise.terminal import clock, program, progress, say

RECORD = "corpus.yaml"
# Speeds of one 2.3 GHz core relative to real time, the last one at 16 kHz
READING, CONVERTING, CORRUPTING = 1500, 500, 200
_LARGE_BYTES = 2**30
_REPORTED = 5


@program
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--split", type=Path, help="YAML: dev: [speakers], test: [speakers]; the others are in train")
    parser.add_argument("--subset", type=int, help="use at most this many recordings per speaker")
    parser.add_argument("--sample-rate", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="only check that DATA was made from what is named here")
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    data = arguments.data
    wanted = {
        "corpus": str(arguments.corpus.resolve()) if arguments.corpus else None,
        "sample_rate": arguments.sample_rate,
        "subset": arguments.subset,
        "split": read_split(arguments.split) if arguments.split else None,
    }
    if (data / RECORD).is_file():
        made_from = read_yaml(data / RECORD)
        refuse_other(made_from, wanted, data, strict=not arguments.check)
        if not arguments.check:
            say(f"stage 0: {data} is up to date")
        return
    if arguments.check:
        raise InputError(f"{data}: holds no prepared data: run stage 0 first")
    prepare(arguments, wanted, data)


def prepare(arguments: argparse.Namespace, wanted: dict, data: Path) -> None:
    if data.resolve().is_relative_to(arguments.corpus.resolve()):
        raise InputError(
            f"{data}: lies inside the corpus, which would then hold what is made from it: choose another --data"
        )
    corpus = read(arguments.corpus)
    rate = arguments.sample_rate
    speakers = c_sorted({recording.speaker for recording in corpus.recordings})
    split = decide_split(corpus, speakers, wanted["split"])
    chosen = select(corpus, split, arguments.subset)
    say(
        f"stage 0: {arguments.corpus} is a {corpus.layout} corpus: {len(corpus.recordings)} recordings, {len(speakers)} speakers"
    )
    announce_cost([recording for recordings in chosen.values() for recording in recordings], data, rate, arguments.jobs)

    converted = data / "local" / f"at_{rate}_{digest(wanted['corpus'])}"
    tasks = [recording for recordings in chosen.values() for recording in recordings]
    outcomes = workers.each(partial(prepare_recording, folder=converted, sample_rate=rate), tasks, jobs=arguments.jobs)
    files, skipped = {}, list(corpus.missing)
    for outcome in progress(outcomes, total=len(tasks), label="stage 0: reading"):
        if outcome.os_error:
            raise InputError(outcome.reason)
        if outcome.reason:
            skipped.append(outcome.reason if ": " in outcome.reason else f"{outcome.item.clean}: {outcome.reason}")
        else:
            files[outcome.item.utt_id] = outcome.result
    report_skipped(skipped, data)

    ids = kaldi_ids(corpus.recordings)
    for split_name, recordings in chosen.items():
        usable = [recording for recording in recordings if recording.utt_id in files]
        if not usable:
            raise InputError(
                f"{arguments.corpus}: no usable recording for {split_name}: see {data / 'skipped'}, or change --split"
            )
        folder = data / split_name
        for name in (
            "noisy.scp",
            "noise.yaml",
            "audit.csv",
            "text",
            "given.scp",
            "given.digests",
        ):  # of an earlier, interrupted stage 0
            (folder / name).unlink(missing_ok=True)
        if corpus.layout == "parallel":
            write_table(folder / "given.scp", {recording.utt_id: files[recording.utt_id].noisy for recording in usable})
            write_table(
                folder / "given.digests", {recording.utt_id: files[recording.utt_id].digest for recording in usable}
            )
        made = DataDir(
            wav={recording.utt_id: files[recording.utt_id].clean for recording in usable},
            utt2spk={recording.utt_id: ids[recording.speaker] for recording in usable},
            utt2dur={recording.utt_id: files[recording.utt_id].duration_s for recording in usable},
            text={recording.utt_id: recording.text for recording in usable if recording.text},
        )
        made.write(folder)
        say(
            f"  {split_name:5s} {len(made.spk2utt):4d} speakers  {len(made):6d} recordings  {clock(made.duration_s):>9s}"
        )
    write_atomically(data / "split.yaml", yaml.safe_dump({name: split[name] for name in SPLITS}, sort_keys=False))
    record = {**wanted, "layout": corpus.layout, "speakers": {name: split[name] for name in SPLITS}}
    write_atomically(data / RECORD, yaml.safe_dump(record, sort_keys=False))  # last: now the stage is finished


def kaldi_ids(recordings: list[Recording]) -> dict[str, str]:
    """Speaker -> spk_id such that Kaldi accepts the order of utt2spk. Raises InputError where no spk_id can do that."""
    names = {recording.speaker for recording in recordings}
    for ids in (dict(zip(names, names, strict=True)), speaker_ids(names)):
        order = [ids[recording.speaker] for recording in recordings]  # recordings are sorted by utt_id
        if order == c_sorted(order) and len(set(ids.values())) == len(names):
            return ids
    last = None
    closed = set()
    for recording in recordings:
        if recording.speaker != last:
            if recording.speaker in closed:
                raise InputError(
                    f"{recording.clean}: sorted by utt_id, {last}'s recordings stand among those of {recording.speaker}, which "
                    "Kaldi refuses: rename one of the two speakers"
                )
            closed.add(last)
            last = recording.speaker
    raise InputError(
        "the speakers' names do not sort as their recordings do, which Kaldi wants: give them equal lengths"
    )


@dataclass(frozen=True)
class Prepared:
    """Files of one recording at the wanted rate. digest: of the noisy samples, where there are any."""

    clean: Path
    duration_s: float
    noisy: Path | None = None
    digest: str | None = None


def prepare_recording(recording: Recording, *, folder: Path, sample_rate: int) -> Prepared:
    """Check a recording and convert it where its rate is another one. Raises InputError."""
    clean, samples = _at_rate(recording.clean, folder / f"{recording.utt_id}.wav", sample_rate)
    if not samples.any():
        raise InputError(f"{recording.clean}: holds digital silence only: replace or remove it")
    if recording.noisy is None:
        return Prepared(clean, len(samples) / sample_rate)
    noisy, noisy_samples = _at_rate(recording.noisy, folder / "noisy" / f"{recording.utt_id}.wav", sample_rate)
    if len(noisy_samples) != len(samples):
        raise InputError(
            f"{recording.noisy}: has {len(noisy_samples)} samples, its clean counterpart {len(samples)}: align them first"
        )
    return Prepared(clean, len(samples) / sample_rate, noisy, hashlib.sha256(noisy_samples.tobytes()).hexdigest()[:16])


def _at_rate(path: Path, converted: Path, sample_rate: int) -> tuple[Path, np.ndarray]:
    """The file at the wanted rate, and its samples. What an interrupted stage 0 has converted is not converted again."""
    if not (converted.is_file() and converted.stat().st_mtime > path.stat().st_mtime):
        samples, rate = audio.read_mono(path, dtype="float64")
        if rate == sample_rate:
            return path.resolve(), samples
        audio.write_wav(converted, audio.resample(samples, rate, sample_rate), sample_rate)
    return converted.resolve(), audio.read_mono(converted, dtype="float64")[0]


def announce_cost(recordings: list[Recording], data: Path, sample_rate: int, jobs: int) -> None:
    """For a large corpus: say beforehand how much disk and time it will take. Raises InputError where the disk is too small."""
    size = sum(recording.clean.stat().st_size for recording in recordings)
    if size < _LARGE_BYTES:
        return
    sample = []
    for recording in recordings[:: max(1, len(recordings) // 50)]:
        with contextlib.suppress(sf.LibsndfileError):  # a bad one is reported when its turn comes
            sample.append((recording.clean.stat().st_size, sf.info(recording.clean)))
    if not sample:
        return
    duration_s = sum(info.duration for _, info in sample) * size / sum(file_bytes for file_bytes, _ in sample)
    converts = sample[0][1].samplerate != sample_rate
    given = recordings[0].noisy is not None
    files_written = (2 if given else 1) * converts + (0 if given else 1)
    need = int(duration_s * sample_rate * 2 * files_written)  # PCM 16
    data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data).free
    core_s = duration_s * (2 if given else 1) / (CONVERTING if converts else READING)
    core_s += 0 if given else duration_s / CORRUPTING * sample_rate / 16000
    minutes = core_s / jobs / 60
    say(
        f"stage 0: {len(recordings)} recordings, about {duration_s / 3600:.0f} h of audio: stages 0 and 1 will take about "
        f"{need / 1e9:.0f} GB in {data} ({free / 1e9:.0f} GB are free) and {minutes:.0f} minutes with {jobs} job(s)"
    )
    if need > free:
        raise InputError(
            f"{data}: {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free: use --subset, or --data on another disk"
        )


def report_skipped(skipped: list[str], data: Path) -> None:
    """Name what was left out: the first few on the terminal, all of it in DATA/skipped."""
    (data / "skipped").unlink(missing_ok=True)
    if not skipped:
        return
    write_atomically(data / "skipped", "".join(f"{line}\n" for line in skipped))
    for line in skipped[:_REPORTED]:
        say(f"  skipped {line}")
    say(f"  skipped {len(skipped)} in all, listed in {data / 'skipped'}")


def refuse_other(made_from: dict, wanted: dict, data: Path, *, strict: bool) -> None:
    """Refuse data made from something else than what is wanted. strict: an option that is not given counts as well."""
    for key, value in wanted.items():
        if (strict or value is not None) and made_from.get(key) != value:
            option = f"--{key.replace('_', '-')}"
            was, now = made_from.get(key) or "none", value or "none"
            detail = "another split" if key == "split" else f"{option} {was}, not {now}"
            raise InputError(f"{data}: was made with {detail}: repeat the same {option}, or choose another --data")


if __name__ == "__main__":
    main()
