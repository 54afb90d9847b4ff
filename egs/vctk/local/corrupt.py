#!/usr/bin/env python3
"""Stage 1: noisy.scp and noise.yaml in data directories, by the fixed procedure, and an audit of
what it does to speech.

    corrupt.py --noise FILE [--jobs N] [--part K/N] [--no-audit] DATADIR...

A parallel corpus brings its own noise: there `--noise` must not be given. DATADIR's name up to the
first `_` (train, dev, test) says which recordings a `mix` may use. DATADIR/noisy.made says what
every noisy file was made from: the same command again makes those anew whose clean file has
changed.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from gan_denoise import audio, datadir, scoring, terminal, workers
from gan_denoise.config import dump_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.files import digest, write_atomically
from gan_denoise.metrics import METRICS, lead_metric
from gan_denoise.noise import corrupt_file, load_once
from gan_denoise.owner import owning
from gan_denoise.provenance import Provenance, file_digests, noise_source, split_of
from gan_denoise.terminal import program, progress, say
from options import WHOLE, Part, sharing

DEFAULT = Path(__file__).resolve().parents[1] / "conf/noise.yaml"
AUDITED = 50  # utterances per split
WIPED_OUT_STOI = 0.6


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--noise", type=Path, help=f"procedure ({DEFAULT.parent.name}/{DEFAULT.name})"
    )
    sharing(parser)
    parser.add_argument(
        "--check", action="store_true", help="only check that the noise is this one"
    )
    parser.add_argument("--no-audit", action="store_true")
    parser.add_argument(
        "datadirs", type=Path, nargs="*", metavar="DATADIR", help="none: only check the procedure"
    )
    arguments = parser.parse_args()
    if not arguments.datadirs:
        # Which reads the recordings of its `mix`
        load_once(arguments.noise or DEFAULT).fingerprint(16000)
    if not (arguments.no_audit or arguments.part):  # whose workers score afterwards
        scoring.preload()
    for folder in arguments.datadirs:
        corrupt(folder, arguments)


def corrupt(folder: Path, arguments: argparse.Namespace) -> None:
    data = datadir.read(folder)
    given = folder / "given.scp"
    if given.is_file() and arguments.noise:
        raise InputError(f"{folder}: this corpus brings its own noise: leave out --noise")
    noise = arguments.noise or DEFAULT
    sample_rate = _sample_rate(data)
    if given.is_file():
        record = given_noise(folder, sample_rate)
    else:
        procedure = load_once(noise)
        record = {
            "fingerprint": procedure.fingerprint(sample_rate),
            "sample_rate": sample_rate,
            "procedure": procedure.parameters,
            "folder": str(noise.resolve().parent),  # where relative paths of its `mix` begin
        }
    if (folder / "noise.yaml").is_file():
        made_with, fingerprint = datadir.read_noise(folder)["fingerprint"], record["fingerprint"]
        if made_with != fingerprint and not given.is_file():
            raise InputError(
                f"{folder}: was corrupted by another procedure ({made_with}, not {fingerprint}):"
                " repeat its --noise, or choose another --data"
            )
    elif arguments.check:
        raise InputError(f"{folder}: has no noise yet: run stage 1 first")
    if arguments.check:
        return
    part = arguments.part
    with owning(folder, shared=bool(part)):
        if part:
            if not given.is_file():
                corrupt_all(folder, data, noise, record["fingerprint"], arguments.jobs, part)
            return
        if given.is_file():
            made = write_noisy(folder, record, datadir.read_scp(given))
        else:
            noisy, changed = corrupt_all(folder, data, noise, record["fingerprint"], arguments.jobs)
            made = write_noisy(folder, record, noisy) or changed
        if not made:
            say(f"stage 1: {folder} is up to date")
        if made:
            (folder / "audit.csv").unlink(missing_ok=True)
        if not arguments.no_audit and not (folder / "audit.csv").is_file():
            audit(folder, arguments.jobs)


def given_noise(folder: Path, sample_rate: int) -> dict:
    """noise.yaml of a corpus that brings its own. All splits are called by what train holds, since
    a model for one is a model for all; data_digest tells the recordings themselves apart.
    """
    train = folder.parent / "train/given.digests"
    named = datadir.read_table(train if train.is_file() else folder / "given.digests")
    return {
        "fingerprint": digest([sample_rate, named]),
        "sample_rate": sample_rate,
        "procedure": "given by the corpus",
    }


def write_noisy(folder: Path, record: dict, noisy: dict[str, Path]) -> bool:
    """Write noise.yaml and noisy.scp where they do not say this already; returns whether they did
    not.
    """
    scp = folder / "noisy.scp"
    if scp.is_file() and (folder / "noise.yaml").is_file():
        same = datadir.read_noise(folder)["fingerprint"] == record["fingerprint"]
        if same and datadir.read_scp(scp) == noisy:
            return False
    write_atomically(folder / "noise.yaml", dump_yaml(record))
    datadir.write_table(scp, noisy)  # last: now the stage is finished
    return True


def corrupt_all(
    folder: Path, data: DataDir, noise: Path, fingerprint: str, jobs: int, part: Part = WHOLE
) -> tuple[dict[str, Path], bool]:
    """Write the noisy files of a part that are not there, or were made from something else; returns
    all of them (utt_id -> file), and whether there was something to do. Raises InputError if a
    single one fails.
    """
    started = time.monotonic()
    target = (folder / "noisy").resolve()
    noisy = {utt_id: target / f"{utt_id}.wav" for utt_id in part.of(data.utt_ids)}
    known = Provenance(folder / "noisy.made", str(part))
    clean = file_digests({utt_id: data.wav[utt_id] for utt_id in noisy}, jobs=jobs)
    wanted = {utt_id: noise_source(fingerprint, folder, clean[utt_id]) for utt_id in noisy}
    due = known.due(wanted, file_digests(noisy, jobs=jobs))
    tasks = [(utt_id, data.wav[utt_id], noisy[utt_id], data.utt2dur[utt_id]) for utt_id in due]
    reasons, work = [], partial(corrupt_one, noise=noise, split=split_of(folder))
    for outcome in progress(
        workers.each(work, tasks, jobs=jobs), total=len(tasks), label=f"stage 1: {folder.name}"
    ):
        if outcome.reason:
            reasons.append(outcome.reason)
        else:
            known.add(outcome.item[0], wanted[outcome.item[0]], outcome.item[2])
    if reasons:
        raise InputError(
            f"{folder}: {len(reasons)} of {len(tasks)} recordings could not be corrupted, the"
            f" first: {reasons[0]}"
        )
    if not part and (due or known.scattered):
        known.keep(noisy)
    if due:
        seconds, duration_s = (
            time.monotonic() - started,
            sum(data.utt2dur[utt_id] for utt_id in due),
        )
        say(
            f"stage 1: {folder.name}: {len(tasks)} recordings in {seconds:.1f} s, "
            f"{duration_s / seconds:.0f} x real time, {jobs} job(s)"
        )
    return noisy, bool(due)


def corrupt_one(task: tuple[str, Path, Path, float], *, noise: Path, split: str) -> None:
    utt_id, source, target, duration_s = task
    corrupt_file(noise, source, target, utt_id, split=split, duration_s=duration_s)


def audit(folder: Path, jobs: int) -> None:
    """Score noisy against clean on up to 50 fixed utterances; print it, keep it in audit.csv, warn
    where speech is lost.
    """
    data = datadir.read(folder, noisy=True)
    pairs = [
        scoring.Pair(utt_id, data.wav[utt_id], data.noisy[utt_id])
        for utt_id in data.spread(AUDITED)
    ]
    lead = lead_metric(datadir.read_noise(folder)["sample_rate"])
    metrics = (lead, "stoi", "si_sdr")
    scored = scoring.score(pairs, jobs=jobs, metrics=metrics)
    rows = list(progress(scored, total=len(pairs), label=f"stage 1: audit of {folder.name}"))
    scoring.write_csv(folder / "audit.csv", rows)
    values = {name: [row[name] for row in rows if row[name] is not None] for name in metrics}
    means = {
        name: float(np.mean(scores)) if scores else float("nan") for name, scores in values.items()
    }
    say(
        f"stage 1: audit of {folder.name}: noisy against clean, {len(rows)} utterances: SI-SDR"
        f" {means['si_sdr']:.2f} dB, {METRICS[lead].heading} {means[lead]:.2f}, STOI"
        f" {means['stoi']:.3f} ({folder / 'audit.csv'})"
    )
    failed = {
        name: len(rows) - len(scores) for name, scores in values.items() if len(scores) < len(rows)
    }
    if failed:
        say(
            "  without a value: "
            + ", ".join(f"{name} {count} of {len(rows)}" for name, count in failed.items())
        )
    if means["stoi"] < WIPED_OUT_STOI:
        say(
            f"  WARNING: STOI is under {WIPED_OUT_STOI}: this procedure wipes the speech out; make"
            " it milder"
        )


def _sample_rate(data: DataDir) -> int:
    return audio.read(next(iter(data.wav.values())))[1]


if __name__ == "__main__":
    main()
