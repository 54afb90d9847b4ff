"""The scores of one experiment folder: means over speakers, seeds pooled, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from gan_denoise.config import read_yaml
from gan_denoise.errors import InputError
from gan_denoise.metrics import ALL, OPTIONAL
from reporting.bootstrap import Estimate, estimate
from reporting.experiments import describe
from reporting.reading import REFERENCES, read_systems, systems_of

NEEDED = ("noisy", "oracle_mag")
CONDITIONS = ("clean", "zero", "scale", "add", "heavy", "mixed")  # in this order, others after them
# PESQ: smaller differences are under the noise of the metric and of the draw of the test speakers
TIE = 0.03
# The columns of the tables
SHOWN = ("pesq_wb", "stoi", "estoi", "si_sdr", "wsdr", "covl", "speaker_similarity")
SI_SDR = "si_sdr"
# Fewer tell nothing about other speakers (resampling one speaker finds no other), nor about other
# sentences (ten: below it the percentiles of a bootstrap are those of its few values)
LEAST_SPEAKERS, LEAST_UTTERANCES = 2, 10
Pair = TypeVar("Pair", bound=tuple[str, ...])


@dataclass(frozen=True)
class Run:
    """The scores of one experiment folder, noisy and oracle magnitude first.

    systems: name -> its rows, of all seeds. folders: name -> the folders that they come from, one
    per seed. conditions: name of a further test condition -> the scores there, of those systems
    that have any.
    """

    about: dict
    systems: dict[str, list[dict]]
    folders: dict[str, list[str]]
    conditions: dict[str, Run]
    # A bootstrap takes a while, and RESULTS.md, the page and the terminal show the same ones
    _estimates: dict[tuple[str, str, str], Estimate | None] = field(
        init=False, default_factory=dict, repr=False
    )
    _means: dict[tuple[str, str, frozenset | None], dict[tuple[str, str], float]] = field(
        init=False, default_factory=dict, repr=False
    )

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read EXP or a folder of results.

        EXP holds NAME/scores.csv and NAME/conditions/CONDITION/scores.csv, a folder of results
        NAME.csv and CONDITION/NAME.csv. Raises InputError where the fingerprints within one table
        differ.
        """
        paths = {path.parent.name: path for path in sorted(folder.glob("*/scores.csv"))}
        paths |= {path.stem: path for path in sorted(folder.glob("*.csv"))}
        if missing := [name for name in NEEDED if name not in paths]:
            raise InputError(
                f"{folder}: has no scores of {', '.join(missing)}: run stages 3 and 4 first"
            )
        about = read_yaml(folder / "about.yaml")
        settings = {
            name: (model.get("settings"), *model.get("code", ()))
            for name, model in about["models"].items()
        }
        systems, folders = read_systems(folder, paths, settings)
        if "experiments" not in about:  # it was written before experiments said so
            about["experiments"] = describe(systems_of(systems), {})
        by_condition: dict[str, dict[str, Path]] = {}
        for path in sorted(folder.glob("*/conditions/*/scores.csv")):
            by_condition.setdefault(path.parent.name, {})[path.parts[-4]] = path
        for path in sorted(folder.glob("*/*.csv")):
            if path.parent.name not in paths:
                by_condition.setdefault(path.parent.name, {})[path.stem] = path
        order = {name: place for place, name in enumerate(CONDITIONS)}
        conditions = {
            name: cls(about, *read_systems(folder / name, by_condition[name], settings), {})
            for name in sorted(by_condition, key=lambda name: (order.get(name, len(order)), name))
        }
        return cls(about, systems, folders, conditions)

    def by_corpus(self) -> dict[str, Run]:
        """The same systems on the test speakers of each corpus, where there are several."""
        corpora = self.about["corpus"].get("corpora", {})
        return {name: self._of(set(speakers)) for name, speakers in corpora.items()}

    def _of(self, speakers: set[str]) -> Run:
        systems = {
            name: [row for row in rows if row["spk_id"] in speakers]
            for name, rows in self.systems.items()
        }
        conditions = {name: run._of(speakers) for name, run in self.conditions.items()}
        return replace(self, systems=systems, conditions=conditions)

    @cached_property
    def models(self) -> list[str]:
        """The systems that were trained."""
        return [name for name in self.systems if name not in REFERENCES]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that were scored."""
        return tuple(
            metric
            for metric in ALL
            if any(metric in row for rows in self.systems.values() for row in rows)
        )

    @cached_property
    def lead(self) -> str:
        """The PESQ that decides: wide-band, or narrow-band where nothing has a wide-band score."""
        scored = any(
            row.get("pesq_wb") is not None for rows in self.systems.values() for row in rows
        )
        return "pesq_wb" if scored else "pesq_nb"

    @property
    def gaps(self) -> tuple[str, str]:
        """The metrics that are shown with their intervals and gaps."""
        return self.lead, SI_SDR

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The columns of the tables: those of every table, then the judges that were asked for."""
        parts = {part for metric in OPTIONAL.values() for part in metric.brings}
        asked = (metric for metric in OPTIONAL if metric not in parts)
        shown = (self.lead, *(metric for metric in SHOWN if metric != "pesq_wb"), *asked)
        return tuple(metric for metric in shown if metric in self.metrics)

    def label(self, name: str) -> str:
        """What the table calls a system."""
        seeds, models = len(self.folders[name]), self.about["models"]
        best = any(models.get(folder, {}).get("which") == "best" for folder in self.folders[name])
        notes = [f"{seeds} seeds"] * (seeds > 1) + ["best on dev"] * best
        return REFERENCES.get(name, name) + (f" ({', '.join(notes)})" if notes else "")

    def cost(self, name: str, key: str) -> int:
        """What about.yaml says that a model costs (tables.COSTS); 0 where it does not say."""
        models = self.about["models"]
        return max(models.get(folder, {}).get(key, 0) for folder in self.folders[name])

    def values(
        self, name: str, metric: str, seeds: set | None = None
    ) -> dict[tuple[str, str], float]:
        """(spk_id, utt_id) -> mean over the seeds (all, or these).

        An utterance that one of them failed is left out.
        """
        key = name, metric, None if seeds is None else frozenset(seeds)
        if key not in self._means:
            rows = self.systems[name]
            seed_rows = [row for row in rows if seeds is None or row.get("seed") in {*seeds, ""}]
            self._means[key] = _values(seed_rows, metric)
        return self._means[key]

    def common(self, name: str, metric: str) -> dict[tuple[str, str], float]:
        """As `values`, of those utterances that every system has which has any.

        So the figures that stand side by side are comparable.
        """
        shared = self._shared[metric]
        return {key: value for key, value in self.values(name, metric).items() if key in shared}

    def compared(self, metric: str) -> int:
        """Over how many utterances the means of a metric are."""
        return len(self._shared[metric])

    @cached_property
    def _shared(self) -> dict[str, set[tuple[str, str]]]:
        return {
            metric: _in_all(self.values(name, metric) for name in self.systems)
            for metric in self.metrics
        }

    def means(self, name: str) -> dict[str, float | None]:
        """Each metric's mean over the speakers' means, over the common utterances.

        None where nothing was scored.
        """
        by_metric = {metric: by_speaker(self.common(name, metric)) for metric in self.metrics}
        return {
            metric: _mean_of_means(speakers) if speakers else None
            for metric, speakers in by_metric.items()
        }

    def seeds(self, *names: str) -> set:
        """The seeds with which all these systems were trained.

        A system from elsewhere has none, and is compared with all seeds of another one.
        """
        trained = [{row.get("seed") for row in self.systems[name]} for name in names]
        return set.intersection(*([seeds for seeds in trained if seeds != {""}] or trained))

    def difference(self, name: str, other: str, metric: str) -> Estimate | None:
        """name - other over the seeds and utterances that both have, with its interval.

        None where these are too few.
        """
        if (name, other, metric) not in self._estimates:
            paired = self._paired(name, other, metric)
            self._estimates[name, other, metric] = _estimate(paired)
        return self._estimates[name, other, metric]

    def interval(self, name: str, metric: str) -> Estimate | None:
        """The mean over the common utterances with its interval; None where these are too few."""
        if (name, "", metric) not in self._estimates:
            self._estimates[name, "", metric] = _estimate(self.common(name, metric))
        return self._estimates[name, "", metric]

    def _paired(self, name: str, other: str, metric: str) -> dict[tuple[str, str], float]:
        seeds = self.seeds(name, other)
        scores, others = (self.values(system, metric, seeds) for system in (name, other))
        return {key: scores[key] - others[key] for key in scores if key in others}

    def experiment(self, name: str) -> dict:
        """What is known of a system (reporting/experiments.py)."""
        return self.about["experiments"][self.systems[name][0]["system"]]

    def differences(self) -> list[tuple[str, str]]:
        """The pairs that are compared.

        They are every model with those that its experiment names, where they are here.
        """
        return [
            (name, label)
            for name in self.models
            for other in self.experiment(name)["compare_with"]
            for label in self._called(other)
            if label != name
        ]

    def _called(self, experiment: str) -> list[str]:
        """The models of an experiment: the one that is called as it is, or all."""
        if experiment in self.models:
            return [experiment]
        return [name for name in self.models if self.systems[name][0]["system"] == experiment]

    def verdict(self, name: str, other: str) -> str:
        """How a difference in PESQ reads: better, worse, tie, or "-".

        It is a tie under 0.03 or where the interval holds 0, and "-" where too little was compared.
        """
        difference = self.difference(name, other, self.lead)
        if difference is None:
            return "-"
        if abs(difference.mean) < TIE or difference.low <= 0.0 <= difference.high:
            return "tie"
        return "better" if difference.mean > 0 else "worse"

    def p_value(self, name: str, other: str, metric: str = "") -> float | None:
        """Wilcoxon's signed-rank test over utterances, two-sided.

        It is in PESQ unless another metric is named. Utterances of a speaker are alike, so it only
        describes.
        """
        differences = self._paired(name, other, metric or self.lead)
        if not _enough(differences):
            return None
        from scipy.stats import wilcoxon  # half a second, which reading scores need not spend

        paired = list(differences.values())
        # The default permutes a few utterances with ties one by one, seconds for each pair
        return float(wilcoxon(paired, method="asymptotic").pvalue) if any(paired) else 1.0

    @cached_property
    def corrected(self) -> dict[tuple[str, str], float]:
        """The p values of all pairs, corrected for their number."""
        return holm({pair: self.p_value(*pair) for pair in self.differences()})

    def gains(self) -> dict[str, dict[str, float | None]]:
        """system -> group -> mean gain over noisy in PESQ, over the common utterances.

        A group is a speaker, or a third of the input's SI-SDR. All systems have the same groups.
        """
        metric = self.lead
        noisy = self.common("noisy", metric)
        level = self.values("noisy", SI_SDR)
        groups: dict[str, set] = {}
        for key in sorted(noisy):
            groups.setdefault(key[0], set()).add(key)
        edges = np.quantile(list(level.values()), [1 / 3, 2 / 3]) if level else (0.0, 0.0)
        bins = (f"below {edges[0]:.1f} dB", "between", f"above {edges[1]:.1f} dB")
        thirds: dict[str, set] = {name: set() for name in bins}
        for key in sorted(noisy.keys() & level.keys()):
            thirds[bins[int(np.searchsorted(edges, level[key]))]].add(key)
        groups |= {name: keys for name, keys in thirds.items() if keys}
        gains: dict[str, dict[str, float | None]] = {}
        for name in self.models:
            scores = self.common(name, metric)
            per_group = {
                group: [scores[key] - noisy[key] for key in keys if key in scores]
                for group, keys in groups.items()
            }
            gains[name] = {
                group: float(np.mean(gain)) if gain else None for group, gain in per_group.items()
            }
        return gains

    def gap_closed(self, name: str, metric: str) -> float | None:
        """(system - noisy) / (oracle magnitude - noisy)."""
        noisy, oracle, mean = (
            self.means(system)[metric] for system in ("noisy", "oracle_mag", name)
        )
        if noisy is None or oracle is None or mean is None or oracle == noisy:
            return None
        return (mean - noisy) / (oracle - noisy)


def holm(p_values: Mapping[Pair, float | None]) -> dict[Pair, float]:
    """p values corrected for their number (Holm 1979); those that are None have none."""
    ranked = sorted((value, pair) for pair, value in p_values.items() if value is not None)
    corrected, largest = {}, 0.0
    for place, (value, pair) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - place) * value))
        corrected[pair] = largest
    return corrected


def _values(rows: Iterable[dict], metric: str) -> dict[tuple[str, str], float]:
    """(spk_id, utt_id) -> mean over the seeds; an utterance that one of them failed is left out."""
    values: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        values.setdefault((row["spk_id"], row["utt_id"]), []).append(row.get(metric))
    valid = {
        key: [value for value in scores if value is not None] for key, scores in values.items()
    }
    return {
        key: sum(scores) / len(scores)
        for key, scores in valid.items()
        if len(scores) == len(values[key])
    }


def _in_all(values: Iterable[Mapping[tuple[str, str], float]]) -> set[tuple[str, str]]:
    """The utterances that all have which have any."""
    utterances = [set(one) for one in values if one]
    return set.intersection(*utterances) if utterances else set()


def _estimate(values: dict[tuple[str, str], float]) -> Estimate | None:
    return estimate(by_speaker(values)) if _enough(values) else None


def _enough(values: Mapping[tuple[str, str], float]) -> bool:
    """Whether an interval over these utterances would say anything about others."""
    return len(values) >= LEAST_UTTERANCES and len(by_speaker(dict(values))) >= LEAST_SPEAKERS


def by_speaker(values: dict[tuple[str, str], float]) -> dict[str, list[float]]:
    """(spk_id, utt_id) -> value becomes spk_id -> values."""
    speakers: dict[str, list[float]] = {}
    for (spk_id, _), value in values.items():
        speakers.setdefault(spk_id, []).append(value)
    return speakers


def _mean_of_means(speakers: Mapping[str, list[float]]) -> float:
    return float(np.mean([np.mean(values) for values in speakers.values()]))
