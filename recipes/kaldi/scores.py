"""Stage 4's scores.csv of a system, one row per utterance, and scores.yaml.

scores.yaml says what the scores were made from. As long as that is so, they are not made again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gan_denoise import datadir, scoring
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.metrics import OPTIONAL, lead_metric, metrics_at, with_companions
from gan_denoise.provenance import code, origin
from gan_denoise.provenance.inputs import FORMAT, file_digest
from gan_denoise.system.files import digest, write_atomically
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import progress, say
from kaldi.maker import WHICH, check_enhanced, maker_of, read_config
from kaldi.options import Part

CONDITION_METRICS = ("estoi", "si_sdr")  # and PESQ


@dataclass(frozen=True)
class ScoredSystem:
    """What stage 4 scores: the system in `exp` on the test set `folder`, whose tables are `data`.

    A folder named test_NAME is a further condition, with folders of its own: EXP/conditions/NAME.
    A system with a model has its experiment's name and seed; others (noisy, oracle_mag) have their
    folder's. It is scored by the metrics of every table, and by `further` ones.
    """

    exp: Path
    folder: Path
    data: DataDir
    further: tuple[str, ...] = ()
    which: str = "last"

    @property
    def condition(self) -> str:
        return self.folder.name.partition("_")[2]

    @property
    def place(self) -> Path:
        """Where its scores go."""
        return self.exp / "conditions" / self.condition if self.condition else self.exp

    @cached_property
    def noise(self) -> dict[str, Any]:
        return datadir.read_noise(self.folder)

    @property
    def metrics(self) -> tuple[str, ...]:
        rate = self.noise["sample_rate"]
        usual = (lead_metric(rate), *CONDITION_METRICS) if self.condition else metrics_at(rate)
        return tuple(dict.fromkeys((*usual, *self.further)))

    @cached_property
    def about(self) -> dict[str, Any]:
        """Its name, seed, settings and model. Raises InputError."""
        fingerprint = None if self.condition else self.noise["fingerprint"]
        return about_system(self.exp, fingerprint, self.which)

    def enhanced(self) -> dict[str, Path]:
        """The enhanced files of the system.

        For the system `noisy` they are the folder's noisy files. Raises InputError for files that
        stage 3 has not made so.
        """
        scp = (self.folder / "noisy.scp") if is_noisy(self.exp) else self.place / "enhanced.scp"
        if not scp.is_file():
            raise InputError(f"{scp}: is missing: run stage 3 first")
        enhanced = datadir.read_scp(scp)
        if gone := [path for path in enhanced.values() if not path.is_file()]:
            raise InputError(f"{gone[0]}: is missing, with {len(gone) - 1} more: run stage 3 again")
        if enhanced.keys() != self.data.wav.keys():
            raise InputError(f"{scp}: lists other utterances than {self.folder}: run stage 3 again")
        return enhanced

    def row(self, pair: scoring.Pair, scores: dict[str, Any]) -> dict[str, Any]:
        """A line of scores.csv."""
        return {
            "system": self.about["system"],
            "seed": self.about["seed"],
            "split": self.folder.name,
            "utt_id": pair.utt_id,
            "spk_id": self.data.utt2spk[pair.utt_id],
            "fingerprint": self.noise["fingerprint"],
            **{key: value for key, value in scores.items() if key != "utt_id"},
        }


def further_metrics(text: str) -> tuple[str, ...]:
    """The metrics that an option names, with those that they bring."""
    names = text.replace(",", " ").split()
    if unknown := [name for name in names if name not in OPTIONAL]:
        raise argparse.ArgumentTypeError(
            f"unknown metric {unknown[0]!r} (there are: {', '.join(OPTIONAL)})"
        )
    return tuple(with_companions(names))


def is_noisy(exp: Path) -> bool:
    """Whether a folder is that of the noisy recordings themselves."""
    return exp.name == "noisy"


def score(system: ScoredSystem, jobs: int, part: Part) -> bool:
    """Score one system, or a part of it.

    Returns whether every metric of every utterance has a value. Raises InputError.
    """
    enhanced, metrics, place = system.enhanced(), system.metrics, system.place
    check_enhanced(system.exp, place, enhanced, which=system.which, jobs=jobs)
    pairs = scoring.pairs_of(system.data, enhanced)
    record, target = record_of(pairs, metrics, system.about, jobs), place / "scores.csv"
    with owning(place, shared=bool(part)):
        if is_up_to_date(target, record):
            say(f"stage 4: {target} is up to date")
            rows = scoring.read_csv(target)
            return all(row.get(name) is not None for row in rows for name in metrics)
        if part:
            pairs, target = part.of(pairs), place / f"scores.{part}.csv"
            record = record_of(pairs, metrics, system.about, jobs)
        if not is_noisy(system.exp):
            look_at(place, pairs, jobs)
        done = {} if part else scored_in_parts(place, pairs, metrics, jobs)
        label = ", ".join(filter(None, (system.exp.name, system.condition)))
        rows = score_all(pairs, done, metrics, jobs, label=label)
        scoring.write_csv(target, list(map(system.row, pairs, rows)))
        ran = origin.program() | {"machine": origin.machine()}
        record |= {"is": file_digest(target), "origin": ran}
        write_atomically(target.with_suffix(".yaml"), dump_yaml(record))
        for path in () if part else parts(place):
            path.unlink()
            path.with_suffix(".yaml").unlink(missing_ok=True)
    return all(row[name] is not None for row in rows for name in metrics)


def look_at(place: Path, pairs: list[scoring.Pair], jobs: int) -> None:
    """Report enhanced files that are not aligned with their clean ones.

    Raises InputError where most are not, since their scores would say nothing.
    """
    judged = scoring.alignment_of(pairs, jobs=jobs)
    if judged.refusal:
        raise InputError(
            f"{place / 'enhanced.scp'}: {judged.refusal}: align them first (nothing was scored)"
        )
    for note in judged.notes:
        say(f"stage 4: WARNING: {place.name}: enhanced files are {note}")


def record_of(pairs: list[scoring.Pair], metrics: tuple[str, ...], about: dict, jobs: int) -> dict:
    """What scores.yaml says of the scores of these pairs."""
    return {
        "format": FORMAT,
        "made_from": scoring.identity(pairs, metrics, jobs=jobs),
        "code": code.of_scores(metrics),
        "metrics": list(metrics),
        **about,
    }


def is_up_to_date(scores: Path, record: dict) -> bool:
    """Whether a scores.csv is what its record says, and this is that record."""
    before = {key: kept for key, kept in (read_record(scores) or {}).items() if key != "origin"}
    return before == record | {"is": file_digest(scores)}


def parts(place: Path) -> list[Path]:
    """The scores that tasks have left of their parts."""
    return sorted(place.glob("scores.*-of-*.csv"))


def scored_in_parts(
    place: Path, pairs: list[scoring.Pair], metrics: tuple[str, ...], jobs: int
) -> dict[str, dict[str, Any]]:
    """Rows by utt_id, as scoring gives them, of the parts that rest on the files as they are."""
    by_id, rows = {pair.utt_id: pair for pair in pairs}, {}
    for path in parts(place):
        record, listed = read_record(path) or {}, scoring.read_csv(path)
        theirs = [by_id[row["utt_id"]] for row in listed if row["utt_id"] in by_id]
        same = record.get("code") == code.of_scores(metrics)
        if same and record.get("made_from") == scoring.identity(theirs, metrics, jobs=jobs):
            for row in listed:
                keys = {"utt_id", *metrics}
                keys |= {f"{name}_reason" for name in metrics if row[f"{name}_reason"]}
                rows[row["utt_id"]] = {key: row[key] for key in row if key in keys}
    return rows


def score_all(
    pairs: list[scoring.Pair],
    done: dict[str, dict],
    metrics: tuple[str, ...],
    jobs: int,
    label: str,
) -> list[dict]:
    """Rows in the order of the pairs, those in `done` as they are, and a line about them."""
    left = [pair for pair in pairs if pair.utt_id not in done]
    scored = scoring.score(left, jobs=jobs, metrics=metrics)
    counted = progress(scored, total=len(left), label=f"stage 4: {label}", unit="utterances")
    by_id = done | {row["utt_id"]: row for row in counted}
    rows = [by_id[pair.utt_id] for pair in pairs]
    failed = {name: sum(row[name] is None for row in rows) for name in metrics}
    gaps = ", ".join(
        f"{name}: {len(rows) - count} of {len(rows)}" for name, count in failed.items() if count
    )
    say(f"stage 4: {label}: {len(rows)} utterances scored; {gaps or 'every metric of each'}")
    return rows


def read_record(scores: Path) -> dict | None:
    """What scores.yaml beside a scores.csv says, or None."""
    path = scores.with_suffix(".yaml")
    return read_yaml(path) if path.is_file() else None


def about_system(exp: Path, fingerprint: str | None, which: str = "last") -> dict:
    """The system in `exp`: its name, its seed and, where it is a model, a digest of its settings.

    A limit has its folder's name. The model must have been trained on the noise `fingerprint`
    (None: on any). Raises InputError.
    """
    if not (exp / "model/config.json").is_file():
        return {"system": exp.name, "seed": "", "settings": None, "model": None}
    config = read_config(exp / "model")
    if fingerprint and config["noise"] != fingerprint:
        raise InputError(
            f"{exp}: was trained on other noise ({config['noise']}, not {fingerprint}): name its"
            " --data, or choose another --exp"
        )
    settings = {key: value for key, value in config["experiment"].items() if key != "seed"}
    return {
        "system": config["name"],
        "seed": config["seed"],
        "settings": digest(settings),
        "model": maker_of(exp / WHICH[which]).weights,
    }
