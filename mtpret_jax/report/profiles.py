"""One cell looked at closely: calibration, decisions at a threshold, subgroups."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import types
from mtpret_jax.metrics import calibration as calibrating
from mtpret_jax.metrics import classification, subgroups
from mtpret_jax.report import draws as drawing
from mtpret_jax.report import measured

COLUMNS = ("view", "sex", "age")  # of the set's index


def calibration(
    metric: classification.ClassificationMetric,
    test: measured.Measured,
    validation: epath.Path,
) -> dict[str, dict[str, Any]]:
    """Calibration of each class on test; decisions at the best threshold of validation.

    Where one of two classes excludes the other, the last speaks for both.

    Args:
      metric: The metric of the task.
      test: The cell.
      validation: Its predictions of that split, a file as
        `measured.read_predictions` takes it.
    """
    records, _ = measured.read_predictions(validation)
    fitted = dict(_classes(metric, records))
    found = {}
    for name, (probability, positive, known) in _classes(metric, test.records):
        groups = test.groups[known]
        curve = calibrating.calibration(probability, positive, groups)
        chosen = fitted[name]
        point = calibrating.operating_point(
            probability,
            positive,
            groups,
            threshold=calibrating.youden_threshold(chosen[0], chosen[1]),
        )
        found[name] = dataclasses.asdict(curve) | dataclasses.asdict(point)
    return found


def _classes(
    metric: classification.ClassificationMetric, records: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Each class: probability and truth where known [n], and where that is, [N]."""
    summary = metric.summarise(records)
    for c, name in enumerate(metric.class_names):
        if not metric.one_area or c == 1:
            known = summary["known"][:, c]
            probability = records["probability"][known, c]
            yield name, (probability, summary["positive"][known, c], known)


def levels(
    metric: types.Metric,
    cells: Mapping[str, measured.Measured],
    index: Sequence[Mapping[str, str]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """The primary value of each arm for each level of the columns that are known.

    Args:
      metric: The metric of the task.
      cells: The cell of each arm, all of the same examples.
      index: Rows of the set's index, by record of the test split; none if unknown.
      resamples: Number of draws of an interval.
      seed: The seed of the draws.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for column in COLUMNS if index else ():
        rows: dict[str, dict[str, Any]] = {}
        for arm, cell in cells.items():
            entries = _entries(column, (index[record] for record in cell.record))
            if not (entries != "").any():
                break
            for level in subgroups.table(
                metric,
                cell.summary,
                cell.groups,
                entries,
                resamples=resamples,
                seed=seed,
                draws=functools.partial(drawing.draws, cell.folder),
            ):
                about = {"level": level.name, "images": level.images}
                about |= {"groups": level.groups, "values": {}}
                name = metric.primary
                ends = {"low": level.low[name], "high": level.high[name]}
                value = {"value": level.values[name], **ends}
                rows.setdefault(level.name, about)["values"][arm] = value
        if rows:
            found[column] = list(rows.values())
    return found


def _entries(column: str, rows: Iterable[Mapping[str, str]]) -> np.ndarray:
    """What the index says of each example; ages as bands."""
    entries = np.array([row.get(column, "") for row in rows], str)
    if column != "age":
        return entries
    return subgroups.age_bands([float(entry or "nan") for entry in entries])
