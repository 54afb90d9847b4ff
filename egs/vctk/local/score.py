#!/usr/bin/env python3
"""Stage 4: EXPDIR/scores.csv, one row per utterance, from EXPDIR/enhanced.scp.

    score.py [--jobs N] [--part K/N] DATADIR EXPDIR... [--then DATADIR EXPDIR...]...

An EXPDIR with a model is scored under its experiment's name and seed; others (noisy, oracle_mag)
under their own name. EXPDIR/noisy needs no enhanced.scp. scores.yaml says what the scores were made
from: as long as that is so, they are not made again. A DATADIR named test_NAME is a further
condition, with folders of its own: EXPDIR/conditions/NAME.
"""

from __future__ import annotations

from pathlib import Path

from gan_denoise import code, datadir, origin, scoring, terminal
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.files import digest, write_atomically
from gan_denoise.metrics import lead_metric, metrics_at
from gan_denoise.owner import owning
from gan_denoise.provenance import FORMAT, file_digest
from gan_denoise.terminal import program, progress, say
from options import Part, sharing

INCOMPLETE = (
    # Exit status where all was scored that could be, and the columns <metric>_reason say why the
    # rest was not
    3
)
CONDITION_METRICS = ("estoi", "si_sdr")  # and PESQ


@program
def main() -> int:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument("data", type=Path, metavar="DATADIR")
    parser.add_argument("exps", type=Path, nargs="+", metavar="EXPDIR")
    parser.add_argument(
        "--then",
        type=Path,
        nargs="+",
        action="append",
        default=[],
        metavar=("DATADIR", "EXPDIR"),
        help="another test set, and what to score on it",
    )
    arguments = parser.parse_args()
    if any(len(places) < 2 for places in arguments.then):
        parser.error("--then: every DATADIR needs an EXPDIR behind it")
    complete = True
    for folder, *exps in [[arguments.data, *arguments.exps], *arguments.then]:
        data = datadir.read(folder, noisy=True)
        for exp in exps:
            complete &= score(folder, data, exp, arguments.jobs, arguments.part)
    return 0 if complete else INCOMPLETE


def score(folder: Path, data: DataDir, exp: Path, jobs: int, part: Part) -> bool:
    """Score one system, or a part of it; returns whether every metric of every utterance has a
    value.
    """
    condition = folder.name.partition("_")[2]
    own = exp / "conditions" / condition if condition else exp
    enhanced_scp = folder / "noisy.scp" if exp.name == "noisy" else own / "enhanced.scp"
    if not enhanced_scp.is_file():
        raise InputError(f"{enhanced_scp}: is missing: run stage 3 first")
    enhanced = datadir.read_scp(enhanced_scp)
    if gone := [path for path in enhanced.values() if not path.is_file()]:
        raise InputError(f"{gone[0]}: is missing, with {len(gone) - 1} more: run stage 3 again")
    if enhanced.keys() != data.wav.keys():
        raise InputError(f"{enhanced_scp}: lists other utterances than {folder}: run stage 3 again")
    origin.check_enhanced(exp, own, enhanced, jobs=jobs)
    noise = datadir.read_noise(folder)
    about = about_system(exp, None if condition else noise["fingerprint"])
    wanted = metrics_at(noise["sample_rate"])
    if condition:
        wanted = (lead_metric(noise["sample_rate"]), *CONDITION_METRICS)
    pairs = [
        scoring.Pair(utt_id, data.wav[utt_id], enhanced[utt_id], data.noisy[utt_id])
        for utt_id in data.utt_ids
    ]
    record = record_of(pairs, wanted, about, jobs)
    with owning(own, shared=bool(part)):
        target = own / "scores.csv"
        if is_up_to_date(target, record):
            say(f"stage 4: {target} is up to date")
            return all(
                row.get(name) is not None for row in scoring.read_csv(target) for name in wanted
            )
        if part:
            pairs, target = part.of(pairs), own / f"scores.{part}.csv"
            record = record_of(pairs, wanted, about, jobs)
        if exp.name != "noisy":
            look_at(own, pairs, jobs)
        done = {} if part else scored_in_parts(own, pairs, wanted, jobs)
        label = ", ".join(filter(None, (exp.name, condition)))
        rows = score_all(pairs, done, wanted, jobs, label=label)
        first = {"system": about["system"], "seed": about["seed"], "split": folder.name}
        last = {"fingerprint": noise["fingerprint"]}
        scoring.write_csv(
            target,
            [
                {
                    **first,
                    "utt_id": row.pop("utt_id"),
                    "spk_id": data.utt2spk[pair.utt_id],
                    **last,
                    **row,
                }
                for pair, row in zip(pairs, rows, strict=True)
            ],
        )
        ran = origin.program() | {"machine": origin.machine()}
        record |= {"is": file_digest(target), "origin": ran}
        write_atomically(target.with_suffix(".yaml"), dump_yaml(record))
        for old in () if part else parts(own):
            old.unlink()
            old.with_suffix(".yaml").unlink(missing_ok=True)
    return all(row[name] is not None for row in rows for name in wanted)


def look_at(own: Path, pairs: list[scoring.Pair], jobs: int) -> None:
    """Say which enhanced files do not lie where their clean ones do. Raises InputError where most
    do not, since their scores would say nothing.
    """
    judged = scoring.alignment_of(pairs, jobs=jobs)
    if judged.refusal:
        raise InputError(
            f"{own / 'enhanced.scp'}: of its files {judged.refusal}: align them first (nothing was"
            " scored)"
        )
    for note in judged.notes:
        say(f"stage 4: WARNING: {own.name}: enhanced files are {note}")


def record_of(pairs: list[scoring.Pair], metrics: tuple[str, ...], about: dict, jobs: int) -> dict:
    """What scores.yaml says of the scores of these pairs."""
    rests_on = scoring.identity(pairs, metrics, jobs=jobs)
    by_code = code.of_scores()
    return {
        "format": FORMAT,
        "made_from": rests_on,
        "code": by_code,
        "metrics": list(metrics),
        **about,
    }


def is_up_to_date(scores: Path, record: dict) -> bool:
    """Whether a scores.csv is what its record says, and this is that record."""
    known = {key: kept for key, kept in (read_record(scores) or {}).items() if key != "origin"}
    return known == record | {"is": file_digest(scores)}


def parts(own: Path) -> list[Path]:
    """The scores that tasks have left of their parts."""
    return sorted(own.glob("scores.*-of-*.csv"))


def scored_in_parts(
    own: Path, pairs: list[scoring.Pair], metrics: tuple[str, ...], jobs: int
) -> dict[str, dict]:
    """Rows by utt_id, as scoring gives them, of the parts that rest on the files as they are."""
    by_id, rows = {pair.utt_id: pair for pair in pairs}, {}
    for path in parts(own):
        record, listed = read_record(path) or {}, scoring.read_csv(path)
        theirs = [by_id[row["utt_id"]] for row in listed if row["utt_id"] in by_id]
        same = record.get("code") == code.of_scores()
        if same and record.get("made_from") == scoring.identity(theirs, metrics, jobs=jobs):
            for row in listed:
                own_keys = {"utt_id", *metrics}
                reasons = {f"{name}_reason" for name in metrics if row[f"{name}_reason"]}
                rows[row["utt_id"]] = {key: row[key] for key in row if key in own_keys | reasons}
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
    known = done | {row["utt_id"]: row for row in counted}
    rows = [known[pair.utt_id] for pair in pairs]
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


def about_system(exp: Path, fingerprint: str | None) -> dict:
    """The system in `exp`: its name and seed, and a digest of its settings where it is a model; a
    limit has its folder's name.

    The model must have been trained on the noise `fingerprint` (None: on any). Raises InputError.
    """
    if not (exp / "model/config.json").is_file():
        return {"system": exp.name, "seed": "", "settings": None, "model": None}
    config = origin.read_config(exp / "model")
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
        "model": origin.maker(exp / "model").weights,
    }


if __name__ == "__main__":
    main()
