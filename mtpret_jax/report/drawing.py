"""What all charts share: colours, lines, axes, and the way into the page.

A chart is a `data:` address (SVG). Arms differ in colour, marker and line, for readers
with any colour vision.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import lines, ticker

# Okabe and Ito 2008: told apart by readers with any colour vision.
COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
INK = "#1d2733"
WIDTH = 11.1  # of a chart that fills the page, inches
HALF = 5.45  # of one that shares the width with another
RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # A name may have dollar signs.
    "axes.edgecolor": "#8b95a1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": "#4d5966",
    "ytick.color": "#4d5966",
    "svg.hashsalt": "mtpret_jax",
    "svg.fonttype": "path",
}
Curve = Mapping[str, Sequence[float]]


def style(index: int) -> dict[str, Any]:
    """Colour, marker and line of the arm at this place of the order."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index % len(LINES)],
    }


def label(name: str) -> str:
    """A name for a legend, which would leave out one that begins with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def png(figure: mpl_figure.Figure, *, dpi: int) -> str:
    """The figure as a `data:` address of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/png;base64,{text}"


def empty(width: float, height: float) -> mpl_figure.Figure:
    """An empty figure, inches, that makes room for its labels."""
    return mpl_figure.Figure(figsize=(width, height), layout="constrained")


def svg(figure: mpl_figure.Figure) -> str:
    """The figure as a `data:` address of an SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/svg+xml;base64,{text}"


def line(ax: mpl_axes.Axes, curve: Curve, looks: Mapping[str, Any]) -> None:
    """A curve; markers only where there are few points."""
    few = len(curve["step"]) <= 30
    options = {**looks, "marker": looks["marker"] if few else "", "markersize": 4}
    ax.plot(curve["step"], curve["value"], linewidth=1.6, **options)


def steps(ax: mpl_axes.Axes) -> None:
    """Makes the horizontal axis one of training steps."""
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))


def signed(value: float, _: int | None = None) -> str:
    """Label of a tick on an axis of differences."""
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "−")


def floats(values: Sequence[float | None]) -> np.ndarray:
    """Values as float64, NaN for None."""
    return np.array(values, dtype=object).astype(float)


def legend(
    figure: Any, names: Sequence[str], shown: Sequence[str], *, line: bool = True
) -> None:
    """A key below the chart of the names shown, in the looks of their place."""
    handles = []
    for name in shown:
        looks = style(list(names).index(name))
        looks["linestyle"] = looks["linestyle"] if line else ""
        handles.append(lines.Line2D([], [], label=label(name), **looks))
    if handles:
        columns = min(len(handles), 7)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
