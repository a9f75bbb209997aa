"""The charts of a report, in the style of `drawing`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import patches, ticker

from mtpret_jax.metrics import calibration, comparison
from mtpret_jax.metrics import table as metrics
from mtpret_jax.report import drawing, parts, words

_COLUMNS = 3  # panels in a row
_GREY = "#6b7783"
# Of each verdict: a mark in text, the same in a chart, its colour.
MARKS = {
    comparison.BETTER: ("▲", "^", "#0072b2"),
    comparison.WORSE: ("▼", "v", "#d55e00"),
    comparison.UNDECIDED: ("○", "o", _GREY),
}
# Title, and by arm and share of the labels a value.
Panel = tuple[str, Mapping[str, Mapping[float, parts.Range]]]


def mark(verdict: str) -> str:
    """The verdict's mark in text; a dash for one that is not known."""
    return MARKS.get(verdict, ("–",))[0]


def by_axis(
    rows: Sequence[parts.Difference], tasks: Mapping[str, parts.Task]
) -> dict[str, list[parts.Difference]]:
    """Differences that one axis can show: shares under "", errors by name and unit."""
    found: dict[str, list[parts.Difference]] = {}
    for row in rows:
        name = words.measure(row.metric, tasks[row.task].unit)
        axis = name if metrics.sign(row.metric) < 0 else ""
        found.setdefault(axis, []).append(row)
    return found


def reach(rows: Sequence[parts.Difference]) -> float:
    """The largest number that a forest plot of these differences must show."""
    ends = ("difference", "low", "high", "low_retrained", "high_retrained")
    found = [abs(getattr(row, end)) for row in rows for end in ends]
    return max([0.01, *(length for length in found if words.is_known(length))])


def forest(
    rows: Sequence[parts.Difference], *, arm: str, baseline: str, limit: float
) -> str:
    """Differences of two arms with both intervals, a line for each task.

    Thick: test images resampled. Thin, with ends: training again, too.

    Args:
      rows: The differences; unknown numbers are NaN.
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
            sign, marker, colour = MARKS.get(row.verdict, ("", "o", _GREY))
            ends = [row.low_retrained, row.high_retrained]
            if words.is_known(*ends):
                ax.plot(ends, [place] * 2, color=colour, linewidth=1, marker="|")
            ends = [row.low, row.high]
            if words.is_known(*ends):
                ax.plot(ends, [place] * 2, color=colour, linewidth=3.2, alpha=0.75)
            if words.is_known(row.difference):
                fill = "white" if marker == "o" else colour
                looks: drawing.Looks = {"color": colour, "marker": marker}
                ax.plot([row.difference], [place], mfc=fill, ms=7, **looks)
            found.append(f"{sign} {words.signed(row.difference)}".strip())
        names = [f"{row.task} ({words.metric(row.metric)})" for row in rows]
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
      panels: One for each task.
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
                _points(ax, points.get(arm, {}), aside, looks)
            ax.set_title(title)
            ax.set_xscale("log")
            ax.set_xticks(list(fractions), [f"{100 * x:g} %" for x in fractions])
            ax.xaxis.set_minor_locator(ticker.NullLocator())
            ax.set_xlim(min(fractions) / 1.4, max(fractions) * 1.4)
            ax.set_xlabel("of the labels")
        drawing.legend(figure, arms, shown)
        return drawing.svg(figure)


def learning_curves(
    loss: Mapping[str, Sequence[parts.Curve]],
    validation: Mapping[str, Sequence[parts.Curve]],
    *,
    arms: Sequence[str],
    metric: str,
    kept: Mapping[str, Sequence[tuple[int, float]]],
) -> str:
    """Training loss and validation metric: seeds thin, their mean thick.

    Args:
      loss: The curve of each seed, by arm.
      validation: That of the metric.
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
                    thin: drawing.Looks = {"color": looks["color"]}
                    ax.plot(curve.step, curve.value, lw=0.7, alpha=0.45, **thin)
                drawing.line(ax, _mean(seeds), looks)
            drawing.steps(ax)
        for arm, models in kept.items():
            ring = {**drawing.style(list(arms).index(arm)), "linestyle": ""}
            ring["marker"] = "o"
            panels[1].plot(*zip(*models, strict=True), ms=12, mfc="none", **ring)
        panels[0].set_title("training loss")
        panels[1].set_title(f"validation {metric} (ring: model kept)")
        drawing.legend(
            figure, arms, [arm for arm in arms if arm in {**loss, **validation}]
        )
        return drawing.svg(figure)


def reliability(
    rows: Sequence[Sequence[tuple[str, calibration.Calibration | None]]],
) -> str:
    """Observed frequency against probability, a grid of panels.

    Args:
      rows: Title of each panel and what it shows; None for what was not measured.
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


def lost(ways: Mapping[str, Mapping[str, float | None]]) -> str:
    """What each way of pre-training forgot of each task, a line for each way.

    Args:
      ways: What each lost, best value less the last by task; by title.
    """
    tasks = list(dict.fromkeys(task for row in ways.values() for task in row))
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.WIDTH, 1.1 + 0.4 * len(ways))
        ax = figure.add_subplot()
        ax.axvline(0, color=drawing.INK, linewidth=1)
        for place, (_, row) in enumerate(ways.items()):
            known = {task: v for task, v in row.items() if v is not None}
            for task, value in known.items():
                looks = drawing.style(tasks.index(task))
                looks["linestyle"] = ""
                ax.plot([value], [place], markersize=6.5, alpha=0.85, **looks)
            mean = float(np.mean(list(known.values()) or 0))
            ax.plot([mean] * 2, [place - 0.32, place + 0.32], color="black")
        ax.set_yticks(range(len(ways)), list(ways))
        ax.set_ylim(len(ways) - 0.5, -0.5)
        ax.set_xlabel("lost: best value less the last (bar: mean of the tasks)")
        drawing.legend(figure, tasks, tasks, line=False)
        return drawing.svg(figure)


def run_curves(curves: Sequence[tuple[str, parts.Curve]]) -> str:
    """One panel for each named curve of one run, side by side."""
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(drawing.WIDTH, 2.6)
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for ax, (name, curve) in zip(panels, curves, strict=True):
            drawing.line(ax, curve, {"color": drawing.COLOURS[1], "marker": "o"})
            ax.set_title(name)
            drawing.steps(ax)
        return drawing.svg(figure)


def forgetting(matrix: parts.Matrix) -> str:
    """Heat map: the metric of each task (rows) after each segment (columns).

    An error is as bright as the least of its row is small beside it.
    """
    tasks, segments = matrix.tasks, matrix.segments
    table = np.array([[s.values.get(t, math.nan) for s in segments] for t in tasks])
    names = [matrix.metric.get(task, "") for task in tasks]
    shades = np.stack([_shades(*pair) for pair in zip(table, names, strict=True)])
    wide = len(segments) > 16
    size = 8 if not wide else 6.5 if len(segments) <= 36 else 0  # of numbers, points
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(
            min(drawing.WIDTH, 3.2 + 0.62 * len(segments)), 1.7 + 0.42 * len(tasks)
        )
        ax = figure.add_subplot()
        ax.grid(visible=False)
        ax.set_facecolor("#d9dee3")
        drawn = ax.imshow(shades, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        bar = figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.02, aspect=12)
        bar.outline.set_visible(False)
        for column, segment in enumerate(segments):
            if segment.task in tasks:
                corner = (column - 0.47, tasks.index(segment.task) - 0.47)
                box = patches.Rectangle(
                    corner, 0.94, 0.94, fill=False, edgecolor="#d55e00", linewidth=2
                )
                ax.add_patch(box)
            if column and segment.round != segments[column - 1].round:
                ax.axvline(column - 0.5, color="white", linewidth=3)
        for row, column in np.ndindex(*table.shape) if size else ():
            value = table[row, column]
            text = f"{value:.2f}" if math.isfinite(value) else "–"
            text = text.removeprefix("0") if wide else text
            light = math.isfinite(value) and shades[row, column] < 0.55
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=size,
                color="white" if light else "black",
            )
        names = [segment.task for segment in segments]
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
    ax: mpl_axes.Axes,
    points: Mapping[float, parts.Range],
    aside: float,
    looks: drawing.Looks,
) -> None:
    """A line through values with their intervals."""
    x, found = np.array(list(points), float) * aside, points.values()
    ax.plot(x, [p.value for p in found], linewidth=1.5, markersize=5, **looks)
    low, high = [p.low for p in found], [p.high for p in found]
    ax.vlines(x, low, high, color=looks["color"], linewidth=1, alpha=0.8)


def _bins(ax: mpl_axes.Axes, found: calibration.Calibration) -> None:
    """Points of a reliability plot with their intervals."""
    x, seen, colour = found.confidence, found.observed, drawing.COLOURS[1]
    ax.vlines(x, [s.low for s in seen], [s.high for s in seen], color=colour, lw=1.2)
    value = [s.value for s in seen]
    ax.plot(x, value, marker="o", markersize=4, color=colour, linewidth=1)


def _mean(curves: Sequence[parts.Curve]) -> parts.Curve:
    """Mean over seeds at the steps that all of them have."""
    values = [dict(zip(c.step, c.value, strict=True)) for c in curves]
    steps = [step for step in curves[0].step if all(step in v for v in values)]
    return parts.Curve(
        steps, [float(np.mean([v[step] for v in values])) for step in steps]
    )


def _shades(values: np.ndarray, primary: str) -> np.ndarray:
    """From 0, dark, to 1, of a row of a heat map, [N]; NaN where not measured."""
    known = values[np.isfinite(values)]
    if metrics.sign(primary) > 0 or not known.size:
        return values
    # Beside a least of about 0 all others would be equally dark.
    least = max(known.min(), known.mean() / 4) or 1.0
    return least / (values + least - known.min())


def _named(task: str, matrix: parts.Matrix) -> str:
    metric = matrix.metric.get(task)
    return f"{task} ({words.metric(metric)})" if metric else task
