"""The charts of a report, in the style of `drawing`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import patches, ticker

from mtpret_jax.metrics import comparison
from mtpret_jax.report import drawing, words

_COLUMNS = 3  # panels in a row
_GREY = "#6b7783"
# Of each verdict: a mark in text, the same in a chart, its colour.
MARKS = {
    comparison.BETTER: ("▲", "^", "#0072b2"),
    comparison.WORSE: ("▼", "v", "#d55e00"),
    comparison.UNDECIDED: ("○", "o", _GREY),
}
Row = Mapping[str, Any]
Point = Mapping[str, float | None]
# Title and points by arm.
Panel = tuple[str, Mapping[str, Sequence[Point]]]


def mark(verdict: str) -> str:
    """The verdict's mark in text; a dash for one that is not known."""
    return MARKS.get(verdict, ("–",))[0]


def reach(rows: Sequence[Row]) -> float:
    """The largest number that a forest plot of these differences must show."""
    ends = ("difference", "low", "high", "low_retrained", "high_retrained")
    found = [abs(row[end]) for row in rows for end in ends if words.is_known(row[end])]
    return max([0.01, *found])


def forest(rows: Sequence[Row], *, arm: str, baseline: str, limit: float) -> str:
    """Differences of two arms with both intervals, a line for each task.

    Thick: test images resampled. Thin, with ends: training again, too.

    Args:
      rows: `task`, `metric`, `difference`, `low`, `high`, `low_retrained`,
        `high_retrained`, `verdict` of each; unknown numbers are NaN or None.
      arm: The first arm.
      baseline: The arm at zero.
      limit: End of the axis, so that charts can be compared; see `reach`.
    """
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.HALF, 0.85 + 0.36 * len(rows))
        ax = figure.add_subplot()
        ax.axvline(0, color=drawing.INK, linewidth=1)
        ax.grid(visible=False, axis="y")
        found = []
        for place, row in enumerate(rows):
            sign, marker, colour = MARKS.get(row["verdict"], ("", "o", _GREY))
            ends = [row["low_retrained"], row["high_retrained"]]
            if words.is_known(*ends):
                ax.plot(ends, [place] * 2, color=colour, linewidth=1, marker="|")
            ends = [row["low"], row["high"]]
            if words.is_known(*ends):
                ax.plot(ends, [place] * 2, color=colour, linewidth=3.2, alpha=0.75)
            if words.is_known(row["difference"]):
                fill = "white" if marker == "o" else colour
                point = ([row["difference"]], [place])
                looks = {"color": colour, "markerfacecolor": fill, "markersize": 7}
                ax.plot(*point, marker=marker, **looks)
            found.append(f"{sign} {words.signed(row['difference'])}".strip())
        names = [f"{row['task']} ({words.metric(row['metric'])})" for row in rows]
        ax.set_yticks(range(len(rows)), names)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        right = ax.twinx()
        right.set_yticks(range(len(rows)), found)
        right.set_ylim(len(rows) - 0.5, -0.5)
        right.grid(visible=False)
        for axis in (ax, right):
            axis.tick_params(axis="y", length=0)
        ax.set_xlim(-1.06 * limit, 1.06 * limit)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(5))
        ax.xaxis.set_major_formatter(ticker.FuncFormatter(drawing.signed))
        ax.set_xlabel(f"←  {baseline} better      {arm} better  →")
        return drawing.svg(figure)


def efficiency(
    panels: Sequence[Panel], *, arms: Sequence[str], fractions: Sequence[float]
) -> str:
    """Values by share of labels, one panel for each task, with intervals.

    Args:
      panels: Points have `fraction`, `value`, `low`, `high`.
      arms: All arms in order, for their looks.
      fractions: Shares of the labels, (0, 1].
    """
    with mpl.rc_context(drawing.RC):
        deep = math.ceil(len(panels) / _COLUMNS)
        figure = drawing.empty(drawing.WIDTH, 0.5 + 2.35 * deep)
        grid = figure.subplots(deep, _COLUMNS, squeeze=False)
        for ax in grid.flat[len(panels) :]:
            ax.set_visible(False)
        shown = {arm for _, points in panels for arm in points}
        shown = [arm for arm in arms if arm in shown]
        for ax, (title, points) in zip(grid.flat, panels, strict=False):
            for place, arm in enumerate(shown):
                aside = 1 + 0.05 * (place - (len(shown) - 1) / 2)  # not on one another
                looks = drawing.style(list(arms).index(arm))
                _points(ax, points.get(arm, ()), aside, looks)
            ax.set_title(title)
            ax.set_xscale("log")
            ax.set_xticks(list(fractions), [f"{100 * x:g} %" for x in fractions])
            ax.xaxis.set_minor_locator(ticker.NullLocator())
            ax.set_xlim(min(fractions) / 1.4, max(fractions) * 1.4)
            ax.set_xlabel("of the labels")
        drawing.legend(figure, arms, shown)
        return drawing.svg(figure)


def learning_curves(
    loss: Mapping[str, Sequence[drawing.Curve]],
    validation: Mapping[str, Sequence[drawing.Curve]],
    *,
    arms: Sequence[str],
    metric: str,
    kept: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Training loss and validation metric: seeds thin, their mean thick.

    Args:
      loss: `step` and `value` of each seed, by arm.
      validation: `step` and value of the metric of each seed, by arm.
      arms: All arms in order, for their looks.
      metric: Name of the metric.
      kept: Step and validation value of the model of each seed, by arm.
    """
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.WIDTH, 2.7)
        panels = figure.subplots(1, 2)
        for ax, curves in zip(panels, (loss, validation), strict=True):
            for arm, seeds in curves.items():
                looks = drawing.style(list(arms).index(arm))
                for curve in seeds if len(seeds) > 1 else ():
                    thin = {"color": looks["color"], "linewidth": 0.7, "alpha": 0.45}
                    ax.plot(curve["step"], drawing.floats(curve["value"]), **thin)
                drawing.line(ax, _mean(seeds), looks)
            drawing.steps(ax)
        for arm, models in kept.items():
            ring: dict[str, Any] = {"markerfacecolor": "none", "linestyle": ""}
            ring["color"] = drawing.style(list(arms).index(arm))["color"]
            panels[1].plot(*zip(*models, strict=True), marker="o", ms=12, **ring)
        panels[0].set_title("training loss")
        panels[1].set_title(f"validation {metric} (ring: model kept)")
        drawing.legend(
            figure, arms, [arm for arm in arms if arm in {**loss, **validation}]
        )
        return drawing.svg(figure)


def reliability(rows: Sequence[Sequence[tuple[str, Mapping[str, Any] | None]]]) -> str:
    """Observed frequency against probability, a grid of panels.

    Args:
      rows: Title of each panel and its `confidence` and `observed` (of each bin
        `value`, `low`, `high`); None for what was not measured.
    """
    wide = max(len(row) for row in rows)
    with mpl.rc_context(drawing.RC):
        side = min(2.2, drawing.WIDTH / wide)
        figure = drawing.empty(side * max(wide, 2), (side + 0.3) * len(rows))
        grid = figure.subplots(len(rows), wide, squeeze=False, sharex=True, sharey=True)
        for axes, row in zip(grid, rows, strict=True):
            for ax, (title, found) in zip(axes, row, strict=True):
                ax.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
                if found is not None:
                    _bins(ax, found)
                ax.set_title(title, fontsize=8.5)
                ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
                ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
                ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes[0].set_ylabel("observed")
        for ax in grid[-1]:
            ax.set_xlabel("probability")
        return drawing.svg(figure)


def lost(ways: Sequence[Mapping[str, Any]]) -> str:
    """What each way of pre-training forgot of each task, a line for each way.

    Args:
      ways: The `title` of each, and what it `lost`: best value less the last, by task.
    """
    tasks = list(dict.fromkeys(task for way in ways for task in way["lost"]))
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.WIDTH, 1.1 + 0.4 * len(ways))
        ax = figure.add_subplot()
        ax.axvline(0, color=drawing.INK, linewidth=1)
        for place, row in enumerate(way["lost"] for way in ways):
            for task, value in row.items():
                looks = {**drawing.style(tasks.index(task)), "linestyle": ""}
                ax.plot([value], [place], markersize=6.5, alpha=0.85, **looks)
            mean = float(np.mean([v for v in row.values() if words.is_known(v)] or 0))
            ax.plot([mean] * 2, [place - 0.32, place + 0.32], color="black")
        ax.set_yticks(range(len(ways)), [way["title"] for way in ways])
        ax.set_ylim(len(ways) - 0.5, -0.5)
        ax.set_xlabel("lost: best value less the last (bar: mean of the tasks)")
        drawing.legend(figure, tasks, tasks, line=False)
        return drawing.svg(figure)


def run_curves(curves: Sequence[tuple[str, drawing.Curve]]) -> str:
    """One panel for each named curve of one run, side by side."""
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.WIDTH, 2.6)
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, (name, curve) in zip(panels, curves, strict=True):
            drawing.line(ax, curve, {"color": drawing.COLOURS[1], "marker": "o"})
            ax.set_title(name)
            drawing.steps(ax)
        return drawing.svg(figure)


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
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(
            min(drawing.WIDTH, 3.2 + 0.62 * len(columns)), 1.7 + 0.42 * len(tasks)
        )
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
        return drawing.svg(figure)


def _points(
    ax: mpl_axes.Axes, points: Sequence[Point], aside: float, looks: Mapping[str, Any]
) -> None:
    """A line through values with their intervals."""
    known = sorted(
        (p for p in points if words.is_known(p["value"])),
        key=lambda p: float(p["fraction"] or 0),
    )
    x = drawing.floats([p["fraction"] for p in known]) * aside
    value = drawing.floats([p["value"] for p in known])
    low, high = (drawing.floats([p[end] for p in known]) for end in ("low", "high"))
    ax.plot(x, value, linewidth=1.5, markersize=5, **looks)
    ax.vlines(x, low, high, color=looks["color"], linewidth=1, alpha=0.8)


def _bins(ax: mpl_axes.Axes, found: Mapping[str, Any]) -> None:
    """Points of a reliability plot with their intervals."""
    x, seen = drawing.floats(found["confidence"]), found["observed"]
    value, low, high = (
        drawing.floats([one[key] for one in seen]) for key in ("value", "low", "high")
    )
    ax.vlines(x, low, high, color=drawing.COLOURS[1], linewidth=1.2)
    ax.plot(x, value, marker="o", markersize=4, color=drawing.COLOURS[1], linewidth=1)


def _mean(curves: Sequence[drawing.Curve]) -> drawing.Curve:
    """Mean over seeds at the steps that all of them have."""
    values = [
        dict(zip(c["step"], drawing.floats(c["value"]), strict=True)) for c in curves
    ]
    steps = [step for step in curves[0]["step"] if all(step in v for v in values)]
    mean = [float(np.mean([v[step] for v in values])) for step in steps]
    return {"step": steps, "value": mean}


def _named(task: str, matrix: Mapping[str, Any]) -> str:
    metric = matrix.get("metric", {}).get(task)
    return f"{task} ({words.metric(metric)})" if metric else task
