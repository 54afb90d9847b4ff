"""RESULTS.md: a legend, and a section for each run."""

from __future__ import annotations

from collections.abc import Sequence

from gan_denoise.system.terminal import clock
from reporting import legend, tables
from reporting.formats import Cells, markdown
from reporting.reading import place
from reporting.statistics import Run
from reporting.verdict import verdict


def opening(runs: Sequence[Run]) -> str:
    """The legend of these runs: a line for every system and every column."""
    both = ("Systems", legend.systems(runs)), ("Columns", legend.columns(runs))
    return "\n".join(
        "\n".join([f"{title}:\n", *(f"- {name}: {text}." for name, text in rows), ""])
        for title, rows in both
    )


def section(run: Run) -> str:
    """A run's part of RESULTS.md: command, note, tables, and where the figures come from."""
    scores = run.systems["noisy"]
    speakers = len({row["spk_id"] for row in scores})
    corpus, note = run.about["corpus"], run.about.get("note")
    lines = [f"    {run.about['command']}\n"] if run.about["command"] else []
    lines += [f"{note}\n"] if note else []
    lines.append(f"{verdict(run)}\n")
    lines.append(markdown(tables.systems(run)))
    lines += [f"{line}\n" for line in (*tables.missing(run), *tables.others(run))]
    if run.differences():
        lines.append("Paired differences:\n")
        lines += _folded(tables.headlines(run), tables.differences(run))
    lines += [f"{line}\n" for line in tables.comparisons(run)]
    if further := markdown(tables.conditions(run)):
        lines.append(
            "The same models (of the first seed) on other damage than they were trained on;"
            " clean: input that needs nothing:\n"
        )
        lines += [
            further,
            *_folded(tables.condition_headlines(run), tables.condition_differences(run)),
        ]
    if len(judged := tables.judges(run)) > 1:
        lines.append(
            f"Who wins by which judge: a tie has p (Holm) of {tables.SURE} or more, corrected for"
            " the number of all cells, or an interval that holds 0:\n"
        )
        lines.append(markdown(judged))
    for name, part in run.by_corpus().items():
        lines.append(f"### {name}\n\n{markdown(tables.systems(part))}")
        lines += _folded(tables.headlines(part), tables.differences(part))
        lines += filter(None, [markdown(tables.conditions(part))])
        lines += _folded(tables.condition_headlines(part), tables.condition_differences(part))
    lines.append("Gain over noisy by speaker, and by third of the input's SI-SDR:\n")
    lines.append(markdown(tables.gains(run)))
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


def _folded(short: Cells, whole: Cells) -> list[str]:
    """A table, and below it the one with all columns, which a browser folds."""
    if len(short) < 2:
        return []
    title = "<details><summary>In all metrics, with the p value of each alone</summary>\n"
    return [markdown(short), title, markdown(whole), "</details>\n"]
