#!/usr/bin/env python3
"""Make the tables (RESULTS.md) and a page with plots and players (report.html): stage 5.

    report.py --data DATA --command "..." EXP       EXP/RESULTS.md and report.html from its scores
              [--format md|csv|latex]               how its tables are printed
              [--experiment FILE ...]               experiment files outside recipes/experiments
              [--which last|best]                   of each run's two models, which was tested
              [--figures svg|pdf|png]               the page's plots as files, in EXP/figures
    report.py --listening-test N --data DATA EXP    EXP/listening_test.html: rank N utterances blind
    report.py --publish FOLDER [--note TEXT] EXP    copy its scores to FOLDER, in egs/vctk/results
    report.py --collect egs/vctk/results > egs/vctk/RESULTS.md

Means are over speakers' means, runs of several seeds pooled. "Gap closed" is (system - noisy) /
(oracle magnitude - noisy), per metric.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gan_denoise import datadir, scoring
from gan_denoise.config import dump_yaml, read_yaml
from gan_denoise.errors import InputError
from gan_denoise.provenance import code
from gan_denoise.provenance.inputs import FORMAT, file_digest
from gan_denoise.scoring import read_csv
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from kaldi.maker import WHICH, check_enhanced
from reporting import tables
from reporting.cost import macs_per_second
from reporting.experiments import describe
from reporting.formats import FORMATS
from reporting.listening import of_experiment, render_listening
from reporting.page import render_page
from reporting.plots import FIGURES, save_figures
from reporting.publication import collect, publish, scored_tables, tables_of
from reporting.reading import systems_of
from reporting.results import opening, section
from reporting.statistics import Run
from reporting.verdict import verdict
from training import trackers


def arguments_parser() -> argparse.ArgumentParser:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data that EXP was trained on"
    )
    parser.add_argument(
        "--command", default="", metavar="TEXT", help="command to print above the tables"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="md",
        help="format of the tables on the terminal (default md)",
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="experiment file of EXP that is not in recipes/experiments; may be repeated",
    )
    parser.add_argument(
        "--which",
        choices=WHICH,
        default="last",
        help="the model of each run that was tested (default last)",
    )
    parser.add_argument(
        "--figures", choices=FIGURES, help="write the page's plots as files to EXP/figures as well"
    )
    parser.add_argument(
        "--listening-test",
        type=int,
        metavar="N",
        help="make a page to rank N utterances blind, and no report",
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="folder in egs/vctk/results to copy scores to",
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="what this run shows, for --publish"
    )
    parser.add_argument(
        "--collect", action="store_true", help="print RESULTS.md for a folder of published scores"
    )
    parser.add_argument(
        "folder", type=Path, metavar="EXP", help="folder of the experiments that stage 4 scored"
    )
    return parser


@program
def main() -> None:
    parser = arguments_parser()
    arguments = parser.parse_args()
    if arguments.collect:
        print(collect(arguments.folder), end="")
    elif arguments.publish:
        publish(arguments.folder, arguments.publish, arguments.note)
    elif arguments.data is None:
        parser.error("--data is needed: the folder that the experiments were trained on")
    elif arguments.listening_test is not None:
        if arguments.listening_test < 1:
            parser.error("--listening-test: expected a whole number from 1")
        listening_test(arguments.folder, arguments.data, arguments.which, arguments.listening_test)
    else:
        files = {path.stem: path for path in arguments.experiment}
        wishes = Wishes(arguments.format, files, arguments.which, arguments.figures)
        report(arguments.folder, arguments.data, arguments.command, wishes)


class Wishes(NamedTuple):
    """How a report is made.

    shape: the format of the tables on the terminal. experiments: files that lie elsewhere, by their
    names. which: which of a run's models was tested. figures: a format of figures.
    """

    shape: str = "md"
    experiments: Mapping[str, Path] = MappingProxyType({})
    which: str = "last"
    figures: str | None = None


def report(exp: Path, data: Path, command: str, wishes: Wishes = Wishes()) -> None:  # noqa: B008
    """Write RESULTS.md and report.html, and print the tables. Raises InputError."""
    shape = wishes.shape
    if not exp.is_dir():
        raise InputError(f"{exp}: there is no such folder: name the one that stage 4 scored")
    with owning(exp):
        check_scores(exp, data, wishes.which)
        record = about(exp, data, command, wishes)
        write_atomically(exp / "about.yaml", dump_yaml(record))
        run = Run.read(exp)
        text = f"# Results\n\n{opening([run])}\n{section(run)}"
        write_atomically(exp / "RESULTS.md", text)
        write_atomically(
            exp / "report.html", render_page(run, datadir.read(data / "test", noisy=True), exp)
        )
        if wishes.figures:
            save_figures(run, exp, wishes.figures)
    for run_folder in sorted(exp.glob("*/")):
        trackers.keep(run_folder, exp / "RESULTS.md")
    paired = tables.differences(run) if shape == "csv" else tables.headlines(run)
    notes = [*tables.missing(run), *tables.others(run), *tables.comparisons(run), verdict(run)]
    print(FORMATS[shape](tables.systems(run)), FORMATS[shape](paired), sep="\n", end="")
    if shape == "md":
        print("", *notes, sep="\n")
    for note in [] if shape == "md" else notes:  # which are no part of such a table
        say(note)
    say(f"stage 5: {exp / 'RESULTS.md'} and {exp / 'report.html'}")


def listening_test(exp: Path, data: Path, which: str, count: int) -> None:
    """EXP/listening_test.html: so many utterances of the test set, systems under letters."""
    if not exp.is_dir():
        raise InputError(exp, "there is no such folder", "name the one that stage 4 scored")
    with owning(exp):
        check_scores(exp, data, which)
        utterances = of_experiment(
            Run.read(exp), datadir.read(data / "test", noisy=True), exp, count
        )
        page = render_listening(utterances, title="Listening test", blind=True)
        write_atomically(exp / "listening_test.html", page)
    say(f"{exp / 'listening_test.html'}: {len(utterances)} utterances, {len(page) / 1e6:.1f} MB")


def check_scores(exp: Path, data: Path, which: str = "last") -> None:
    """Check that every scores.csv of EXP is of the recordings that are there now.

    Raises InputError that names the first one that is not.
    """
    for path in tables_of(exp):
        system, condition = (
            path.relative_to(exp).parts[0],
            path.parts[-2] if path.parts[-3] == "conditions" else "",
        )
        folder = data / (f"test_{condition}" if condition else "test")
        record = read_yaml(path.with_suffix(".yaml")) if path.with_suffix(".yaml").is_file() else {}
        again = f"run stages 3 and 4 again for {system}, or move {path} away"
        if record.get("format") != FORMAT:
            raise InputError(
                f"{path}: does not say what was scored, or another version of this recipe wrote it:"
                f" {again}"
            )
        test = datadir.read(folder, noisy=True)
        enhanced = (
            test.noisy if system == "noisy" else datadir.read_scp(path.with_name("enhanced.scp"))
        )
        pairs = scoring.pairs_of(test, enhanced)
        jobs = os.cpu_count() or 1
        made_from = scoring.identity(pairs, record["metrics"], jobs=jobs)
        if record["made_from"] != made_from or record["is"] != file_digest(path):
            raise InputError(
                f"{path}: does not belong to the files in {folder} and beside it: {again}"
            )
        if record.get("code") != code.of_scores(record["metrics"]):
            raise InputError(f"{path}: was scored by code that differs from this checkout: {again}")
        if system != "noisy":
            check_enhanced(exp / system, path.parent, enhanced, which=which, jobs=jobs)


def about(exp: Path, data: Path, command: str, wishes: Wishes) -> dict:
    """Where the figures come from.

    That is the command, the data, the noise, the machine, and how each model was trained.
    """
    noise, corpus = datadir.read_noise(data / "test"), read_yaml(data / "corpus.yaml")
    models, costs = {}, dict[str, int]()
    for config_path in sorted(exp.glob(f"*/{WHICH[wishes.which]}/config.json")):
        config, name = json.loads(config_path.read_text(encoding="utf-8")), config_path.parts[-3]
        models[name] = {
            key: config[key] for key in ("step", "seed", "parameters", "trained_s", "machine")
        }
        generator = dump_yaml([config["generator"], config["sample_rate"]])
        if generator not in costs:  # which seeds and most experiments share
            costs[generator] = macs_per_second(config["generator"], config["sample_rate"])
        models[name]["macs_per_second"] = costs[generator]
        if wishes.which != "last":
            models[name]["which"] = wishes.which
        scored = exp / name / "scores.yaml"
        models[name]["settings"] = read_yaml(scored).get("settings") if scored.is_file() else None
        made_by = config.get("origin") or {}
        models[name]["code"] = made_by.get("training", [])
        now = code.of_training(config["experiment"])
        models[name]["by_other_code"] = models[name]["code"] not in ([], [now])
        models[name]["commit"] = (made_by.get("code") or {}).get("commit")
    about_corpus = {key: corpus[key] for key in ("layout", "sample_rate", "speakers")}
    if "corpora" in corpus:  # several in one: whose the test speakers are
        about_corpus["corpora"] = {name: split["test"] for name, split in corpus["corpora"].items()}
    return {
        "command": command,
        "corpus": about_corpus,
        "noise": {"fingerprint": noise["fingerprint"], "procedure": noise.get("procedure")},
        "models": models,
        "experiments": describe(_systems(exp), wishes.experiments),
        "scores": scored_tables(exp),
    }


def _systems(exp: Path) -> dict[str, bool]:
    """The systems of EXP, and whether each was trained here."""
    return systems_of({path.parent.name: read_csv(path)[:1] for path in exp.glob("*/scores.csv")})


if __name__ == "__main__":
    main()
