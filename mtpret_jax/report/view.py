"""What the templates ask of a report: its arms, its cells, its charts and pictures."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax.report import drawing, figures, images, measured, words
from tfds_builders import whole

Part = Mapping[str, Any]
_MOST_ARMS = 7  # in one chart; colours repeat beyond


@dataclasses.dataclass(frozen=True)
class View:
    """A report as the templates see it.

    Attributes:
      workdir: The work folder; pictures are read from its runs.
      report: What `contents.build` made, or its file.
    """

    workdir: epath.Path
    report: Part

    @property
    def arms(self) -> list[str]:
        """Every arm, in the order of tables and colours."""
        return list(self.report["arms"])

    @property
    def charted(self) -> list[str]:
        """The arms that charts show: all, or those of the claims if there are many."""
        if len(self.arms) <= _MOST_ARMS:
            return self.arms
        sides = {c[side] for c in self.report["claims"] for side in ("arm", "baseline")}
        return [arm for arm in self.arms if arm in sides]

    def colour(self, arm: str) -> str:
        """The colour of an arm in charts and tables."""
        return drawing.style(self.arms.index(arm))["color"]

    def cell(self, part: str, task: str, fraction: str, arm: str) -> Part:
        """What a part of the report holds of a cell; empty where nothing."""
        found = (self.report[part] or {}).get(task) or {}
        return (found.get(fraction) or {}).get(arm) or {}

    def costs(
        self, arm: str, fraction: str, tasks: Iterable[str], *, start: bool = False
    ) -> str:
        """Updates and images of an arm on tasks; of its start alone, if asked."""
        found = [self.cell("compute", task, fraction, arm) for task in tasks]
        return words.cost(one.get("start") if start else one for one in found)

    def kept(self, task: str, fraction: str, arm: str) -> str:
        """Which step of each seed was chosen, and its value on validation."""
        told = []
        for cell in self.cells(task, fraction):
            run = self.report["runs"].get(cell["run"], {})
            if cell["arm"] == arm and run.get("best_step") is not None:
                value = words.number(run["best_value"])
                told.append(f"step {run['best_step']}, validation {value}")
        return "; ".join(told) or "the last step"

    def cells(self, task: str, fraction: str) -> list[Part]:
        """The cells of a task with a share of the labels."""
        place = (task, float(fraction))
        cells = self.report["cells"]
        return [cell for cell in cells if (cell["task"], cell["fraction"]) == place]

    def confusion(self) -> Iterator[tuple[str, list[str], Part]]:
        """A title, the classes and the counts of each arm, where one class excludes."""
        for name, found in self.report["confusion"].items():
            task = self.report["tasks"][name]
            for fraction, arms in found.items():
                counts = {arm: row for arm, row in arms.items() if row is not None}
                title = f"{name}, {words.percent(fraction)}, {words.size(task)}"
                if counts:
                    yield title, task["class_names"], counts

    def is_same(self, claim: Part, task: Part) -> bool:
        """Whether both arms of a claim come to the same model for a task."""
        same = task.get("same_as", {})
        one, other = claim["arm"], claim["baseline"]
        return same.get(one, one) == same.get(other, other)

    def difference(self, claim: Part, fraction: str, task: str) -> Part | None:
        """The row of a claim on a task with a share of the labels."""
        place = (task, fraction)
        rows = (r for r in claim["rows"] if (r["task"], r["fraction"]) == place)
        return next(rows, None)

    def claim(self, name: str) -> Part:
        """The claim of that name."""
        return next(one for one in self.report["claims"] if one["name"] == name)

    def efficiency(self) -> str:
        """The chart of values by share of labels; "" without several shares."""
        panels, fractions = [], self.report["fractions"]
        for name, task in self.report["tasks"].items():
            found = self.report["efficiency"].get(name, {})
            points = {arm: found[arm] for arm in self.charted if found.get(arm)}
            if points:
                panels.append((f"{name} ({words.metric(task['primary'])})", points))
        if not panels or len(fractions) < 2:
            return ""
        shares = [float(fraction) for fraction in fractions]
        return figures.efficiency(panels, arms=self.arms, fractions=shares)

    def learning(self) -> Iterator[tuple[str, str]]:
        """A title and the learning curves of each task and share of labels."""
        for (name, task), fraction in itertools.product(
            self.report["tasks"].items(), self.report["fractions"]
        ):
            wanted = ("train/loss", f"validation/{task['primary']}")
            found: dict[str, dict[str, list[Any]]] = {key: {} for key in wanted}
            kept: dict[str, list[tuple[int, float]]] = {}
            for cell in self.cells(name, fraction):
                if cell["arm"] not in self.charted:
                    continue
                curves = self.report["curves"].get(cell["run"], {})
                for key in wanted:
                    if curves.get(key):
                        found[key].setdefault(cell["arm"], []).append(curves[key])
                if model := self._validated(cell["run"], wanted[1]):
                    kept.setdefault(cell["arm"], []).append(model)
            if any(found.values()):
                metric = words.metric(task["primary"])
                yield (
                    f"{name}, {words.percent(fraction)}",
                    figures.learning_curves(
                        *found.values(), arms=self.arms, metric=metric, kept=kept
                    ),
                )

    def _validated(self, run: str, name: str) -> tuple[int, float] | None:
        """Step and validation value of the model that a run kept, where it is known."""
        step = self.report["runs"].get(run, {}).get("best_step")
        curve = self.report["curves"].get(run, {}).get(name, {"step": (), "value": ()})
        values = dict(zip(curve["step"], curve["value"], strict=True))
        value = values.get(step)
        return None if value is None or not words.is_known(value) else (step, value)

    def contrastive(self) -> dict[str, list[tuple[str, Part]]]:
        """The named curves of each run of stage 1 that has any."""
        found = {}
        for name, run in self.report["runs"].items():
            curves = self.report["curves"].get(name, {})
            wanted = (key for key in ("train/loss", "train/accuracy") if key in curves)
            shown = [(key.removeprefix("train/"), curves[key]) for key in wanted]
            if run["stage"] == "contrastive" and shown:
                found[name] = shown
        return found

    def ways(self) -> list[dict[str, Any]]:
        """Each way of stage 2, by share of labels and arm: what its seeds forgot.

        Those that train a single task for another's comparison are left out.
        """
        found: dict[tuple[float, str], dict[str, Part]] = {}
        for name, matrix in self.report["forgetting"].items():
            if matrix["segments"] and not matrix["alone"]:
                place = (float(matrix["fraction"]), matrix["arm"])
                found.setdefault(place, {})[name] = matrix
        ways = []
        for (fraction, arm), by_run in sorted(found.items(), key=lambda x: x[0]):
            matrices = list(by_run.values())
            first, runs = matrices[0], self.report["runs"]
            lost = {
                task: _mean(one["summary"][task]["forgotten"] for one in matrices)
                for task in first["tasks"]
            }
            moved = self.report["transfer"].get(arm, {}).get(first["fraction"], {})
            way = {"arm": arm, "share": words.share(fraction), "matrix": first}
            way |= {"title": f"{arm}, {words.percent(fraction)}", "transfer": moved}
            way |= {"lost": lost, "mean": _mean(lost.values())}
            ways.append(
                way | {"cost": words.cost(runs[name]["compute"] for name in by_run)}
            )
        return ways

    def probed(self) -> dict[str, list[str]]:
        """The tasks whose frozen features were measured, by share of labels."""
        found = {
            fraction: [
                name
                for name in self.report["tasks"]
                if (self.report["frozen"].get(name) or {}).get(fraction)
            ]
            for fraction in self.report["fractions"]
        }
        return {fraction: names for fraction, names in found.items() if names}

    def measured_in(self, levels: Iterable[Part]) -> list[str]:
        """The arms that have a value at any of the levels."""
        found = {arm for row in levels for arm in row["values"]}
        return [arm for arm in self.arms if arm in found]

    def reliability(self) -> Iterator[dict[str, Any]]:
        """Each task and share of labels that has probabilities, with their chart."""
        for name, fraction in itertools.product(
            self.report["tasks"], self.report["fractions"]
        ):
            found = (self.report["calibration"].get(name) or {}).get(fraction) or {}
            arms = [arm for arm in self.charted if found.get(arm)]
            classes = list(dict.fromkeys(c for row in found.values() for c in row))
            if arms and classes:
                grid = [
                    [(f"{arm}: {label}", found[arm].get(label)) for arm in arms]
                    for label in classes
                ]
                yield {
                    "title": f"{name}, {words.percent(fraction)}",
                    "chart": figures.reliability(grid),
                    "task": name,
                    "fraction": fraction,
                    "rows": found,
                    "classes": classes,
                }

    def pictures(self, file: str) -> dict[str, dict[str, dict[str, np.ndarray]]]:
        """Arrays of each task and arm that kept any pictures.

        Args:
          file: "samples", taken by their place, or "worst".
        """
        found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        for name, runs in (self.report["samples"] or {}).items():
            for arm, run in runs.items() if self.report["shown"]["pictures"] else ():
                task = self.report["runs"][run]["task"]  # It may be a variant.
                path = measured.predictions(
                    self.workdir, run, task, f"{self.report['split']}.{file}.npz"
                )
                arrays = whole.read_arrays(path) if path.exists() else {}
                if len(arrays.get("image", ())):
                    found.setdefault(name, {})[arm] = arrays
        return found

    def samples(self, task: str, shown: Part) -> tuple[str, str]:
        """The picture of a task's samples, by arm, and its caption."""
        count = self.report["shown"]["pictures"]
        return images.of_task(self.report["tasks"][task], shown, count)

    def apart(self, task: str, shown: Part) -> list[Part]:
        """Samples that are other images for other arms, as they can be drawn."""
        if self.report["tasks"][task]["kind"] != "classification":
            return [shown]
        return [{arm: arrays} for arm, arrays in shown.items()]

    def attention(self, task: str, shown: Part) -> str:
        """The picture of where each arm looks; "" where none was kept."""
        found = {arm: arrays for arm, arrays in shown.items() if "attention" in arrays}
        names = self.report["tasks"][task]["class_names"]
        count = self.report["shown"]["pictures"]
        return images.attention(found, class_names=names, count=count) if found else ""

    def models(self) -> Iterator[dict[str, str]]:
        """For each task the run that did best on validation, and where it lies.

        Of the first seed with the most labels; words of a command are quoted.
        """
        fraction = max(self.report["fractions"], key=float)
        for name, task in self.report["tasks"].items():
            runs = {
                cell["run"]: self._validated(
                    cell["run"], f"validation/{task['primary']}"
                )
                for cell in self.cells(name, fraction)
                if cell["seed"] == 0 and cell["run"] not in self.report["unfinished"]
            }
            if runs:
                run = max(runs, key=lambda r: (runs[r] or (0, -math.inf))[1])
                workdir = os.fspath(self.workdir)
                yield {
                    "task": name,
                    "run": shlex.quote(run),
                    "workdir": shlex.quote(workdir),
                    "model": shlex.quote(f"{workdir}/runs/{run}"),
                    "dataset": task["dataset"],
                }


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined; None of nothing."""
    known = [value for value in values if value is not None and words.is_known(value)]
    return statistics.fmean(known) if known else None
