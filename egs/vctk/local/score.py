#!/usr/bin/env python3
"""Stage 4: EXPDIR/scores.csv, one row per utterance, from EXPDIR/enhanced.scp.

    score.py [--jobs N] DATADIR EXPDIR...

An EXPDIR with a model is scored under its experiment's name and seed; others (noisy, oracle_mag) under their own name.
EXPDIR/noisy needs no enhanced.scp. A system whose scores are newer than what they rest on is not scored again. A DATADIR named
test_NAME is a further condition, with folders of its own: EXPDIR/conditions/NAME.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gan_denoise import datadir, scoring
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.metrics import METRICS
from gan_denoise.terminal import program, progress, say

INCOMPLETE = (
    3  # exit status where all was scored that could be, and the columns <metric>_reason say why the rest was not
)
CONDITION_METRICS = ("pesq_wb", "estoi", "si_sdr")


@program
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("data", type=Path, metavar="DATADIR")
    parser.add_argument("exps", type=Path, nargs="+", metavar="EXPDIR")
    arguments = parser.parse_args()
    data = datadir.read(arguments.data, noisy=True)
    complete = True
    for exp in arguments.exps:
        complete &= score(arguments.data, data, exp, arguments.jobs)
    return 0 if complete else INCOMPLETE


def score(folder: Path, data: DataDir, exp: Path, jobs: int) -> bool:
    """Score one system; returns whether every metric of every utterance has a value."""
    condition = folder.name.partition("_")[2]
    own = exp / "conditions" / condition if condition else exp
    enhanced_scp = folder / "noisy.scp" if exp.name == "noisy" else own / "enhanced.scp"
    if not enhanced_scp.is_file():
        raise InputError(f"{enhanced_scp}: is missing: run stage 3 first")
    noise = datadir.read_noise(folder)
    system, seed = system_of(exp, None if condition else noise["fingerprint"])
    wanted = CONDITION_METRICS if condition else tuple(METRICS)
    target, sources = own / "scores.csv", (enhanced_scp, folder / "wav.scp", folder / "noisy.scp")
    if target.is_file() and target.stat().st_size:
        scored = {(row["utt_id"], row["fingerprint"]) for row in scoring.read_csv(target)}
        if scored != {(utt_id, noise["fingerprint"]) for utt_id in data.wav}:
            raise InputError(f"{target}: scores other data than {folder}: name its --data, or choose another --exp")
        if all(target.stat().st_mtime > source.stat().st_mtime for source in sources):
            say(f"stage 4: {target} is up to date")
            return all(row.get(name) is not None for row in scoring.read_csv(target) for name in wanted)
    enhanced = datadir.read_scp(enhanced_scp)
    if gone := [path for path in enhanced.values() if not path.is_file()]:
        raise InputError(
            f"{gone[0]}: is missing, with {len(gone) - 1} more: remove {enhanced_scp} and run stage 3 again"
        )
    if enhanced.keys() != data.wav.keys():
        raise InputError(
            f"{enhanced_scp}: lists other utterances than {folder}: name its --data, or choose another --exp"
        )
    pairs = [scoring.Pair(utt_id, data.wav[utt_id], enhanced[utt_id], data.noisy[utt_id]) for utt_id in data.utt_ids]
    rows, label = [], f"{exp.name}{', ' if condition else ''}{condition}"
    for row in progress(
        scoring.score(pairs, jobs=jobs, metrics=wanted), total=len(pairs), label=f"stage 4: {label}", unit="utterances"
    ):
        utt_id = row.pop("utt_id")
        about = {"system": system, "seed": seed, "split": folder.name, "utt_id": utt_id, "spk_id": data.utt2spk[utt_id]}
        rows.append({**about, "fingerprint": noise["fingerprint"], **row})
    scoring.write_csv(target, rows)
    failed = {name: sum(row[name] is None for row in rows) for name in wanted}
    say(
        f"stage 4: {label}: {len(rows)} utterances scored; "
        + (
            ", ".join(f"{name}: {len(rows) - count} of {len(rows)}" for name, count in failed.items() if count)
            or "every metric of each"
        )
    )
    return not any(failed.values())


def system_of(exp: Path, fingerprint: str | None) -> tuple[str, int | str]:
    """(experiment's name, seed) of the model in `exp`, which must have been trained on this noise (None: any); or (folder's name, "")."""
    config_path = exp / "model/config.json"
    if not config_path.is_file():
        return exp.name, ""
    config = json.loads(config_path.read_text())
    if fingerprint and config["noise"] != fingerprint:
        raise InputError(
            f"{exp}: was trained on other noise ({config['noise']}, not {fingerprint}): name its --data, or choose another --exp"
        )
    return config["name"], config["seed"]


if __name__ == "__main__":
    main()
