"""The pictures of recipes/check.py's page."""

from __future__ import annotations

from matplotlib.axes import Axes

from checking.rehearsal import ByHeart, RangeTest
from reporting.plots import COLOURS, INK, draw


def batch_by_heart(learnt: ByHeart) -> str:
    """The loss of one batch over the updates, beside what was to be reached."""

    def paint(axes: Axes) -> None:
        axes.plot(learnt.losses, color=COLOURS[0])
        for height, label in ((learnt.of_input, "the noisy input"), (learnt.target, "wanted")):
            axes.axhline(height, color=INK, linewidth=0.8, linestyle=":")
            place = (1.0, height)
            axes.annotate(label, place, xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("update")
        axes.set_ylabel("loss")

    return draw("one batch", (6.0, 3.0), paint)


def learning_rates(tried: RangeTest) -> str:
    """The smoothed loss over the growing learning rate, with the suggestion."""

    def paint(axes: Axes) -> None:
        axes.semilogx(tried.rates, tried.losses, color=COLOURS[0])
        marks = ((tried.suggestion, "suggested"), (tried.lowest_at, "lowest"))
        for rate, label in marks:
            if rate is not None:
                axes.axvline(rate, color=INK, linewidth=0.8, linestyle=":")
                place = (rate, 0.97)
                axes.annotate(
                    label,
                    place,
                    xycoords=("data", "axes fraction"),
                    rotation=90,
                    va="top",
                    ha="right",
                )
        low, high = min(tried.losses), tried.losses[0]
        axes.set_ylim(low - 0.2 * (high - low) - 1e-3, high + (high - low) + 1e-3)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss / that of the input")

    return draw("learning rates", (6.0, 3.0), paint)
