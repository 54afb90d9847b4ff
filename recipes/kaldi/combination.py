"""Stage 0 of several corpora: DATA/{train,dev,test} of all, after Kaldi's combine_data.sh.

utt_ids and speakers are those of the single corpora, DATA/corpora/NAME, so the noise is the same;
where two corpora share one, all of them get the prefix `NAME-`. DATA/corpus.yaml says whose
speakers they are: tables then have a section for each corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_denoise import datadir
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import SPLITS, DataDir, c_sorted
from gan_denoise.errors import InputError, nearest
from gan_denoise.provenance.inputs import Provenance
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import clock, say
from kaldi import corpora
from kaldi.conversion import OF_STAGE_1
from kaldi.notices import refuse_leaks
from kaldi.preparation import RECORD


def names_of(folders: list[Path], data: Path) -> dict[str, Path]:
    """The names of the corpora in DATA: each is named after its folder.

    A corpus that has moved keeps its name. Raises InputError.
    """
    first: dict[Path, Path] = {}
    for folder in folders:
        if (place := folder.resolve()) in first:
            raise InputError(f"--corpus: {folder} is {first[place]} once more: name it once")
        first[place] = folder
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("--corpus: two folders have the same name: rename one, or link to it")
    record = read_yaml(data / RECORD) if (data / RECORD).is_file() else {}
    if record:
        before = dict(zip(record.get("corpora", {}), record["corpus"], strict=False))
        if len(before) == len(names):
            pairs = zip(names, before.items(), strict=True)
            names = [was if not Path(path).exists() else name for name, (was, path) in pairs]
        if names != list(before):
            raise InputError(f"{data}: was made from another --corpus: choose another --data")
    return dict(zip(names, folders, strict=True))


def splits_of(
    folders: Mapping[str, Path], split: Mapping[str, list[str]]
) -> dict[str, dict[str, list[str]]]:
    """Of one split for all, what concerns each corpus. Raises InputError for a speaker of none."""
    people = {name for listed in split.values() for name in listed}
    listings = {
        name: corpora.read(folder, known_speakers=people) for name, folder in folders.items()
    }
    speakers = {
        name: {recording.speaker for recording in listing.recordings}
        for name, listing in listings.items()
    }
    everyone = set().union(*speakers.values())
    for listed in split.values():
        for speaker in listed:
            if speaker not in everyone:
                raise InputError(
                    f'--split: no corpus has a speaker "{speaker}"{nearest(speaker, everyone)}'
                )
    splits = {}
    for name, present in speakers.items():
        here = {part: [s for s in listed if s in present] for part, listed in split.items()}
        splits[name] = {part: listed for part, listed in here.items() if listed}
        if missing := [part for part in ("dev", "test") if part not in splits[name]]:
            raise InputError(f"--split: names no speaker of {folders[name]} for {missing[0]}")
    return splits


def combine(
    data: Path, names: list[str], split: Mapping[str, list[str]] | None, one_person: bool
) -> None:
    """Write DATA/{train,dev,test} and DATA/corpus.yaml from DATA/corpora/NAME.

    one_person: whether speakers of the same name are one person. Raises InputError where one would
    be in two splits.
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
    apart = all(map(stay_apart, parts.values())) and stay_apart(
        {f"{name} {part}": alone[name] for part, alone in parts.items() for name in names}
    )
    for part in SPLITS:
        if not apart:
            parts[part] = {name: prefixed(parts[part][name], f"{name}-") for name in names}
        merged = merge(parts[part].values())
        write(merged, data / part)
        size = f"{len(merged.spk2utt):4d} speakers  {len(merged):6d} recordings"
        say(f"  {part:5s} {size}  {clock(merged.duration_s):>9s}  of {len(names)} corpora")
    speakers = {
        name: {part: c_sorted(parts[part][name].spk2utt) for part in SPLITS} for name in names
    }
    record = {
        **records[0],
        "corpus": [record["corpus"] for record in records],
        "layout": f"combined ({', '.join(names)})",
        "split": dict(split) if split else None,
        "speakers": {part: [s for name in names for s in speakers[name][part]] for part in SPLITS},
        "corpora": speakers,
    }
    write_atomically(data / RECORD, dump_yaml(record))


def check_people(everyone: Mapping[str, Mapping[str, list[str]]]) -> None:
    """everyone: corpus -> split -> speakers. Raises InputError for one who is in two splits."""
    places: dict[str, tuple[str, str]] = {}
    for name, splits in everyone.items():
        for part, listed in splits.items():
            for speaker in listed:
                other, other_part = places.setdefault(speaker, (name, part))
                if part != other_part:
                    raise InputError(
                        f"--corpus: {speaker} is in {other}'s {other_part} and in {name}'s {part}:"
                        " if they are one person, put them into one by --split; if not, say"
                        " --equal-names apart"
                    )


def contents(
    data: Path, parts: Mapping[str, Mapping[str, DataDir]]
) -> Iterator[tuple[str, str, str]]:
    """Of every recording: a digest of its samples, its split and its file."""
    for part, directories in parts.items():
        for name, alone in directories.items():
            lines = Provenance(data / "corpora" / name / "local/prepared.made").made
            for utt_id, path in alone.wav.items():
                if utt_id in lines and len(lines[utt_id].more) > 2:
                    yield lines[utt_id].more[2], part, str(path)


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
    def renamed(table: Mapping[str, Any]) -> dict[str, Any]:
        return {prefix + utt_id: value for utt_id, value in table.items()}

    utt2spk = {utt_id: prefix + spk_id for utt_id, spk_id in renamed(part.utt2spk).items()}
    return DataDir(renamed(part.wav), utt2spk, renamed(part.utt2dur), renamed(part.text))


def write(merged: DataDir, folder: Path) -> None:
    """What stands there already stays, with its noise."""
    there = (folder / "wav.scp").is_file()
    if there and replace(datadir.read(folder), noisy={}) == merged.as_written():
        return
    for name in OF_STAGE_1:
        (folder / name).unlink(missing_ok=True)
    merged.write(folder)
