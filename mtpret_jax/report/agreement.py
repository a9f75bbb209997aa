"""Numbers against the truth: a scatter plot, and one of differences."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import ticker

from mtpret_jax.report import drawing

LIMITS = 1.96  # standard deviations between which 95 % of normal differences lie
_MOST = 2000  # points drawn


def chart(name: str, records: Mapping[str, np.ndarray]) -> str:
    """Prediction against truth, and their difference against their mean.

    Args:
      name: What the number is called.
      records: `value` and `truth`, [N].

    Source:
      Bland and Altman 1986, "Statistical methods for assessing agreement".
    """
    value, truth = (np.asarray(records[key], float) for key in ("value", "truth"))
    every = max(1, -(-len(value) // _MOST))
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.HALF, 2.9)
        left, right = figure.subplots(1, 2)
        _scatter(left, truth, value, every)
        _differences(right, truth, value, every)
        left.set_xlabel(f"true {name}")
        left.set_ylabel("predicted")
        right.set_xlabel("mean of both")
        right.set_ylabel("predicted less true")
        for ax in (left, right):
            ax.xaxis.set_major_locator(ticker.MaxNLocator(4))
            ax.yaxis.set_major_locator(ticker.MaxNLocator(6))
        return drawing.svg(figure)


def _scatter(
    ax: mpl_axes.Axes, truth: np.ndarray, value: np.ndarray, every: int
) -> None:
    """Points, and the line on which they should lie."""
    ends = [float(min(truth.min(), value.min())), float(max(truth.max(), value.max()))]
    ax.plot(ends, ends, color=drawing.INK, linewidth=1, linestyle="--")
    _points(ax, truth[::every], value[::every])


def _differences(
    ax: mpl_axes.Axes, truth: np.ndarray, value: np.ndarray, every: int
) -> None:
    """Points, their mean, and the limits of agreement."""
    gap = value - truth
    bias, half = float(gap.mean()), LIMITS * float(gap.std(ddof=min(1, len(gap) - 1)))
    _points(ax, ((value + truth) / 2)[::every], gap[::every])
    for level, line in ((bias, "-"), (bias - half, "--"), (bias + half, "--")):
        ax.axhline(level, color=drawing.COLOURS[2], linewidth=1.2, linestyle=line)
        ax.annotate(
            drawing.signed(level),
            (1, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color=drawing.COLOURS[2],
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        )


def _points(ax: mpl_axes.Axes, x: np.ndarray, y: np.ndarray) -> None:
    ax.plot(x, y, "o", markersize=3.2, alpha=0.55, mew=0, color=drawing.COLOURS[1])
