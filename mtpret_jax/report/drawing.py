"""What all charts share: colours, lines, axes, and the way into the page.

A chart is a `data:` address (SVG). Arms differ in colour, marker and line, for readers
with any colour vision.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Required, TypedDict

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import lines, ticker

from mtpret_jax.report import parts

# Okabe and Ito 2008: told apart by readers with any colour vision.
COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
INK = "#1d2733"
WIDTH = 11.1  # of a chart that fills the page, inches
HALF = 5.45  # of one that shares the width with another
RC: Any = {
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


class Looks(TypedDict, total=False):
    """Options of Matplotlib by which arms and answers are told apart."""

    color: Required[str]
    marker: str
    linestyle: Any  # its type in Matplotlib is a long union
    edgecolor: str
    hatch: str


def style(index: int) -> Looks:
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
    return _address(figure, "png", "image/png", {"Software": None}, dpi=dpi)


def svg(figure: mpl_figure.Figure) -> str:
    """The figure as a `data:` address of an SVG."""
    return _address(figure, "svg", "image/svg+xml", {"Date": None, "Creator": None})


def _address(
    figure: mpl_figure.Figure,
    form: str,
    kind: str,
    metadata: dict[str, None],
    dpi: float | str = "figure",
) -> str:
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=dpi, metadata=metadata)
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def empty(width: float, height: float) -> mpl_figure.Figure:
    """An empty figure, inches, that makes room for its labels."""
    return mpl_figure.Figure(figsize=(width, height), layout="constrained")


def line(ax: mpl_axes.Axes, curve: parts.Curve, looks: Looks) -> None:
    """A curve; markers only where there are few points."""
    if len(curve.step) > 30:
        looks = {**looks, "marker": ""}
    ax.plot(curve.step, curve.value, linewidth=1.6, markersize=4, **looks)


def steps(ax: mpl_axes.Axes) -> None:
    """Makes the horizontal axis one of training steps."""
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))


def signed(value: float, _: int | None = None) -> str:
    """Label of a tick on an axis of differences."""
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "−")


def legend(
    figure: mpl_figure.Figure,
    names: Sequence[str],
    shown: Sequence[str],
    *,
    line: bool = True,
) -> None:
    """A key below the chart of the names shown, in the looks of their place."""
    handles = []
    for name in shown:
        looks = style(list(names).index(name))
        if not line:
            looks["linestyle"] = ""
        handles.append(lines.Line2D([], [], label=label(name), **looks))
    if handles:
        columns = min(len(handles), 7)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
