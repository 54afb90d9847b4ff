"""The tables of a run, as rows of cells with a heading first.

RESULTS.md shows them in Markdown, the page in HTML.
"""

from __future__ import annotations

from gan_denoise.datadir import DataDir
from gan_denoise.metrics import ALL, OPTIONAL
from reporting.bootstrap import Estimate
from reporting.formats import Cells
from reporting.legend import LOWER
from reporting.reading import REFERENCES, place
from reporting.statistics import Run, holm

# Of metrics that say much the same, one
JUDGES = ("pesq_wb", "pesq_nb", "estoi", "si_sdr", "speaker_similarity", *OPTIONAL)
# What a model costs: its key in about.yaml, the column's heading, and the unit
COSTS = {"parameters": ("weights", 1e6, "M"), "macs_per_second": ("MACs/s", 1e9, "G")}
SURE = 0.05  # of a corrected p value, and the interval does not hold 0
CORRECTED = "p (Holm)"
_NAMED = 5  # utterances without a value, of each system


def systems(run: Run) -> Cells:
    """Every system's means, intervals, and the share of the gap to the oracle that it closes."""
    heading = ["system"]
    for metric in run.shown:
        heading += [ALL[metric].heading] + (["gap closed"] if metric in run.gaps else [])
    costs = {key: cost for key, cost in COSTS.items() if any(run.cost(n, key) for n in run.systems)}
    cells = [[*heading, *(title for title, _, _ in costs.values()), "scored"]]
    for name, scores in run.systems.items():
        row, means = [run.label(name)], run.means(name)
        for metric in run.shown:
            row.append(_mean(run, name, metric, means[metric]))
            if metric in run.gaps:
                gap = run.gap_closed(name, metric)
                row.append("" if name in REFERENCES or gap is None else f"{round(100 * gap)} %")
        complete = sum(
            all(score.get(metric) is not None for metric in run.metrics) for score in scores
        )
        for key, (_, unit, letter) in costs.items():
            cost = run.cost(name, key)
            row.append(f"{cost / unit:.2f} {letter}" if cost else "")
        cells.append([*row, f"{complete} of {len(scores)}"])
    return cells


def _mean(run: Run, name: str, metric: str, mean: float | None) -> str:
    if mean is None:
        return "-"
    places = ALL[metric].decimals
    estimate = run.interval(name, metric) if metric in run.gaps else None
    if estimate is None:
        return f"{mean:.{places}f}"
    return f"{mean:.{places}f} ± {(estimate.high - estimate.low) / 2:.{places}f}"


def differences(run: Run, metrics: tuple[str, ...] = ()) -> Cells:
    """The paired differences in all metrics, or these, with their intervals.

    A heading alone where there are none.
    """
    metrics = metrics or run.shown
    headings = [ALL[metric].heading for metric in metrics]
    cells = [["difference", "seeds", *headings, f"in {ALL[run.lead].heading}", "p", CORRECTED]]
    for name, other in run.differences():
        row = [f"{name} - {other}", str(len(run.seeds(name, other)))]
        row += [interval(run, name, other, metric) for metric in metrics]
        ps = run.p_value(name, other), run.corrected.get((name, other))
        cells.append([*row, run.verdict(name, other), *map(_p, ps)])
    return cells


def headlines(run: Run) -> Cells:
    """The same in the two metrics that decide: five columns, which fit a screen."""
    metrics = [metric for metric in run.gaps if metric in run.metrics]
    headings = [ALL[metric].heading for metric in metrics]
    cells = [["difference", *headings, f"in {ALL[run.lead].heading}", CORRECTED]]
    for name, other in run.differences():
        seeds = len(run.seeds(name, other))
        row = [f"{name} - {other}" + (f" ({seeds} seeds)" if seeds > 1 else "")]
        row += [interval(run, name, other, metric) for metric in metrics]
        cells.append([*row, run.verdict(name, other), _p(run.corrected.get((name, other)))])
    return cells


def interval(run: Run, name: str, other: str, metric: str) -> str:
    """A difference with its interval."""
    difference = run.difference(name, other, metric)
    return "-" if difference is None else _of(difference, metric)


def _of(estimate: Estimate, metric: str) -> str:
    places = ALL[metric].decimals
    return f"{estimate.mean:+.{places}f} [{estimate.low:+.{places}f}, {estimate.high:+.{places}f}]"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def comparisons(run: Run) -> list[str]:
    """A line for every system whose comparison the reader must be told about.

    Its file does not name what it is compared with, or names what is not here.
    """
    lines, paired = [], {name for name, _ in run.differences()}
    for name in run.models:
        about = run.experiment(name)
        others = ", ".join(about["compare_with"])
        if about["why"] and name in paired:
            lines.append(f"{name} is compared with {others}: {about['why']}.")
        elif others and name not in paired:
            lines.append(f"{name} is to be compared with {others}, of which none is here.")
    return lines


def conditions(run: Run) -> Cells:
    """PESQ and SI-SDR on further test conditions; a heading alone where there are none."""
    cells = [[f"{ALL[run.lead].heading} / SI-SDR dB", *run.conditions]]
    for name in run.systems:
        if any(name in condition.systems for condition in run.conditions.values()):
            scores = (_both(condition, name, run.gaps) for condition in run.conditions.values())
            cells.append([REFERENCES.get(name, name), *scores])
    return cells


def _both(run: Run, name: str, metrics: tuple[str, str]) -> str:
    means = run.means(name) if name in run.systems else {}
    lead, si_sdr = (means.get(metric) for metric in metrics)
    return "-" if lead is None or si_sdr is None else f"{lead:.2f} / {si_sdr:.1f}"


def condition_differences(run: Run) -> Cells:
    """As `differences`, on each further test condition; a heading alone where there are none."""
    scored = {metric for condition in run.conditions.values() for metric in condition.metrics}
    metrics = tuple(metric for metric in run.shown if metric in scored)
    cells = [["difference", "on", *differences(run, metrics)[0][1:]]]
    for name, condition in run.conditions.items():
        cells += [[pair, name, *row] for pair, *row in differences(condition, metrics)[1:]]
    return cells


def condition_headlines(run: Run) -> Cells:
    """The same in PESQ alone."""
    lead = ALL[run.lead].heading
    cells = [["difference", "on", lead, f"in {lead}", CORRECTED]]
    for name, condition in run.conditions.items():
        for pair, _, value, reading, _, corrected in differences(condition, (run.lead,))[1:]:
            cells.append([pair, name, value, reading, corrected])
    return cells


def judges(run: Run) -> Cells:
    """Which system wins by which judge, on each test: every pair in every judge.

    p values are corrected for the number of all these cells. A heading alone where no judge was
    asked beside the usual metrics.
    """
    tests = {"test": run, **run.conditions}
    shown = [metric for metric in JUDGES if metric in run.shown]
    cells = [["difference", "on", "judge", "result"]]
    if not set(shown) & OPTIONAL.keys():
        return cells
    places = [(*pair, test) for pair in run.differences() for test in tests]
    corrected = holm(
        {
            (name, other, test, metric): tests[test].p_value(name, other, metric)
            for name, other, test in places
            if {name, other} <= tests[test].systems.keys()
            for metric in shown
        }
    )
    for name, other, test in places:
        for metric in shown:
            p = corrected.get((name, other, test, metric))
            if p is not None and (result := _judged(tests[test], name, other, metric, p)):
                cells.append([f"{name} - {other}", test, ALL[metric].heading, result])
    return cells


def _judged(run: Run, name: str, other: str, metric: str, p: float) -> str | None:
    """Who wins and by how much; None without scores."""
    difference = run.difference(name, other, metric)
    if difference is None:
        return None
    sure = p < SURE and not difference.low <= 0.0 <= difference.high
    better = (difference.mean > 0) != (metric in LOWER)
    return f"{'ties' if not sure else 'wins' if better else 'loses'} {_of(difference, metric)}"


def gains(run: Run) -> Cells:
    """PESQ's gain over noisy by speaker and by third of the input's SI-SDR.

    Nothing where nothing was trained.
    """
    by_system = run.gains()
    if not by_system:
        return []
    cells = [[f"{ALL[run.lead].heading} gain", *next(iter(by_system.values()))]]
    for name, row in by_system.items():
        cells.append([name, *("-" if gain is None else f"{gain:+.2f}" for gain in row.values())])
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
        scores = (f"{column[key]:.2f}" if key in column else "-" for column in values.values())
        cells.append([utt_id, key[0], *scores])
    return cells


def missing(run: Run) -> list[str]:
    """The values that are missing, counted and named.

    A line also tells over how many utterances a mean is that is not over all of them.
    """
    lines = []
    everything = {row["utt_id"] for rows in run.systems.values() for row in rows}
    total = len(everything)
    for metric in run.shown:
        without = {}
        for name, rows in run.systems.items():
            absent = [f"{row['utt_id']}{_of_seed(row)}" for row in rows if row.get(metric) is None]
            absent += sorted(everything - {row["utt_id"] for row in rows})
            if absent:
                more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
                named = f"{', '.join(absent[:_NAMED])}{more}"
                without[run.label(name)] = f"{len(absent)} of {max(len(rows), total)} ({named})"
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
