"""The pictures of the page: SVG that takes the page's colours.

Systems are told apart by shape and line as well as by colour.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import matplotlib

matplotlib.use("svg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from gan_denoise import audio
from gan_denoise.metrics import ALL, speakers
from gan_denoise.system.files import write_atomically

if TYPE_CHECKING:
    from reporting.statistics import Run

# Okabe and Ito's, for the colour-blind
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")
# Formats of figures, and what would make their bytes differ from day to day
FIGURES: dict[str, dict] = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
FIGURES["png"] = {}
INK = "#010203"  # stands for the page's own text colour
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "gan_denoise",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"),
    INK,
)


def _look(place: int) -> dict:
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


class Picture(NamedTuple):
    """A plot: its name, for those who hear the page; its size in inches; and what paints it."""

    name: str
    size: tuple[float, float]
    paint: Callable[[Axes], None]

    def svg(self) -> str:
        """For a page: an SVG in the page's colours, whose ids no other picture of the page has."""
        file = io.StringIO()
        self._save(file, "svg", transparent=True)
        text = file.getvalue().replace(INK, "currentColor")
        prefix = re.sub("[^a-z]", "", self.name.lower())
        text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text[text.index("<svg") :])
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # HTML knows them
        label = f'role="img" aria-label="{self.name}"'
        return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', label, text, count=1)

    def write(self, folder: Path, kind: str) -> None:
        """FOLDER/<name>.<kind>, the same bytes for the same picture."""
        file, words = io.BytesIO(), re.sub(r"[^a-z0-9]+", "_", self.name.lower())
        self._save(file, kind)
        write_atomically(folder / f"{words}.{kind}", file.getvalue())

    def _save(self, file: IO, kind: str, *, transparent: bool = False) -> None:
        with plt.rc_context(_STYLE):
            figure, axes = plt.subplots(figsize=self.size, layout="constrained")
            self.paint(axes)
            figure.savefig(
                file, format=kind, transparent=transparent, dpi=200, metadata=FIGURES[kind]
            )
            plt.close(figure)


def draw(name: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
    """An SVG for a page."""
    return Picture(name, size, paint).svg()


def of_run(run: Run, exp: Path) -> dict[str, list[Picture]]:
    """The plots of a run's scores and logs, by their titles."""
    models = run.models
    if not models:
        return {}
    main = [name for name in ("l1", "l1_mrstft", "gan") if name in models] or models[:3]
    pictures = {
        "Gain of every utterance": [improvements(run, models, metric) for metric in run.gaps],
        "Against the input": [against_input(run, ["noisy", *main], metric) for metric in run.gaps],
    }
    if logs := read_logs(exp):
        pictures["Training"] = [training(logs, run.lead)]
    return pictures


def save_figures(run: Run, exp: Path, kind: str) -> None:
    """The same as files in EXP/figures; kind: one of FIGURES."""
    (exp / "figures").mkdir(exist_ok=True)
    for pictures in of_run(run, exp).values():
        for picture in pictures:
            picture.write(exp / "figures", kind)


def improvements(run: Run, models: list[str], metric: str) -> Picture:
    """How the gain over noisy is distributed over utterances.

    Each system has a box, and its mean.
    """
    noisy = run.common("noisy", metric)

    def paint(axes: Axes) -> None:
        gains = []
        for name in models:
            scores = run.common(name, metric)
            gains.append([scores[key] - noisy[key] for key in scores if key in noisy] or [np.nan])
        ink = {"color": INK}
        axes.boxplot(
            gains,
            orientation="horizontal",
            widths=0.6,
            showmeans=True,
            flierprops={"markersize": 3, "markeredgecolor": INK},
            boxprops=ink,
            whiskerprops=ink,
            capprops=ink,
            medianprops={"color": COLOURS[1], "linewidth": 2},
            meanprops={
                "marker": "D",
                "markerfacecolor": COLOURS[0],
                "markeredgecolor": COLOURS[0],
                "markersize": 5,
            },
        )
        axes.set_yticks(range(1, len(models) + 1), models)
        axes.invert_yaxis()
        axes.axvline(0.0, color=INK, linewidth=0.8)
        axes.set_xlabel(f"{ALL[metric].heading}: gain over noisy (line: median, diamond: mean)")

    return Picture(f"gain in {ALL[metric].heading}", (6.0, 1.0 + 0.32 * len(models)), paint)


def against_input(run: Run, names: list[str], metric: str) -> Picture:
    """A metric against the SI-SDR of the noisy input.

    It shows every utterance, and each system's mean in five equal groups.
    """
    level = run.values("noisy", "si_sdr")

    def paint(axes: Axes) -> None:
        for place, name in enumerate(names):
            scores = run.common(name, metric)
            keys = sorted((key for key in scores if key in level), key=level.__getitem__)
            if not keys:
                continue
            x, y = np.array([level[key] for key in keys]), np.array([scores[key] for key in keys])
            axes.scatter(x, y, s=7, alpha=0.3, linewidths=0, **_look(place))
            groups = [group for group in np.array_split(np.arange(len(keys)), 5) if len(group)]
            axes.plot(
                [x[group].mean() for group in groups],
                [y[group].mean() for group in groups],
                label=run.label(name),
                linestyle=_LINES[place % len(_LINES)],
                markersize=5,
                **_look(place),
            )
        axes.set_xlabel("SI-SDR of the noisy input in dB")
        axes.set_ylabel(ALL[metric].heading)
        axes.legend()

    return Picture(f"{ALL[metric].heading} against the input", (6.0, 3.6), paint)


def training(logs: dict[str, list[dict]], metric: str) -> Picture:
    """A metric on dev over the updates of all runs.

    A vertical line marks the first update of each adversary.
    """

    def paint(axes: Axes) -> None:
        entered = set()
        for place, (name, rows) in enumerate(logs.items()):
            points = [
                (row["step"], row[f"dev/{metric}"])
                for row in rows
                if row.get(f"dev/{metric}") is not None
            ]
            look = _look(place) | {
                "linestyle": _LINES[place // len(COLOURS) % len(_LINES)],
                "markersize": 4,
            }
            if points:
                axes.plot(*zip(*points, strict=True), label=name, **look)
            entered |= {row["step"] for row in rows if row.get("phase") == "discriminator"}
        for step in entered:
            axes.axvline(step, color=INK, linewidth=0.8, linestyle=":")
            axes.annotate(
                "the adversary enters",
                (step, 0.02),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="right",
            )
        axes.set_xlabel("updates of the generator")
        axes.set_ylabel(f"{ALL[metric].heading} on dev")
        axes.legend(ncols=2)

    return Picture("training curves", (6.0, 3.6), paint)


def read_logs(exp: Path) -> dict[str, list[dict]]:
    """Every run's log.jsonl, by the run's name; a damaged line is left out."""
    return {path.parent.name: list(_entries(path)) for path in sorted(exp.glob("*/log.jsonl"))}


def _entries(path: Path) -> Iterator[dict]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if isinstance(entry, dict) and "step" in entry:
                yield entry


def voices(files: dict[str, dict[str, Path]], speaker_of: dict[str, str]) -> str | None:
    """t-SNE of speaker embeddings, with a marker per system, a colour and a label per speaker.

    files: system -> utt_id -> file.
    """
    rows = []
    for place, (system, paths) in enumerate(files.items()):
        for utt_id, speaker in speaker_of.items():
            wave, sample_rate = audio.read_mono(paths[utt_id], dtype="float64")
            embedding = (
                speakers.embedding(wave, sample_rate)
                if np.isfinite(wave).all() and wave.any()
                else None
            )
            if embedding is not None:
                rows.append((place, system, speaker, embedding))
    if len(rows) < 10:  # too few to lie in groups
        return None
    from sklearn.manifold import TSNE

    points = np.stack([row[3] for row in rows])
    points = (points - points.mean(axis=0)) / (points.std(axis=0) + 1e-9)
    flat = TSNE(
        perplexity=min(30.0, (len(points) - 1) / 3), init="pca", random_state=0
    ).fit_transform(points)
    names = sorted(set(speaker_of.values()))

    def paint(axes: Axes) -> None:
        for place, system in enumerate(files):
            for number, speaker in enumerate(names):
                chosen = [i for i, row in enumerate(rows) if row[0] == place and row[2] == speaker]
                x, y = flat[chosen].T
                axes.scatter(
                    x,
                    y,
                    s=14,
                    alpha=0.7,
                    linewidths=0,
                    label=system if not number else None,
                    color=COLOURS[number % len(COLOURS)],
                    marker=_MARKERS[place % len(_MARKERS)],
                )
        for speaker in names:
            cluster = flat[[i for i, row in enumerate(rows) if row[2] == speaker]]
            if len(cluster):
                axes.annotate(speaker, np.median(cluster, axis=0), weight="bold", ha="center")
        axes.set_xticks([])
        axes.set_yticks([])
        for handle in axes.legend().legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_color(INK)

    return draw("speaker embeddings", (6.0, 4.4), paint)
