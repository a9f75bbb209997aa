"""The questions of the templates to a report: arms, cells, charts and images."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from etils import epath

from mtpret_jax.metrics import table
from mtpret_jax.report import drawing, figures, images, measured, parts, words
from tfds_builders import whole

_MOST_ARMS = 7  # in one chart; colours repeat beyond


@dataclasses.dataclass(frozen=True)
class Way:
    """A way of stage 2, an arm with a share of the labels, over its seeds.

    Attributes:
      arm: Its arm.
      fraction: The share of the labels.
      matrix: What the first seed measured.
      lost: Mean over seeds of what each task lost, of those that lose shares; None
        where undefined.
      mean: Mean of these; None of none.
      transfer: Backward and forward transfer.
      cost: Updates and images, as text.
    """

    arm: str
    fraction: str
    matrix: parts.Forgetting
    lost: dict[str, float | None]
    mean: float | None
    transfer: dict[str, parts.Transfer]
    cost: str

    @property
    def title(self) -> str:
        """Arm and share of the labels."""
        return f"{self.arm}, {words.percent(self.fraction)}"


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The calibration of a task with a share of the labels: by arm and class."""

    task: str
    fraction: str
    rows: dict[str, dict[str, parts.Decision]]
    classes: list[str]
    chart: str

    @property
    def title(self) -> str:
        """Task and share of the labels."""
        return f"{self.task}, {words.percent(self.fraction)}"


@dataclasses.dataclass(frozen=True)
class View:
    """A report as the templates see it.

    Attributes:
      workdir: The work folder; images are read from its runs.
      report: The report.
    """

    workdir: epath.Path
    report: parts.Report

    @property
    def charted(self) -> list[str]:
        """The arms that charts show: all, or those of the claims if there are many."""
        arms, claims = list(self.report.arms), self.report.claims
        if len(arms) <= _MOST_ARMS:
            return arms
        sides = {side for claim in claims for side in (claim.arm, claim.baseline)}
        return [arm for arm in arms if arm in sides]

    def _places(self) -> Iterator[tuple[str, str]]:
        """Each task with each share of the labels."""
        return itertools.product(self.report.tasks, self.report.fractions)

    def colour(self, arm: str) -> str:
        """The colour of an arm in charts and tables."""
        return drawing.style(list(self.report.arms).index(arm))["color"]

    def values(self, task: str, fraction: str, arm: str) -> parts.Values:
        """The values of a cell; empty where nothing was measured."""
        return self.report.values.get(task, {}).get(fraction, {}).get(arm, {})

    def probe(self, task: str, fraction: str, arm: str, method: str) -> parts.Values:
        """The values of a cell's frozen features; empty where nothing was measured."""
        row = self.report.frozen.get(task, {}).get(fraction, {}).get(arm, {})
        return row.get(method, {})

    def costs(
        self, arm: str, fraction: str, tasks: Iterable[str], *, start: bool = False
    ) -> str:
        """Updates and images of an arm on tasks; of its start alone, if asked."""
        spent = (self.report.compute.get(task, {}).get(fraction, {}) for task in tasks)
        found = [row[arm] for row in spent if arm in row]
        return words.cost([one.start for one in found] if start else found)

    def kept(self, task: str, fraction: str, arm: str) -> str:
        """Which step of each seed was chosen, and its value on validation."""
        told = []
        for cell in self.cells(task, fraction):
            run = self.report.runs.get(cell.run)
            if cell.arm == arm and run and run.best_step is not None:
                value = words.number(run.best_value)
                told.append(f"step {run.best_step}, validation {value}")
        return "; ".join(told) or "the last step"

    def cells(self, task: str, fraction: str) -> list[parts.plan.Cell]:
        """The cells of a task with a share of the labels."""
        place = (task, float(fraction))
        return [c for c in self.report.cells if (c.task, c.fraction) == place]

    def difference(
        self, claim: parts.Claim, fraction: str, task: str
    ) -> parts.Difference | None:
        """The row of a claim on a task with a share of the labels."""
        place = (task, fraction)
        return next((r for r in claim.rows if (r.task, r.fraction) == place), None)

    def claim(self, name: str) -> parts.Claim:
        """The claim of that name."""
        return next(one for one in self.report.claims if one.name == name)

    def efficiency(self) -> str:
        """The chart of values by share of labels; "" without several shares."""
        panels, fractions = [], sorted(self.report.fractions, key=float)
        for name, task in self.report.tasks.items():
            points: dict[str, dict[float, parts.Range]] = {}
            for arm, fraction in itertools.product(self.charted, fractions):
                value = self.values(name, fraction, arm).get(task.primary)
                if value and math.isfinite(value.value):
                    points.setdefault(arm, {})[float(fraction)] = value
            if points:
                measure = words.measure(task.primary, task.unit)
                panels.append((f"{name} ({measure})", points))
        if not panels or len(fractions) < 2:
            return ""
        shares = [float(fraction) for fraction in self.report.fractions]
        return figures.efficiency(panels, arms=list(self.report.arms), fractions=shares)

    def learning(self) -> Iterator[tuple[str, str]]:
        """A title and the learning curves of each task and share of labels."""
        for name, fraction in self._places():
            primary = self.report.tasks[name].primary
            wanted = ("train/loss", f"validation/{primary}")
            found: dict[str, dict[str, list[parts.Curve]]] = {key: {} for key in wanted}
            kept: dict[str, list[tuple[int, float]]] = {}
            for cell in self.cells(name, fraction):
                if cell.arm not in self.charted:
                    continue
                curves = self.report.curves.get(cell.run, {})
                for key in wanted:
                    if key in curves:
                        found[key].setdefault(cell.arm, []).append(curves[key])
                if model := self._validated(cell.run, wanted[1]):
                    kept.setdefault(cell.arm, []).append(model)
            if any(found.values()):
                chart = figures.learning_curves(
                    *found.values(),
                    arms=list(self.report.arms),
                    metric=words.metric(primary),
                    kept=kept,
                )
                yield f"{name}, {words.percent(fraction)}", chart

    def _validated(self, run: str, name: str) -> tuple[int, float] | None:
        """Step and validation value of the model that a run kept, where it is known."""
        curve = self.report.curves.get(run, {}).get(name, parts.Curve([], []))
        values = dict(zip(curve.step, curve.value, strict=True))
        step = self.report.runs[run].best_step if run in self.report.runs else None
        value = math.nan if step is None else values.get(step, math.nan)
        return (step, value) if step is not None and math.isfinite(value) else None

    def contrastive(self) -> dict[str, list[tuple[str, parts.Curve]]]:
        """The named curves of each run of stage 1, which alone has some of these."""
        wanted = ("loss", "accuracy", "embedding_spread")
        return {
            name: [
                (key.replace("_", " "), curves[f"train/{key}"])
                for key in wanted
                if f"train/{key}" in curves
            ]
            for name, curves in self.report.curves.items()
            if any(f"train/{key}" in curves for key in wanted[1:])
        }

    def ways(self) -> list[Way]:
        """Each way of stage 2, by share of labels and arm.

        Those that train a single task for another's comparison are left out.
        """
        found: dict[tuple[float, str], list[str]] = {}
        for name, matrix in self.report.forgetting.items():
            if matrix.segments and not matrix.alone:
                place = (float(matrix.fraction), matrix.arm)
                found.setdefault(place, []).append(name)
        ways = []
        for (_, arm), runs in sorted(found.items(), key=lambda x: x[0]):
            matrices = [self.report.forgetting[run] for run in runs]
            first = matrices[0]
            lost = {
                task: _mean(one.summary[task].forgotten for one in matrices)
                for task in first.tasks
                if table.sign(first.metric.get(task, "")) > 0
            }
            moved = self.report.transfer.get(arm, {}).get(first.fraction, {})
            cost = words.cost(self.report.runs[run].compute for run in runs)
            mean = _mean(lost.values())
            ways.append(Way(arm, first.fraction, first, lost, mean, moved, cost))
        return ways

    def lost(self, ways: Iterable[Way]) -> str:
        """The chart of what each way forgot."""
        return figures.lost({way.title: way.lost for way in ways})

    def probed(self) -> dict[str, list[str]]:
        """The tasks whose frozen features were measured, by share of labels."""
        found: dict[str, list[str]] = {}
        for fraction in self.report.fractions:
            names = [n for n, row in self.report.frozen.items() if row.get(fraction)]
            if names:
                found[fraction] = names
        return found

    def measured_in(self, levels: Iterable[parts.Level]) -> list[str]:
        """The arms that have a value at any of the levels."""
        found = {arm for row in levels for arm in row.values}
        return [arm for arm in self.report.arms if arm in found]

    def reliability(self) -> Iterator[Reliability]:
        """Each task and share of labels that has probabilities, with their chart."""
        for name, fraction in self._places():
            found = self.report.calibration.get(name, {}).get(fraction, {})
            arms = [arm for arm in self.charted if found.get(arm)]
            classes = list(dict.fromkeys(c for row in found.values() for c in row))
            if arms and classes:
                grid = [
                    [(f"{arm}: {label}", found[arm].get(label)) for arm in arms]
                    for label in classes
                ]
                chart = figures.reliability(grid)
                yield Reliability(name, fraction, found, classes, chart)

    def pictures(self, file: str) -> dict[str, dict[str, images.Samples]]:
        """Arrays of each task that can be drawn and arm that kept any images.

        Args:
          file: "samples", taken by their place, or "worst".
        """
        found: dict[str, dict[str, images.Samples]] = {}
        for name, runs in self.report.samples.items():
            is_drawn = images.of_task(self.report.tasks[name]) is not None
            for arm, run in runs.items() if is_drawn and self.report.pictures else ():
                task = self.report.runs[run].task or name  # It may be a variant.
                path = measured.predictions(
                    self.workdir, run, task, f"{self.report.split}.{file}.npz"
                )
                arrays = whole.read_arrays(path) if path.exists() else {}
                if len(arrays.get("image", ())):
                    found.setdefault(name, {})[arm] = arrays
        return found

    def agreement(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each task of numbers, and by arm the chart of its first seed."""
        for name, runs in self.report.samples.items():
            about = self.report.tasks[name]
            drawn = images.of_task(about)
            if drawn is None or drawn.whole is None:
                continue
            charts = {}
            for arm, run in runs.items():
                task = self.report.runs[run].task or name  # It may be a variant.
                path = measured.predictions(self.workdir, run, task)
                charts[arm] = drawn.whole(about.class_names[0], whole.read_arrays(path))
            yield name, charts

    def samples(self, task: str, shown: dict[str, images.Samples]) -> tuple[str, str]:
        """The chart of a task's samples, by arm, and its caption."""
        about = self.report.tasks[task]
        drawn = images.of_task(about)
        if drawn is None:
            return "", ""
        return drawn.chart(about, shown, self.report.pictures), drawn.caption

    def apart(
        self, task: str, shown: dict[str, images.Samples]
    ) -> list[dict[str, images.Samples]]:
        """Samples that are other images for other arms, as they can be drawn."""
        drawn = images.of_task(self.report.tasks[task])
        if drawn is not None and drawn.shares_images:
            return [{arm: arrays} for arm, arrays in shown.items()]
        return [shown]

    def attention(self, task: str, shown: dict[str, images.Samples]) -> str:
        """The chart of where each arm looks; "" where none was kept."""
        found = {arm: arrays for arm, arrays in shown.items() if "attention" in arrays}
        if not found:
            return ""
        names, count = self.report.tasks[task].class_names, self.report.pictures
        return images.attention(found, class_names=names, count=count)

    def models(self) -> Iterator[dict[str, str]]:
        """For each task the run that did best on validation, and where it lies.

        Of the first seed with the most labels; words of a command are quoted.
        """
        fraction = max(self.report.fractions, key=float)
        for name, task in self.report.tasks.items():
            runs = {
                cell.run: self._validated(cell.run, f"validation/{task.primary}")
                for cell in self.cells(name, fraction)
                if cell.seed == 0 and cell.run not in self.report.unfinished
            }
            if runs:
                run = _best(task.primary, runs)
                workdir = os.fspath(self.workdir)
                yield {
                    "task": name,
                    "run": shlex.quote(run),
                    "workdir": shlex.quote(workdir),
                    "model": shlex.quote(f"{workdir}/runs/{run}"),
                }


def _best(primary: str, runs: Mapping[str, tuple[int, float] | None]) -> str:
    """The run with the best of its values, by run; the first where none has one."""
    sign = table.sign(primary)
    return max(runs, key=lambda r: sign * (runs[r] or (0, -sign * math.inf))[1])


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined; None of nothing."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return statistics.fmean(known) if known else None
