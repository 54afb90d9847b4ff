#!/usr/bin/env python3
"""Stage 0 for several corpora: each one's data directory, and DATA/{train,dev,test} of all.

    combine.py --corpus DIR --corpus DIR [...] [as prepare.py] DATA

After Kaldi's combine_data.sh. prepare.py makes DATA/corpora/NAME of each corpus, by the speakers
that the split file names there. utt_ids and speakers are those of the single corpora, so the noise
is the same; where two corpora share one, all of them get the prefix `NAME-`. DATA/corpus.yaml says
whose speakers they are: tables then have a section for each corpus.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from corpora import read
from gan_denoise import datadir, terminal
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import SPLITS, DataDir, c_sorted
from gan_denoise.errors import InputError, nearest
from gan_denoise.files import write_atomically
from gan_denoise.owner import owning
from gan_denoise.provenance import Provenance
from gan_denoise.terminal import clock, program, say
from prepare import refuse_leaks
from prepared import OF_STAGE_1
from splits import read_split

RECORD = "corpus.yaml"


@program
def main() -> int:
    parser = terminal.parser(__doc__)
    parser.add_argument("--corpus", type=Path, action="append", required=True)
    parser.add_argument("--split", type=Path)
    for name in ("--subset", "--sample-rate", "--jobs", "--part"):
        parser.add_argument(name)
    parser.add_argument(
        "--equal-names",
        choices=("one", "apart"),
        default="one",
        help="speakers of one name in two corpora are one person, or two (one)",
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("data", type=Path, metavar="DATA")
    arguments = parser.parse_args()
    wanted = {name: getattr(arguments, name) for name in ("subset", "sample_rate", "jobs", "part")}
    passed_on = [f"--{name.replace('_', '-')}={value}" for name, value in wanted.items() if value]
    folders = {corpus.absolute().name: corpus for corpus in arguments.corpus}
    if len(folders) < len(arguments.corpus):
        raise InputError("--corpus: two folders have the same name: rename one, or link to it")
    record = arguments.data / RECORD
    if record.is_file() and list(read_yaml(record).get("corpora", {})) != list(folders):
        raise InputError(f"{arguments.data}: was made from another --corpus: choose another --data")
    split = read_split(arguments.split) if arguments.split else None
    splits = own_splits(folders, split) if split else {}
    for name, corpus in folders.items():
        own = arguments.data / "corpora" / name
        options = ["--corpus", str(corpus), *passed_on]
        if name in splits:
            path = own.with_suffix(".split.yaml")
            if not arguments.check:
                write_atomically(path, dump_yaml(splits[name]))
            options += ["--split", str(path)]
        options += ["--check"] if arguments.check else []
        prepare = Path(__file__).with_name("prepare.py")
        made = subprocess.run([sys.executable, prepare, *options, str(own)], check=False)
        if made.returncode:
            return made.returncode  # it has said why
    if not arguments.check and not arguments.part:
        with owning(arguments.data, *(arguments.data / part for part in SPLITS)):
            combine(arguments.data, list(folders), split, arguments.equal_names == "one")
    return 0


def own_splits(folders: dict[str, Path], split: dict) -> dict[str, dict[str, list[str]]]:
    """Of one split for all, what concerns each corpus. Raises InputError for a speaker of none."""
    speakers = {
        name: {r.speaker for r in read(folder).recordings} for name, folder in folders.items()
    }
    everyone = set().union(*speakers.values())
    for listed in split.values():
        for speaker in listed:
            if speaker not in everyone:
                raise InputError(
                    f'--split: no corpus has a speaker "{speaker}"{nearest(speaker, everyone)}'
                )
    own = {}
    for name, present in speakers.items():
        own[name] = {part: [s for s in listed if s in present] for part, listed in split.items()}
        own[name] = {part: listed for part, listed in own[name].items() if listed}
        if missing := [part for part in ("dev", "test") if part not in own[name]]:
            raise InputError(f"--split: names no speaker of {folders[name]} for {missing[0]}")
    return own


def combine(data: Path, names: list[str], split: dict | None, one_person: bool) -> None:
    """Write DATA/{train,dev,test} and DATA/corpus.yaml of DATA/corpora/NAME. one_person: whether
    those of equal names are. Raises InputError where one would be in two splits.
    """
    records = [read_yaml(data / "corpora" / name / RECORD) for name in names]
    if any(record["layout"].startswith("parallel") for record in records):
        raise InputError("--corpus: a parallel corpus brings its own noise: use it by itself")
    parts = {
        part: {name: datadir.read(data / "corpora" / name / part) for name in names}
        for part in SPLITS
    }
    if one_person:
        check_people(
            {name: record["speakers"] for name, record in zip(names, records, strict=True)}
        )
    refuse_leaks(contents(data, parts))
    apart = all(stay_apart(own) for own in parts.values()) and stay_apart(
        {f"{name} {part}": own[name] for part, own in parts.items() for name in names}
    )
    for part, own in parts.items():
        if not apart:
            own = {name: prefixed(alone, f"{name}-") for name, alone in own.items()}
        parts[part] = own
        merged = merge(own.values())
        write(merged, data / part)
        found = f"{len(merged.spk2utt):4d} speakers  {len(merged):6d} recordings"
        say(f"  {part:5s} {found}  {clock(merged.duration_s):>9s}  of {len(names)} corpora")
    corpora = {
        name: {part: c_sorted(parts[part][name].spk2utt) for part in SPLITS} for name in names
    }
    record = {
        **records[0],
        "corpus": [record["corpus"] for record in records],
        "layout": f"combined ({', '.join(names)})",
        "split": split,
        "speakers": {part: [s for name in names for s in corpora[name][part]] for part in SPLITS},
        "corpora": corpora,
    }
    write_atomically(data / RECORD, dump_yaml(record))


def check_people(corpora: Mapping[str, Mapping[str, list[str]]]) -> None:
    """corpora: name -> split -> speakers. Raises InputError for one who is in two splits."""
    places: dict[str, tuple[str, str]] = {}
    for name, splits in corpora.items():
        for part, listed in splits.items():
            for speaker in listed:
                other, other_part = places.setdefault(speaker, (name, part))
                if part != other_part:
                    raise InputError(
                        f"--corpus: {speaker} is in {other}'s {other_part} and in {name}'s {part}:"
                        " if they are one person, put them into one by --split; if not, say"
                        " --equal-names apart"
                    )


def contents(data: Path, parts: Mapping[str, Mapping[str, DataDir]]) -> Iterator:
    """Of every recording: a digest of its samples, its split and its file."""
    for part, corpora in parts.items():
        for name, own in corpora.items():
            known = Provenance(data / "corpora" / name / "local/prepared.made").made
            for utt_id, path in own.wav.items():
                if utt_id in known and len(known[utt_id].more) > 2:
                    yield known[utt_id].more[2], part, str(path)


def stay_apart(parts: dict[str, DataDir]) -> bool:
    """Whether no two share an utt_id or a speaker, and utterances stay in order of speakers."""
    utt2spk: dict[str, str] = {}
    speakers: set[str] = set()
    for part in parts.values():
        if utt2spk.keys() & part.utt2spk.keys() or speakers & part.spk2utt.keys():
            return False
        utt2spk |= part.utt2spk
        speakers |= part.spk2utt.keys()
    order = [utt2spk[utt_id] for utt_id in c_sorted(utt2spk)]
    return order == c_sorted(order)


def merge(parts: Iterable[DataDir]) -> DataDir:
    merged = DataDir({}, {}, {})
    for part in parts:
        for name in ("wav", "utt2spk", "utt2dur", "text"):
            getattr(merged, name).update(getattr(part, name))
    return merged


def prefixed(part: DataDir, prefix: str) -> DataDir:
    def renamed(table: dict) -> dict:
        return {prefix + utt_id: value for utt_id, value in table.items()}

    utt2spk = {utt_id: prefix + spk_id for utt_id, spk_id in renamed(part.utt2spk).items()}
    return DataDir(renamed(part.wav), utt2spk, renamed(part.utt2dur), renamed(part.text))


def write(merged: DataDir, folder: Path) -> None:
    """What stands there already stays, with its noise."""
    if (folder / "wav.scp").is_file():
        before = datadir.read(folder)
        if (before.wav, before.utt2spk, before.utt2dur) == (
            merged.wav,
            merged.utt2spk,
            merged.utt2dur,
        ):
            return
    for name in OF_STAGE_1:
        (folder / name).unlink(missing_ok=True)
    merged.write(folder)


if __name__ == "__main__":
    main()
