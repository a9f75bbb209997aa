"""The predictions of a run, measured with intervals that draw whole groups (patients).

The same draws serve all runs of a task, so differences between them are paired. They
are kept beside the predictions, and no second report draws them again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath

from mtpret_jax import types
from mtpret_jax.metrics import intervals
from tfds_builders import whole
from tfds_builders.sources import cells

SPLIT = "test"
_METHOD = 2  # one more whenever the same predictions would give other draws


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run on one task.

    Attributes:
      folder: The folder of the predictions.
      records: The predictions, `record` (position in the split) rising; axis 0 of
        each array is the example.
      groups: The group of each example, [N].
      summary: What the metric's `summarise` made of the records.
      values: The metric's values on all examples.
      draws: The values on every resample, float64 [R].
    """

    folder: epath.Path
    records: dict[str, np.ndarray]
    groups: np.ndarray
    summary: dict[str, np.ndarray]
    values: dict[str, float]
    draws: dict[str, np.ndarray]

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.folder.parent.parent.name

    @property
    def record(self) -> np.ndarray:
        """Position of each example in the split, rising, int [N]."""
        return self.records["record"]

    @property
    def studies(self) -> int:
        """How many studies the examples belong to; 0 where none is known."""
        study = self.records.get("study", np.empty(0, np.int32))
        return len(np.unique(study[study >= 0]))


def predictions(
    folder: epath.Path, run: str, task: str, file: str = f"{SPLIT}.npz"
) -> epath.Path:
    """Where a run of a work folder keeps what it predicted."""
    return folder / "runs" / run / "predictions" / task / file


def measure(
    path: epath.Path, metric: types.Metric, *, resamples: int, seed: int
) -> Measured:
    """Measures predictions on all examples and on every resample; see `draws`.

    Args:
      path: A file as `read_predictions` takes it.
      metric: The metric of the task.
      resamples: Number of draws.
      seed: Seed of the draws; with one seed, the same examples are drawn for every
        path.
    """
    records, groups = read_predictions(path)
    summary = metric.summarise(records)
    drawn = draws(path.parent, metric, summary, groups, resamples=resamples, seed=seed)
    values = metric.compute(summary)
    return Measured(path.parent, records, groups, summary, values, drawn)


def read_predictions(path: epath.Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads predictions, sorted by record, and the group of each example.

    Args:
      path: `<split>.npz`, or `<split>.<what>.npz`, in the folder that `predictions`
        names; `<split>.csv` beside it knows the groups.

    Raises:
      FileNotFoundError: If the file is missing.
      ValueError: If an example has no group.
    """
    advice = (
        f"Run {path.parents[2].name!r} is marked as finished: delete {path.parent} and "
        "the run's run.json, then run the same command again."
    )
    records = whole.read_arrays(path, advice)
    order = np.argsort(records["record"], kind="stable")
    records = {name: array[order] for name, array in records.items()}
    listed = path.with_name(f"{path.name.partition('.')[0]}.csv")
    rows = cells.rows(whole.read(listed, advice).decode())
    known = {int(row["record"]): row["group"] for row in rows}
    missing = [int(r) for r in records["record"] if int(r) not in known]
    if missing:
        raise ValueError(
            f"{listed} has no group for records {missing[:5]} ({len(missing)} in all) "
            f"of {path.name}. {advice}"
        )
    return records, np.array([known[int(r)] for r in records["record"]])


def require_same_examples(this: Measured, other: Measured) -> None:
    """Raises ValueError unless both were measured on the same examples and groups."""
    if not np.array_equal(this.record, other.record) or not np.array_equal(
        this.groups, other.groups
    ):
        raise ValueError(
            f"Run {this.run!r} was measured on {len(this.record)} examples that are "
            f"not the {len(other.record)} that it is compared on. Run both in one work "
            "folder on the same prepared data."
        )


def draws(
    folder: epath.Path,
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Draws of `intervals.draws`, from `<folder>/draws` where they were made before.

    A file's name is the SHA-256 of all that its draws depend on; one that is damaged
    is made again.

    Args:
      folder: The folder of the predictions that `summary` was made of.
      metric: Turns a summary into values.
      summary: What `metric.summarise` made.
      groups: The group of each example, [N].
      resamples: Number of draws.
      seed: The seed of the draws.
    """
    groups = np.asarray(groups, str)
    facts = [_METHOD, repr(metric), resamples, seed]
    for name, array in sorted({**summary, "": groups}.items()):
        facts += [name, array.dtype.str, array.shape, _digest(array.tobytes()).hex()]
    path = folder / "draws" / _digest(json.dumps(facts).encode()).hex()
    content = path.read_bytes() if path.exists() else b""
    digest, content = content[:32], content[32:]
    if content and _digest(content) == digest:
        file = io.BytesIO(content)
        names, values = np.load(file), np.load(file)
        return dict(zip(names.tolist(), values, strict=True))
    drawn = intervals.draws(metric, summary, groups, resamples=resamples, seed=seed)
    if jax.process_index() == 0:
        file = io.BytesIO()
        np.save(file, np.array(list(drawn)))
        np.save(file, np.stack(list(drawn.values())))
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(_digest(file.getvalue()) + file.getvalue())
        new.replace(path)
    return drawn


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
