"""Which images a run's monitor looks at: read once, kept, the same at every look."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import kinds, stills, subsets
from mtpret_jax.experiment import feed
from mtpret_jax.metrics import probes
from tfds_builders import prepared

_LOG = logging.getLogger(__name__)
_SPLITS = ("train", "validation")
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """Images of one split of a set, with the labels of its tasks as `stills` has them.

    Attributes:
      arrays: `image`, uint8 or uint16 [N, S, S, 1]; `image_statistics`; of each task
        `<task>/label` and `<task>/label_known`, [N, L].
    """

    arrays: Arrays

    def __len__(self) -> int:
        return len(self.arrays["image"])

    def examples(
        self, task: str, feature: np.ndarray, *, exclusive: bool
    ) -> probes.Examples:
        """What a probe learns from, with features [N, D]."""
        label, known = (self.arrays[f"{task}/{n}"] for n in ("label", "label_known"))
        return probes.Examples(feature, label, known, exclusive)

    def score(self, metric: types.Metric, probability: np.ndarray, task: str) -> float:
        """The primary value of probabilities [N, L]; NaN where it has none."""
        label, known = (self.arrays[f"{task}/{n}"] for n in ("label", "label_known"))
        records = {
            "probability": probability,
            "label": label,
            "label_known": known,
            "record": np.arange(len(label), dtype=np.int32),
        }
        return metric.compute(metric.summarise(records))[metric.primary]


@dataclasses.dataclass(frozen=True)
class Images:
    """All that is looked at.

    Attributes:
      validation: By set; all of these tell rank and spread.
      train: By set, of sets with tasks: whom neighbours and probe learn from.
      tasks: The set of each task whose labels are predicted.
    """

    validation: dict[str, Part]
    train: dict[str, Part]
    tasks: dict[str, str]

    @property
    def parts(self) -> list[Part]:
        """Those of validation first."""
        return [*self.validation.values(), *self.train.values()]


def read(reading: feed.Feed) -> Images:
    """Reads what a run's monitor looks at.

    Sets have equally many images, as far as they have them: of a set with tasks evenly
    of the classes of the first, else evenly spaced in its index. What can tell nothing
    is left out and named: a set without validation images, a task with one class.
    """
    shop, row = reading.shop, reading.row
    config = shop.config
    sides = {config.tasks[t].dataset: config.tasks[t].image_size for t in row.tasks}
    (side, *_) = (part.image_size for part in config.batches_of(row).values())
    there = [name for name in config.datasets_of(row) if _has_validation(shop, name)]
    if gone := [name for name in config.datasets_of(row) if name not in there]:
        _LOG.warning("The monitor leaves out sets without validation images: %s.", gone)
    most = max(row.monitor.images // max(len(there), 1), 1)
    validation, train, found = {}, {}, {}
    for name in there:
        tasks = _tasks(reading, name)
        parts = {
            split: _read(reading, name, split, tasks, most, sides.get(name, side))
            for split in (_SPLITS if tasks else ("validation",))
        }
        validation[name] = parts["validation"]
        told = [task for task in tasks if _is_told(reading, task, parts["train"])]
        if told:
            train[name] = parts["train"]
            found |= dict.fromkeys(told, name)
    return Images(validation, train, found)


def _has_validation(shop: feed.workshop.Workshop, name: str) -> bool:
    folder = epath.Path(shop.folders[name])
    chosen = prepared.read_manifest(folder, shop.config.datasets[name].splits)
    return bool(prepared.members(chosen, prepared.read_index(folder)).get("validation"))


def _tasks(reading: feed.Feed, name: str) -> dict[str, schema.TaskConfig]:
    """The monitored tasks of a set that both splits have labels for."""
    config = reading.shop.config
    indices = [reading.shop.open_set(name, split).index for split in _SPLITS]

    def has_labels(task: schema.TaskConfig) -> bool:
        kind = kinds.KINDS[task.kind]
        return all(any(kind.is_usable(row, task) for row in rows) for rows in indices)

    found = {task: config.tasks[task] for task in config.monitored(reading.row)}
    return {
        each: task
        for each, task in found.items()
        if task.dataset == name and has_labels(task)
    }


def _read(
    reading: feed.Feed,
    name: str,
    split: str,
    tasks: dict[str, schema.TaskConfig],
    most: int,
    side: int,
) -> Part:
    """At most so many images of a split."""
    source = reading.shop.open_set(name, split)
    if tasks:
        first, *_ = tasks
        used = reading.subset(first, split, whole=True)
        left = frozenset[str]()
        if split == "train":
            left = reading.shop.excluded(reading.row).get(name, left)
        used = dataclasses.replace(
            used, most=most, excluded=frozenset({*used.excluded, *left})
        )
        records = subsets.usable_records(source, tasks[first], used)
    else:
        records = np.linspace(0, len(source) - 1, min(most, len(source)))
    element = stills.Still(source, tasks, reading.shop.input, image_size=side)
    return Part(stills.read(element, np.rint(records).astype(int)))


def _is_told(reading: feed.Feed, task: str, part: Part) -> bool:
    """Whether a label of the task is true of some voters, and false of others."""
    label, known = (part.arrays[f"{task}/{n}"] > 0 for n in ("label", "label_known"))
    if reading.shop.config.tasks[task].exclusive:
        known = known & known.all(1, keepdims=True) & (label.sum(1, keepdims=True) == 1)
    is_told = bool((known & label).any(0) @ (known & ~label).any(0))
    if not is_told:
        _LOG.warning("The monitor leaves out task '%s': one class only.", task)
    return is_told
