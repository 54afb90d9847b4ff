"""The tables of a run, as rows of cells with a heading first, and RESULTS.md, which shows them in
Markdown; the page shows the same cells in HTML.
"""

from __future__ import annotations

import csv
import io

from gan_denoise.datadir import DataDir
from gan_denoise.metrics import ALL
from gan_denoise.terminal import clock
from reporting.statistics import REFERENCES, TIE, Run, place

Cells = list[list[str]]
_TEX = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {"±": "$\\pm$", "\\": r"\textbackslash{}"}
_NAMED = 5  # utterances without a value, of each system


def systems(run: Run) -> Cells:
    """Every system's means, intervals, and the share of the gap to the oracle that it closes."""
    heading = ["system"]
    for metric in run.shown:
        heading += [ALL[metric].heading] + (["gap closed"] if metric in run.gaps else [])
    cells = [[*heading, "scored"]]
    for name, scores in run.systems.items():
        row, means = [run.label(name)], run.means(name)
        for metric in run.shown:
            row.append(_mean(run, name, metric, means[metric]))
            if metric in run.gaps:
                gap = run.gap_closed(name, metric)
                row.append("" if name in REFERENCES or gap is None else f"{100 * gap:.0f} %")
        complete = sum(
            all(score.get(metric) is not None for metric in run.metrics) for score in scores
        )
        cells.append([*row, f"{complete} of {len(scores)}"])
    return cells


def _mean(run: Run, name: str, metric: str, mean: float | None) -> str:
    if mean is None:
        return "-"
    places = ALL[metric].decimals
    found = run.interval(name, metric) if metric in run.gaps else None
    if found is None:
        return f"{mean:.{places}f}"
    return f"{mean:.{places}f} ± {(found.high - found.low) / 2:.{places}f}"


def differences(run: Run, metrics: tuple[str, ...] = ()) -> Cells:
    """The paired differences with their intervals; a heading alone where there are none."""
    metrics = metrics or run.shown
    headings = [ALL[metric].heading for metric in metrics]
    cells = [["difference", "seeds", *headings, f"in {ALL[run.lead].heading}", "p"]]
    for name, other in run.differences():
        row = [f"{name} - {other}", str(len(run.seeds(name, other)))]
        for metric in metrics:
            found, places = run.difference(name, other, metric), ALL[metric].decimals
            row.append(
                f"{found.mean:+.{places}f} [{found.low:+.{places}f}, {found.high:+.{places}f}]"
                if found
                else "-"
            )
        p_value = run.p_value(name, other)
        cells.append([*row, run.verdict(name, other), "-" if p_value is None else f"{p_value:.2g}"])
    return cells


def conditions(run: Run) -> Cells:
    """PESQ and SI-SDR on further test conditions; a heading alone where there are none."""
    cells = [[f"{ALL[run.lead].heading} / SI-SDR dB", *run.conditions]]
    for name in run.systems:
        if any(name in own.systems for own in run.conditions.values()):
            found = (_both(own, name, run.gaps) for own in run.conditions.values())
            cells.append([REFERENCES.get(name, name), *found])
    return cells


def _both(run: Run, name: str, metrics: tuple[str, str]) -> str:
    means = run.means(name) if name in run.systems else {}
    lead, si_sdr = (means.get(metric) for metric in metrics)
    return "-" if lead is None or si_sdr is None else f"{lead:.2f} / {si_sdr:.1f}"


def condition_differences(run: Run) -> Cells:
    """As `differences`, on each further test condition; a heading alone where there are none."""
    scored = {metric for own in run.conditions.values() for metric in own.metrics}
    metrics = tuple(metric for metric in run.shown if metric in scored)
    cells = [["difference", "on", *differences(run, metrics)[0][1:]]]
    for name, own in run.conditions.items():
        cells += [[pair, name, *row] for pair, *row in differences(own, metrics)[1:]]
    return cells


def gains(run: Run) -> Cells:
    """PESQ's gain over noisy by speaker and by third of the input's SI-SDR; nothing where nothing
    was trained.
    """
    found = run.gains()
    if not found:
        return []
    cells = [[f"{ALL[run.lead].heading} gain", *next(iter(found.values()))]]
    for name, own in found.items():
        cells.append([name, *("-" if gain is None else f"{gain:+.2f}" for gain in own.values())])
    return cells


def utterances(run: Run, data: DataDir) -> Cells:
    """Every test utterance: its speaker, and each system's PESQ and SI-SDR."""
    values = {
        (name, metric): run.values(name, metric) for name in run.systems for metric in run.gaps
    }
    headings = [f"{run.label(name)} {ALL[metric].heading}" for name, metric in values]
    cells = [["utterance", "speaker", *headings]]
    for utt_id in data.utt_ids:
        key = (data.utt2spk[utt_id], utt_id)
        scores = (f"{own[key]:.2f}" if key in own else "-" for own in values.values())
        cells.append([utt_id, key[0], *scores])
    return cells


def missing(run: Run) -> list[str]:
    """What has no value, counted and named; and over how many utterances the means are that are
    not over all.
    """
    lines = []
    total = len({(row["spk_id"], row["utt_id"]) for row in run.systems["noisy"]})
    for metric in run.shown:
        without = {}
        for name, rows in run.systems.items():
            own = [f"{row['utt_id']}{_of_seed(row)}" for row in rows if row.get(metric) is None]
            if own:
                more = f" and {len(own) - _NAMED} more" if len(own) > _NAMED else ""
                named = f"{', '.join(own[:_NAMED])}{more}"
                without[run.label(name)] = f"{len(own)} of {len(rows)} ({named})"
        if without:
            listed = "; ".join(f"{name} {what}" for name, what in without.items())
            lines.append(
                f"{ALL[metric].heading}: means over the {run.compared(metric)} of {total}"
                f" utterances that all systems have; without a value: {listed}."
            )
    return lines


def others(run: Run) -> list[str]:
    """A line for the models that another training would not give again."""
    changed = [name for name, model in run.about["models"].items() if model.get("by_other_code")]
    said = f"Trained by other code than made this table: {', '.join(sorted(changed, key=place))}."
    return [said] if changed else []


def _of_seed(row: dict) -> str:
    return f" of seed {row['seed']}" if row.get("seed") not in ("", None, "0") else ""


def section(run: Run) -> str:
    """A run's part of RESULTS.md: command, note, tables, and where the figures come from."""
    scores = run.systems["noisy"]
    speakers = len({row["spk_id"] for row in scores})
    corpus, note = run.about["corpus"], run.about.get("note")
    lines = [f"    {run.about['command']}\n"] if run.about["command"] else []
    lines += [f"{note}\n"] if note else []
    lines.append(markdown(systems(run)))
    lines += [f"{line}\n" for line in (*missing(run), *others(run))]
    if paired := markdown(differences(run)):
        lines.append(
            "Paired differences, with 95 % intervals (bootstrap of speakers, then of their"
            " utterances; between trainings of other seeds there is more):\n"
        )
        lines.append(paired)
        lines.append(
            f"A tie: under {TIE} PESQ, or an interval that holds 0. p: Wilcoxon's over"
            " utterances, a description only.\n"
        )
    if further := markdown(conditions(run)):
        lines.append(
            "The same models (of the first seed) on other damage than they were trained on;"
            " clean: input that needs nothing:\n"
        )
        lines += filter(None, (further, markdown(condition_differences(run))))
    for name, own in run.by_corpus().items():
        lines.append(f"### {name}\n\n{markdown(systems(own))}")
        tested = differences(own), conditions(own), condition_differences(own)
        lines += filter(None, map(markdown, tested))
    lines.append("Gain over noisy by speaker, and by third of the input's SI-SDR:\n")
    lines.append(markdown(gains(run)))
    lines.append(
        f"Mean over {speakers} test speakers' means, {len(scores)} utterances;"
        f" {corpus['layout']} corpus at {corpus['sample_rate']} Hz,"
        f" {len(corpus['speakers']['train'])} training speakers; noise"
        f" {run.about['noise']['fingerprint']}."
    )
    for name, model in sorted(run.about["models"].items(), key=lambda item: place(item[0])):
        commit = f"; commit {model['commit'][:12]}" if model.get("commit") else ""
        lines.append(
            f"`{name}`: {model['parameters'] / 1e6:.2f} M parameters, {model['step']} updates"
            f" in {clock(model['trained_s'])}, seed {model['seed']}; {model['machine']}{commit}."
        )
    return "\n".join(lines) + "\n"


def markdown(cells: Cells) -> str:
    """A table in Markdown, aligned for a terminal: the first column left, the others right; empty
    where there is no row below the heading.
    """
    if len(cells) < 2:
        return ""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]

    def line(row: list[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    dashes = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), f"|{'|'.join(dashes)}|", *map(line, cells[1:])]) + "\n"


def comma_separated(cells: Cells) -> str:
    """The same as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells if len(cells) > 1 else [])
    return text.getvalue()


def latex(cells: Cells) -> str:
    """The same as a tabular of LaTeX's package booktabs."""
    if len(cells) < 2:
        return ""
    heading, *rows = (
        " & ".join("".join(_TEX.get(mark, mark) for mark in cell) for cell in row) + r" \\"
        for row in cells
    )
    begin = rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}"
    lines = [begin, r"\toprule", heading, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


FORMATS = {"md": markdown, "csv": comma_separated, "latex": latex}
