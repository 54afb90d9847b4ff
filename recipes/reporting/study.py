"""What a search found: its trials as a table, three pictures, and one page with both."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from optuna.trial import FrozenTrial, TrialState

from reporting.plain import figure, page, table
from reporting.plots import COLOURS, INK, draw
from searching.trial import last_score

_ENOUGH = 8  # finished trials, for an importance


def rows(trials: Sequence[FrozenTrial], names: dict[str, str]) -> list[list[str]]:
    """Heading and cells, the best first. names: key -> how it is headed."""
    ranked = sorted(
        trials, key=lambda trial: (trial.state != TrialState.COMPLETE, -(last_score(trial) or 0.0))
    )
    table = [["trial", "PESQ", "last step", *names.values(), "state"]]
    for trial in ranked:
        score, last = last_score(trial), max(trial.intermediate_values, default=0)
        state = trial.state.name.lower() if trial.state != TrialState.COMPLETE else ""
        if reason := trial.user_attrs.get("reason"):
            state = f"failed: {reason}"
        resumed = trial.system_attrs.get("retry_history", [])
        state += f"{', ' if state else ''}resumed" if resumed else ""
        values = [shown(trial.params.get(key, "")) for key in names]
        pesq = "" if score is None else f"{score:.3f}"
        table.append([str(trial.number), pesq, str(last), *values, state])
    return table


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_csv(table: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def importances(study: optuna.Study) -> dict[str, float]:
    """What share of PESQ's variance each setting explains, the largest first.

    fANOVA: Hutter et al. 2014. Nothing where the trials are too few.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < _ENOUGH or len({trial.value for trial in done}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def render_page(study: optuna.Study, names: dict[str, str], verdict: str, best: str) -> str:
    """best: the text of best.yaml."""
    trials = [trial for trial in study.get_trials() if last_score(trial) is not None]
    pictures = {
        "History": _history(trials),
        "What matters: share of the variance of PESQ": _importance(importances(study), names),
        "Every trial: a line, the better the darker": _parallel(trials, names),
    }
    figures = "".join(figure(title, svg) for title, svg in pictures.items() if svg)
    body = f'<pre tabindex="0">{html.escape(best)}</pre>{figures}'
    body += (
        "<h2>Trials <small>PESQ on dev at the last validation, the best first; pruned: stopped"
        " below the median of the others at that step</small></h2>"
    )
    body += table("trials", rows(study.get_trials(), names))
    return page(f"search {study.study_name}", verdict, body)


def _history(trials: list[FrozenTrial]) -> str:
    def paint(axes: Axes) -> None:
        looks = {
            TrialState.COMPLETE: (COLOURS[0], "o", "finished"),
            TrialState.PRUNED: (COLOURS[1], "x", "pruned"),
        }
        for state, (colour, marker, label) in looks.items():
            group = [trial for trial in trials if trial.state == state]
            numbers = [trial.number for trial in group]
            scores = [last_score(trial) for trial in group]
            axes.scatter(numbers, np.array(scores, float), color=colour, marker=marker, label=label)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = np.maximum.accumulate(np.array([trial.value for trial in done], float))
        numbers = [trial.number for trial in done]
        axes.step(numbers, best, where="post", color=INK, linewidth=1, label="best so far")
        axes.set_xlabel("trial")
        axes.set_ylabel("PESQ on dev")
        axes.legend()

    return draw("history", (8.0, 3.0), paint)


def _importance(shares: dict[str, float], names: dict[str, str]) -> str:
    if not shares:
        return ""

    def paint(axes: Axes) -> None:
        axes.barh([names[key] for key in shares], list(shares.values()), color=COLOURS[0])
        axes.invert_yaxis()
        axes.set_xlim(0.0, 1.0)

    return draw("importance", (8.0, 0.6 + 0.3 * len(shares)), paint)


def _parallel(trials: list[FrozenTrial], names: dict[str, str]) -> str:
    """An axis for each setting, and PESQ as the last; each from its lowest value to its highest."""
    if not trials:
        return ""
    scores = np.array([last_score(trial) for trial in trials], float)
    columns = {names[key]: _places(key, trials) for key in names}
    spread = np.ptp(scores) or 1.0
    columns["PESQ"] = (scores - scores.min()) / spread, [scores.min(), scores.max()]

    def paint(axes: Axes) -> None:
        for number in np.argsort(scores):
            line = [places[number] for places, _ in columns.values()]
            rank = (scores[number] - scores.min()) / spread
            axes.plot(line, color=COLOURS[0], alpha=0.1 + 0.8 * rank**2, linewidth=0.8 + rank)
        axes.set_xticks(range(len(columns)), list(columns))
        axes.set_yticks([])
        axes.set_ylim(-0.08, 1.08)
        for place, (_, ends) in enumerate(columns.values()):
            for end, height, side in zip(ends, (-0.03, 1.03), ("top", "bottom"), strict=True):
                axes.text(place, height, shown(end), ha="center", va=side)

    return draw("parallel coordinates", (8.0, 3.6), paint)


def _places(key: str, trials: list[FrozenTrial]) -> tuple[np.ndarray, list[Any]]:
    """Where each trial's value lies between the lowest, 0, and the highest, 1; and these two."""
    values = [trial.params[key] for trial in trials]
    distribution: Any = trials[0].distributions[key]
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        order = list(distribution.choices)
        places = np.array([order.index(value) for value in values], float)
        return places / max(1, len(order) - 1), [order[0], order[-1]]
    places = np.log(values) if distribution.log else np.array(values, float)
    return (places - places.min()) / (np.ptp(places) or 1.0), [min(values), max(values)]
