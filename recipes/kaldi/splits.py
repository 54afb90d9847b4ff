"""Which speakers and which of their recordings are train, dev and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from gan_denoise.config import check_keys, read_yaml
from gan_denoise.datadir import SPLITS, c_sorted
from gan_denoise.errors import InputError, nearest
from gan_denoise.system.ids import one_form
from kaldi.corpora.listing import Listing, Recording

CONF = Path(__file__).resolve().parents[2] / "egs/vctk/conf"
DEV_SHARE, TEST_SHARE = 0.1, 0.15  # of the speakers, where a rule decides


def read_split(path: Path) -> dict[str, list[str]]:
    """Read a split file: lists of speakers under dev, test and, optionally, train.

    Raises InputError.
    """
    split = read_yaml(path, as_text=True)
    check_keys(split, SPLITS, str(path))
    for name in ("dev", "test"):
        if not split.get(name):
            raise InputError(f'{path}: "{name}" lists no speaker')
    for name, listed in split.items():
        if (
            not isinstance(listed, list)
            or not all(isinstance(speaker, str) for speaker in listed)
            or not listed
        ):
            raise InputError(
                f'{path}: {name}: expected a list of names, as in {name}: [p226, "001"] (quote'
                " numbers)"
            )
    split = {name: list(map(one_form, listed)) for name, listed in split.items()}
    everyone = [speaker for listed in split.values() for speaker in listed]
    for speaker in everyone:
        if everyone.count(speaker) > 1:
            raise InputError(
                f"{path}: speaker {speaker} is listed twice: a speaker belongs to one of train, dev"
                " and test"
            )
    return split


def decide_split(
    corpus: Listing, speakers: list[str], asked: Mapping[str, list[str]] | None
) -> dict[str, list[str]]:
    """Speakers of train, dev and test.

    Raises InputError where a given split does not fit, or where there are too few speakers.
    """
    _check_own_test(corpus, asked)
    if asked:
        for listed in asked.values():
            for speaker in listed:
                if speaker not in speakers:
                    raise InputError(
                        "--split: the corpus has no speaker"
                        f' "{speaker}"{nearest(speaker, speakers)}'
                    )
        split = {name: list(asked.get(name, [])) for name in SPLITS}
        split["train"] = split["train"] or [
            speaker for speaker in speakers if speaker not in split["dev"] + split["test"]
        ]
    else:
        split = _split_by_rule(corpus, speakers)
    if not all(split.values()):
        raise InputError(
            f"{len(speakers)} speaker(s) in the corpus, {len(split['train'])} left for train:"
            " train, dev and test need one each at least"
        )
    return split


def _split_by_rule(corpus: Listing, speakers: list[str]) -> dict[str, list[str]]:
    """VCTK's fixed split where its speakers are there, else a split by a hash.

    The hash of their names decides the order of the speakers.
    """
    if len(speakers) < 3:
        raise InputError(
            f"the corpus has {len(speakers)} speaker(s): train, dev and test need one each at"
            " least, three in all"
        )
    fixed = read_split(CONF / "split_vctk.yaml")
    if corpus.layout.startswith("VCTK") and all(
        set(listed) & set(speakers) for listed in fixed.values()
    ):
        dev, test = (c_sorted(set(fixed[name]) & set(speakers)) for name in ("dev", "test"))
    else:
        shuffled = sorted(speakers, key=lambda speaker: hashlib.sha256(speaker.encode()).digest())
        test, dev = (_speakers_of(corpus, name) for name in ("test", "dev"))
        others = [speaker for speaker in shuffled if speaker not in test + dev]
        if not test:
            count = max(1, round(TEST_SHARE * len(speakers)))
            test, others = others[:count], others[count:]
        dev = dev or others[: max(1, round(DEV_SHARE * len(speakers)))]
    train = [speaker for speaker in speakers if speaker not in dev + test]
    return {"train": train, "dev": c_sorted(dev), "test": c_sorted(test)}


def _speakers_of(corpus: Listing, split: str) -> list[str]:
    """The speakers of what the corpus itself calls test or dev."""
    return c_sorted({r.speaker for r in corpus.recordings if r.split == split})


def _check_own_test(corpus: Listing, asked: Mapping[str, list[str]] | None) -> None:
    """Check that the test set with which a corpus comes stays one.

    Without it, comparisons with others' figures fail. Raises InputError.
    """
    test = _speakers_of(corpus, "test")
    for recording in corpus.recordings:
        if recording.split != "test" and recording.speaker in test:
            raise InputError(
                f"{recording.clean}: is of {recording.speaker}, whom the corpus has in its test set"
                " too: a speaker belongs to one of train, dev and test: name the speakers in a CSV"
                " file, or leave the recordings of one of the two out"
            )
    if asked:
        trained = set(asked.get("train", [])) or set(
            r.speaker for r in corpus.recordings
        ).difference(asked["dev"], asked["test"])
        if lost := [speaker for speaker in test if speaker in trained]:
            raise InputError(
                f"--split: {', '.join(lost)} would be in train, but the corpus has"
                f" {'them' if len(lost) > 1 else 'that speaker'} in its test set: add to test"
            )


def _read_by_others(corpus: Listing) -> Callable[[Recording], bool]:
    """Whether the sentence of a recording is one that other speakers read too."""
    readers: dict[str, set[str]] = {}
    for recording in corpus.recordings:
        if recording.text:
            readers.setdefault(recording.text.casefold(), set()).add(recording.speaker)
    return lambda one: one.shared or len(readers.get((one.text or "").casefold(), ())) > 1


def left_out(corpus: Listing, split: Mapping[str, list[str]]) -> list[str]:
    """What no split has, a line for each kind: speakers whom none names, and shared sentences."""
    chosen = {speaker for listed in split.values() for speaker in listed}
    others = [one for one in corpus.recordings if one.speaker not in chosen]
    lines = []
    if others:
        people = c_sorted({one.speaker for one in others})
        lines.append(
            f"{len(people)} speakers whom --split names for none of train, dev and test, with"
            f" {len(others)} recordings, such as {people[0]}"
        )
    shared = _read_by_others(corpus)
    for name in ("dev", "test"):
        theirs = [one for one in corpus.recordings if one.speaker in split[name] and shared(one)]
        if theirs:
            lines.append(
                f"{len(theirs)} recordings from {name}, since other speakers read their sentences"
                f" too, such as {theirs[0].utt_id}"
            )
    return lines


def select(
    corpus: Listing, split: Mapping[str, list[str]], subset: int | None
) -> dict[str, list[Recording]]:
    """The recordings of each split, of which the first `subset` of each speaker are taken.

    Before that, sentences that several speakers read are left out of dev and test.
    """
    shared = _read_by_others(corpus)
    chosen: dict[str, list[Recording]] = {}
    for name in SPLITS:
        chosen[name] = []
        for speaker in split[name]:
            theirs = [r for r in corpus.recordings if r.speaker == speaker]
            if name != "train":
                theirs = [one for one in theirs if not shared(one)]
            chosen[name] += theirs[:subset]
        chosen[name].sort(key=lambda recording: recording.utt_id.encode())
        if not chosen[name]:
            raise InputError(
                f"no recording is left for {name}: all its sentences are read by other speakers"
                " too: change --split"
            )
    return chosen
