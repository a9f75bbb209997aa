"""Charts as images inside the page, for readers with any colour vision.

Each function returns a `data:` address (SVG). Arms differ in colour, marker and line.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches, ticker

from mtpret_jax.report import words

# Okabe and Ito 2008: told apart by readers with any colour vision.
COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
INK = "#1d2733"
WIDTH = 11.1  # of a chart that fills the page, inches
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


def forest(
    rows: Sequence[tuple[str, str, float, float, float]],
    *,
    arms: Sequence[str],
    baseline: str,
) -> str:
    """Differences to the baseline with their intervals, one line each.

    Args:
      rows: Task with its metric, arm, difference, low, high; those of one task in a
        row.
      arms: All arms in order, for their colours.
      baseline: Name of the arm at zero.
    """
    with mpl.rc_context(RC):
        figure = empty(WIDTH, 0.9 + 0.34 * len(rows))
        ax = figure.add_subplot()
        ax.axvline(0, color=INK, linewidth=1)
        ax.grid(visible=False, axis="y")
        labels, before = [], None
        for place, (task, arm, difference, low, high) in enumerate(rows):
            looks = style(list(arms).index(arm))
            if before not in (None, task):
                ax.axhline(place - 0.5, color="#c6cdd4", linewidth=0.8)
            labels.append(f"{task}:  {arm}" if task != before else arm)
            before = task
            if math.isfinite(low):
                ax.plot([low, high], [place, place], color=looks["color"], linewidth=2)
            ax.plot([difference], [place], marker=looks["marker"], color=looks["color"])
        ax.set_yticks(range(len(rows)), labels)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        reach = max(
            (abs(x) for row in rows for x in row[2:] if math.isfinite(x)), default=0.1
        )
        ax.set_xlim(-1.12 * max(reach, 0.01), 1.12 * max(reach, 0.01))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(signed))
        ax.set_xlabel(f"←  {baseline} better          difference          better  →")
        return svg(figure)


def learning_curves(
    loss: Mapping[str, Curve],
    validation: Mapping[str, Curve],
    *,
    arms: Sequence[str],
    metric: str,
    chosen: Mapping[str, tuple[int | None, float | None]],
) -> str:
    """Training loss and validation metric by step, one line for each arm.

    Args:
      loss: `step` and `value` by arm.
      validation: The same for the metric by which the step was chosen.
      arms: All arms in order, for their colours.
      metric: Name of that metric.
      chosen: Step and value of the model that was kept, by arm.
    """
    with mpl.rc_context(RC):
        figure = empty(WIDTH, 2.9)
        left, right = figure.subplots(1, 2)
        for ax, curves in ((left, loss), (right, validation)):
            for arm, curve in curves.items():
                looks = style(list(arms).index(arm))
                line(ax, curve, {**looks, "label": label(arm)})
        for arm, (step, value) in chosen.items():
            if step is not None and value is not None and arm in validation:
                colour = style(list(arms).index(arm))["color"]
                ring = {"markersize": 12, "markerfacecolor": "none", "marker": "o"}
                right.plot([step], [value], linestyle="", color=colour, **ring)
        left.set_title("training loss")
        right.set_title(f"validation {metric} (ring: model kept)")
        for ax in (left, right):
            steps(ax)
        handles, labels = right.get_legend_handles_labels()
        if not handles:
            handles, labels = left.get_legend_handles_labels()
        if handles:
            figure.legend(
                handles, labels, loc="outside lower center", ncols=len(labels)
            )
        return svg(figure)


def run_curves(curves: Sequence[tuple[str, Curve]]) -> str:
    """One panel for each named curve of one run, side by side."""
    with mpl.rc_context(RC):
        figure = empty(WIDTH, 2.6)
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, (name, curve) in zip(panels, curves, strict=True):
            line(ax, curve, {"color": COLOURS[1], "marker": "o"})
            ax.set_title(name)
            steps(ax)
        return svg(figure)


def forgetting(matrix: Mapping[str, Any]) -> str:
    """Heat map: the metric of each task (rows) after each segment (columns)."""
    tasks = list(matrix["tasks"])
    segments = matrix["segments"]
    columns = [segment["values"] for segment in segments]
    table = np.array(
        [
            [math.nan if c.get(t) is None else float(c[t]) for c in columns]
            for t in tasks
        ]
    )
    wide = len(columns) > 16
    size = 8 if not wide else 6.5 if len(columns) <= 36 else 0  # of numbers, points
    with mpl.rc_context(RC):
        figure = empty(min(WIDTH, 3.2 + 0.62 * len(columns)), 1.7 + 0.42 * len(tasks))
        ax = figure.add_subplot()
        ax.grid(visible=False)
        ax.set_facecolor("#d9dee3")
        drawn = ax.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        bar = figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.02, aspect=12)
        bar.outline.set_visible(False)
        for column, segment in enumerate(segments):
            if segment["task"] in tasks:
                corner = (column - 0.47, tasks.index(segment["task"]) - 0.47)
                box = patches.Rectangle(
                    corner, 0.94, 0.94, fill=False, edgecolor="#d55e00", linewidth=2
                )
                ax.add_patch(box)
            if column and segment["round"] != segments[column - 1]["round"]:
                ax.axvline(column - 0.5, color="white", linewidth=3)
        for row, column in np.ndindex(*table.shape) if size else ():
            value = table[row, column]
            text = f"{value:.2f}" if math.isfinite(value) else "–"
            text = text.removeprefix("0") if wide else text
            light = math.isfinite(value) and value < 0.55
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=size,
                color="white" if light else "black",
            )
        names = [segment["task"] for segment in segments]
        ax.set_yticks(range(len(tasks)), [_named(t, matrix) for t in tasks])
        ax.set_xticks(range(len(names)), names, rotation=90 if wide else 35)
        if not wide:
            for label in ax.get_xticklabels():
                label.set_horizontalalignment("right")
                label.set_rotation_mode("anchor")
        ax.tick_params(length=0)
        ax.set_xlabel("after training on (outlined: the task just trained)")
        return svg(figure)


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


def _named(task: str, matrix: Mapping[str, Any]) -> str:
    metric = matrix.get("metric", {}).get(task)
    return f"{task} ({words.metric(metric)})" if metric else task
