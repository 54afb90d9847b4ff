"""Stage 0: from a corpus to DATA/train, DATA/dev and DATA/test, with speakers of their own each.

Recordings that are already mono at the wanted rate are used where they lie; others are converted
into DATA/local. Bad recordings are reported, listed in DATA/skipped and left out. What was made
from what stands in DATA/corpus.yaml and, for every recording, in DATA/local/prepared.made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import SPLITS, c_sorted
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import FORMAT
from gan_denoise.system.files import write_atomically
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import say
from kaldi import corpora
from kaldi.conversion import Recordings
from kaldi.corpora.listing import Listing, Recording
from kaldi.notices import announce_cost, refuse_leaks, report_corpus, report_lacks
from kaldi.options import Part
from kaldi.pairs import check_pairs
from kaldi.speakers import kaldi_ids
from kaldi.splits import decide_split, left_out, select

RECORD = "corpus.yaml"


@dataclass(frozen=True)
class Request:
    """What stage 0 is asked for; None: not said. split: speakers of each."""

    corpus: Path | None
    sample_rate: int | None
    subset: int | None
    split: dict[str, list[str]] | None

    @property
    def record(self) -> dict[str, Any]:
        """As DATA/corpus.yaml has it."""
        return asdict(self) | {"corpus": str(self.corpus.resolve()) if self.corpus else None}


def read_record(data: Path) -> dict[str, Any] | None:
    """DATA/corpus.yaml, with which stage 0 is finished; None where there is none.

    Raises InputError.
    """
    if not (data / RECORD).is_file():
        return None
    record = read_yaml(data / RECORD)
    if record.get("format") != FORMAT:
        raise InputError(
            f"{data}: was made by another version of this recipe: choose another --data"
        )
    return record


def check(request: Request, data: Path) -> None:
    """Refuse what was made from something else than what is said. Raises InputError."""
    record = read_record(data)
    if not record:
        raise InputError(f"{data}: holds no prepared data: run stage 0 first")
    if request.corpus and record["corpus"] != request.record["corpus"] and _is_gone(record):
        raise InputError(
            f"{data}: was made with --corpus {record['corpus']}, which is gone: if it has moved to"
            f" {request.corpus}, run stage 0 again, which compares what they hold"
        )
    _refuse_other(record, request, data, strict=False)


@dataclass(frozen=True)
class Plan:
    """Which recordings of a corpus go into which split, and the record of that.

    left_out: a line for each reason why others go into none.
    """

    listing: Listing
    chosen: dict[str, list[Recording]]
    record: dict[str, Any]
    left_out: list[str]

    @property
    def recordings(self) -> list[Recording]:
        return [recording for listed in self.chosen.values() for recording in listed]


def prepare(request: Request, data: Path, *, jobs: int, part: Part) -> None:
    """Prepare what is not prepared yet, or what has changed since. Raises InputError."""
    before = read_record(data)
    if before:
        _refuse_other(before, request, data, strict=True, moved=_is_gone(before))
    plan = _plan(request, data)
    if before and before.get("speakers") != plan.record["speakers"]:
        raise InputError(
            f"{data}: {request.corpus} has other speakers than when it was made: choose another"
            " --data"
        )
    assert request.corpus is not None and request.sample_rate is not None
    with owning(data, *(data / name for name in SPLITS), shared=bool(part)):
        work = Recordings(data, request.corpus, request.sample_rate, jobs, part)
        due = work.due(part.of(plan.recordings))
        if before and work.differ():  # so it is not the same corpus at another place
            _refuse_other(before, request, data, strict=True)
        if part:
            work.prepare(due)
        elif before == plan.record and not due and _is_written(work, plan):
            say(f"stage 0: {data} is up to date")
        else:
            _prepare(request, data, plan, work, due, jobs=jobs, again=bool(before))


def _plan(request: Request, data: Path) -> Plan:
    corpus = request.corpus
    assert corpus is not None
    if data.resolve().is_relative_to(corpus.resolve()):
        raise InputError(
            f"{data}: lies inside the corpus, which would then hold what is made from it: choose"
            " another --data"
        )
    named = request.split or {}
    people = {name for listed in named.values() for name in listed}
    listing = corpora.read(corpus, known_speakers=people)
    speakers = c_sorted({recording.speaker for recording in listing.recordings})
    split = decide_split(listing, speakers, request.split)
    record = {
        **request.record,
        "format": FORMAT,
        "mini": (corpus / corpora.MINI).is_file(),
        "layout": listing.layout,
        "speakers": {name: split[name] for name in SPLITS},
    }
    chosen = select(listing, split, request.subset)
    return Plan(listing, chosen, record, left_out(listing, split))


def _is_written(work: Recordings, plan: Plan) -> bool:
    ids = kaldi_ids(plan.listing.recordings)
    return not work.table.scattered and all(
        work.is_written(name, listed, ids) for name, listed in plan.chosen.items()
    )


def _prepare(
    request: Request,
    data: Path,
    plan: Plan,
    work: Recordings,
    due: list[Recording],
    *,
    jobs: int,
    again: bool,
) -> None:
    listing, corpus, sample_rate = plan.listing, request.corpus, request.sample_rate
    assert corpus is not None and sample_rate is not None
    if again:
        what = f"{len(due)} recordings to prepare anew" if due else "its tables are written anew"
        say(f"stage 0: {corpus} has changed since {data} was made: {what}")
    else:
        speakers = len({recording.speaker for recording in listing.recordings})
        size = f"{len(listing.recordings)} recordings, {speakers} speakers"
        say(f"stage 0: {corpus} is a {listing.layout} corpus: {size}")
    announce_cost(due, data, sample_rate, jobs)
    gone = work.gone(plan.recordings) if again else []
    unusable = work.prepare([*due, *work.unusable(plan.recordings)])
    report_lacks([*map(str, listing.lacks), *gone, *unusable], data)
    for line in plan.left_out:
        say(f"  left out: {line}")
    report_corpus(listing, work.rates, work.noisy_rates, sample_rate)
    refuse_leaks(
        (content, name, str(recording.clean))
        for name, listed in plan.chosen.items()
        for recording in listed
        if (content := work.content(recording.utt_id))
    )
    for note in check_pairs(corpus, plan.chosen, work):
        say(f"  WARNING: {note}")
    ids = kaldi_ids(listing.recordings)
    for name, listed in plan.chosen.items():
        work.write(name, listed, ids, keep_noise=again and not listing.brings_noise)
    work.keep(plan.recordings)
    speakers_of = plan.record["speakers"]
    write_atomically(data / "split.yaml", dump_yaml(speakers_of))
    write_atomically(data / RECORD, dump_yaml(plan.record))  # last: now the stage is finished


def _is_gone(record: dict[str, Any]) -> bool:
    """Whether the corpus is no longer where it was."""
    return bool(record.get("corpus")) and not Path(record["corpus"]).exists()


def _refuse_other(
    record: dict[str, Any], request: Request, data: Path, *, strict: bool, moved: bool = False
) -> None:
    """Refuse data that were made from something else than what is asked for.

    strict: an option that was not named counts as well. moved: the corpus may have another path.
    """
    for key, value in request.record.items():
        if key == "corpus" and moved:
            continue
        if (strict or value is not None) and record.get(key) != value:
            option = f"--{key.replace('_', '-')}"
            was, now = record.get(key) or "none", value or "none"
            detail = "another split" if key == "split" else f"{option} {was}, not {now}"
            raise InputError(
                f"{data}: was made with {detail}: repeat the same {option}, or choose another"
                " --data"
            )
