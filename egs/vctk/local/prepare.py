#!/usr/bin/env python3
"""Stage 0: from a corpus to Kaldi data directories DATA/train, DATA/dev and DATA/test, with
speakers of their own each.

    prepare.py --corpus DIR [--split FILE] [--subset N] [--sample-rate HZ] [--jobs N] [--part K/N]
               DATA

Recordings that are already mono at the wanted rate are used where they lie; others are converted
into DATA/local. Bad recordings are reported, listed in DATA/skipped and left out. What was made
from what stands in DATA/corpus.yaml and, for every recording, in DATA/local/prepared.made: the same
command again prepares what has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import soundfile as sf

from corpora import MINI, Corpus, read
from gan_denoise import terminal
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import SPLITS, c_sorted, speaker_ids
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically
from gan_denoise.owner import owning
from gan_denoise.provenance import FORMAT
from gan_denoise.terminal import program, say
from options import Part, positive, sharing
from prepared import Recordings, keys
from recording import Recording
from splits import decide_split, read_split, select

RECORD = "corpus.yaml"
# Speeds of one 2.3 GHz core relative to real time, the last one at 16 kHz
READING, CONVERTING, CORRUPTING = 1500, 500, 200
_LARGE_BYTES = 2**30
_REPORTED = 5


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument(
        "--split",
        type=Path,
        help="YAML: dev: [speakers], test: [speakers]; the others are in train",
    )
    parser.add_argument(
        "--subset", type=positive, help="use at most this many recordings per speaker"
    )
    parser.add_argument("--sample-rate", type=positive)
    sharing(parser)
    parser.add_argument(
        "--check", action="store_true", help="only check that DATA was made from what is named here"
    )
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    data = arguments.data
    wanted = {
        "corpus": str(arguments.corpus.resolve()) if arguments.corpus else None,
        "sample_rate": arguments.sample_rate,
        "subset": arguments.subset,
        "split": read_split(arguments.split) if arguments.split else None,
    }
    made_before = read_yaml(data / RECORD) if (data / RECORD).is_file() else None
    if made_before:
        if made_before.get("format") != FORMAT:
            raise InputError(
                f"{data}: was made by another version of this recipe: choose another --data"
            )
        strict = not arguments.check
        refuse_other(
            made_before, wanted, data, strict=strict, moved=strict and corpus_is_gone(made_before)
        )
    if arguments.check:
        if not made_before:
            raise InputError(f"{data}: holds no prepared data: run stage 0 first")
        return
    if arguments.corpus is None or arguments.sample_rate is None:
        parser.error("--corpus and --sample-rate are needed to prepare data")
    prepare(arguments, wanted, data, made_before)


def prepare(
    arguments: argparse.Namespace, wanted: dict, data: Path, made_before: dict | None
) -> None:
    """Prepare what is not prepared yet, or what has changed since. made_before: the record of a
    finished stage 0.
    """
    if data.resolve().is_relative_to(arguments.corpus.resolve()):
        raise InputError(
            f"{data}: lies inside the corpus, which would then hold what is made from it: choose"
            " another --data"
        )
    named = wanted["split"] or {}
    corpus = read(
        arguments.corpus, known_speakers={name for listed in named.values() for name in listed}
    )
    speakers = c_sorted({recording.speaker for recording in corpus.recordings})
    split = decide_split(corpus, speakers, wanted["split"])
    chosen = select(corpus, split, arguments.subset)
    mini = (arguments.corpus / MINI).is_file()
    record = {
        **wanted,
        "format": FORMAT,
        "mini": mini,
        "layout": corpus.layout,
        "speakers": {name: split[name] for name in SPLITS},
    }
    if made_before and made_before.get("speakers") != record["speakers"]:
        raise InputError(
            f"{data}: {arguments.corpus} has other speakers than when it was made: choose another"
            " --data"
        )
    part: Part = arguments.part
    with owning(data, *(data / name for name in SPLITS), shared=bool(part)):
        work = Recordings(data, arguments.corpus, arguments.sample_rate, arguments.jobs, part)
        recordings = [recording for listed in chosen.values() for recording in listed]
        due = work.due(part.of(recordings))
        if made_before and work.differ():  # so it is not the same corpus at another place
            refuse_other(made_before, wanted, data, strict=True)
        if part:
            work.prepare(due)
            return
        if (
            made_before
            and not due
            and not work.known.scattered
            and all(work.is_written(name, listed) for name, listed in chosen.items())
        ):
            say(f"stage 0: {data} is up to date")
            return
        if made_before:
            say(
                f"stage 0: {arguments.corpus} has changed since {data} was made: {len(due)}"
                " recordings to prepare anew"
            )
        else:
            found = f"{len(corpus.recordings)} recordings, {len(speakers)} speakers"
            say(f"stage 0: {arguments.corpus} is a {corpus.layout} corpus: {found}")
        announce_cost(due, data, arguments.sample_rate, arguments.jobs)
        gone = work.gone(recordings) if made_before else []
        skipped = [*corpus.missing, *gone, *work.prepare([*due, *work.unusable(recordings)])]
        report_skipped(skipped, data)
        report_corpus(corpus, work, arguments.sample_rate)
        refuse_leaks(
            (content, name, str(recording.clean))
            for name, listed in chosen.items()
            for recording in listed
            if (content := work.content(recording.utt_id))
        )
        for note in work.look_at_pairs(recordings):
            say(f"  WARNING: {note}")
        ids = kaldi_ids(corpus.recordings)
        for name, listed in chosen.items():
            work.write(name, listed, ids, keep_noise=bool(made_before) and not corpus.brings_noise)
        work.known.keep(
            key for recording in recordings for key in keys(recording) if key in work.known.made
        )
        write_atomically(data / "split.yaml", dump_yaml({name: split[name] for name in SPLITS}))
        write_atomically(data / RECORD, dump_yaml(record))  # last: now the stage is finished


def kaldi_ids(recordings: list[Recording]) -> dict[str, str]:
    """Speaker -> spk_id such that Kaldi accepts the order of utt2spk. Raises InputError where no
    spk_id can do that.
    """
    names = {recording.speaker for recording in recordings}
    for ids in (dict(zip(names, names, strict=True)), speaker_ids(names)):
        # Recordings are sorted by utt_id
        order = [ids[recording.speaker] for recording in recordings]
        if order == c_sorted(order) and len(set(ids.values())) == len(names):
            return ids
    last = None
    closed = set()
    for recording in recordings:
        if recording.speaker != last:
            if recording.speaker in closed:
                raise InputError(
                    f"{recording.clean}: sorted by utt_id, {last}'s recordings stand among those of"
                    f" {recording.speaker}, which Kaldi refuses: rename one of the two speakers"
                )
            closed.add(last)
            last = recording.speaker
    raise InputError(
        "the speakers' names do not sort as their recordings do, which Kaldi wants: give them equal"
        " lengths"
    )


def announce_cost(recordings: list[Recording], data: Path, sample_rate: int, jobs: int) -> None:
    """For a large corpus: say beforehand how much disk and time it will take. Raises InputError
    where the disk is too small.
    """
    size = sum(recording.clean.stat().st_size for recording in recordings)
    if size < _LARGE_BYTES:
        return
    sample = []
    for recording in recordings[:: max(1, len(recordings) // 50)]:
        with contextlib.suppress(sf.LibsndfileError):  # a bad one is reported when its turn comes
            sample.append((recording.clean.stat().st_size, sf.info(recording.clean)))
    if not sample:
        return
    duration_s = (
        sum(info.duration for _, info in sample)
        * size
        / sum(file_bytes for file_bytes, _ in sample)
    )
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
        f"stage 0: {len(recordings)} recordings, about {duration_s / 3600:.0f} h of audio: stages 0"
        f" and 1 will take about {need / 1e9:.0f} GB in {data} ({free / 1e9:.0f} GB are free) and"
        f" {minutes:.0f} minutes with {jobs} job(s)"
    )
    if need > free:
        raise InputError(
            f"{data}: {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free: use --subset, or"
            " --data on another disk"
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


def report_corpus(corpus: Corpus, work: Recordings, sample_rate: int) -> None:
    """What else a corpus holds, other rates, and speakers that seem to be none."""
    for kind, paths in corpus.unused.items():
        say(f"  not used: {len(paths)} {kind}, {paths[0]}{' and others' if paths[1:] else ''}")
    for rate, count in sorted(work.rates.items()):
        band = f": above {rate / 2000:g} kHz they hold nothing" if rate < sample_rate else ""
        if rate != sample_rate:
            say(f"  {count} recordings at {rate} Hz were converted{band}")
    if len({recording.speaker for recording in corpus.recordings}) == len(corpus.recordings):
        say(
            "  WARNING: every recording seems to have a speaker of its own: if some are of one"
            " person, train and test share people: name the speakers in a CSV file"
        )


def refuse_leaks(recordings: Iterable[tuple[str, str, str]]) -> None:
    """recordings: content, split and name of each. What is trained on is not tested on: equal
    content in two splits is refused, in one it is said. Raises InputError.
    """
    first: dict[str, tuple[str, str]] = {}
    twice = []
    for content, split, name in recordings:
        other_split, other = first.setdefault(content, (split, name))
        if other_split != split:
            raise InputError(
                f"{name}: is the same recording as {other}, one for {split}, one for {other_split}:"
                " remove one, or put both speakers into one by --split"
            )
        if other != name:
            twice.append(f"{name} = {other}")
    if twice:
        say(f"  WARNING: {len(twice)} recordings are there twice, {twice[0]} for one")


def corpus_is_gone(made_from: dict) -> bool:
    """Whether the corpus is no longer where it was."""
    return bool(made_from.get("corpus")) and not Path(made_from["corpus"]).exists()


def refuse_other(
    made_from: dict, wanted: dict, data: Path, *, strict: bool, moved: bool = False
) -> None:
    """Refuse data made from something else than what is wanted. strict: an option that is not given
    counts as well. moved: the corpus may have another path.
    """
    for key, value in wanted.items():
        if key == "corpus" and moved:
            continue
        if (strict or value is not None) and made_from.get(key) != value:
            option = f"--{key.replace('_', '-')}"
            was, now = made_from.get(key) or "none", value or "none"
            detail = "another split" if key == "split" else f"{option} {was}, not {now}"
            raise InputError(
                f"{data}: was made with {detail}: repeat the same {option}, or choose another"
                " --data"
            )


if __name__ == "__main__":
    main()
