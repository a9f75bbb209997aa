"""What a model is: its network, tasks, classes, input and origin, as one value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax.config import parser, pixel_rules, rules
from mtpret_jax.metrics import regression
from tfds_builders import prepared_types
from tfds_builders.images import polarity

NO_HEAD = "backbone"  # the kind of a model that has no head


@dataclasses.dataclass(frozen=True)
class Prepared:
    """How the images of a set were stored.

    Attributes:
      longest_side: Side to which longer images were shrunk, pixels; 0: none was.
      bit_depth: Bits of a stored pixel, 8 or 16.
      pixel_mean: Mean of the set's intensities in [0, 1]; None: not known.
      pixel_std: Deviation of the set's intensities; None: not known.
      checks_polarity: Whether what looks inverted is told; not of views for which
        `polarity` is not made, as too many of training's images looked so.
    """

    longest_side: int
    bit_depth: int
    pixel_mean: Any = None
    pixel_std: Any = None
    checks_polarity: bool = True

    @classmethod
    def of(cls, made: prepared_types.Preparation) -> Prepared:
        """Reads it from what `preparation.json` of a set holds."""
        options: Any = made.get("options", {})
        return cls(
            longest_side=options.get("image_size", 0),
            bit_depth=options.get("bit_depth", 8),
            pixel_mean=made.get("pixel_mean"),
            pixel_std=made.get("pixel_std"),
            checks_polarity=polarity.is_trusted(
                made.get("polarity_warnings", 0), sum(made.get("splits", {}).values())
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Threshold:
    """From which probability on `operating_points.fit` says yes."""

    threshold: float
    sensitivity: Any = None
    specificity: Any = None


@dataclasses.dataclass(frozen=True)
class _Decisions:
    """What `operating_points.fit` gives."""

    thresholds: Mapping[str, _Threshold]
    temperature: float = 1.0
    temperatures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    images: Any = None
    lacking: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """All that is needed to build, feed and understand a model, but its weights.

    Attributes:
      network: Options of the backbone, `compute_dtype` settled.
      normalisation: Whose mean and deviation images are brought to; see `config`.
      resample: How an image becomes smaller; see `config.InputConfig`.
      fixed: The numbers of a normalisation that is fixed.
      tasks: Options of each task that was learnt.
      prepared: How the images of each task's set were stored; of a run without tasks
        under "", for all its sets together.
      reader: Version of what read the images.
      image_size: Side of the square input of each task, pixels.
      fit: How an image lies in the square; see `transforms.fit`.
      class_names: Classes of each task with a head; of masks the background first.
      scales: What the numbers of each task that learnt some are worth.
      decisions: Thresholds and temperatures of each task, by `operating_points.fit`.
      run: Name of the run.
      stage: Stage of the run.
      parent: What the run started from: a name, a table of a file, or None.
      pools: Sets that the run's lineage was pre-trained on; None: not known.
      steps: Optimiser steps of the run.
      mtpret_jax: Version that trained it.
    """

    network: schema.BackboneConfig
    normalisation: str
    tasks: Mapping[str, schema.TaskConfig]
    prepared: Mapping[str, Prepared]
    reader: str = "1"
    image_size: Mapping[str, int]
    fit: str
    resample: str = "area"
    fixed: schema.FixedConfig = schema.FixedConfig()
    class_names: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, regression.Scale] = dataclasses.field(default_factory=dict)
    decisions: Mapping[str, Any]
    run: Any = None
    stage: Any = None
    parent: Any = None
    pools: Any = None
    steps: Any = None
    mtpret_jax: str

    def kind(self, task: str) -> str:
        """The kind of a task; `NO_HEAD` for ""."""
        return self.tasks[task].kind if task else NO_HEAD

    def side(self, task: str) -> int:
        """Of the square input of a task, pixels; for "" the largest."""
        return self.image_size[task] if task else max(self.image_size.values())

    def prepared_for(self, task: str) -> Prepared:
        """How images were stored that a task, or any for "", was trained with."""
        return self.prepared.get(task) or next(iter(self.prepared.values()))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `backbone.json` and an export's `config.json` hold them."""
        shared = _architecture(self.network, self.normalisation, self.fixed)
        return shared | schema.as_dict(self)


_CHOICES = dict(schema.CHOICES) | {
    (Description, name): schema.CHOICES[schema.InputConfig, name]
    for name in ("normalisation", "fit", "resample")
}


def architecture(config: schema.ExperimentConfig) -> dict[str, Any]:
    """What a run must share with the description of a backbone it starts from."""
    row = config.input
    return _architecture(config.backbone, row.normalisation, row.fixed)


def _architecture(
    network: schema.BackboneConfig, normalisation: str, fixed: schema.FixedConfig
) -> dict[str, Any]:
    shared = {
        "backbone": network.name,
        "family": network.family,
        "width": network.width,
        "in_channels": network.in_channels,
        "normalisation": normalisation,
    }
    # Descriptions of before there was one do not have it.
    return shared | ({"fixed": schema.as_dict(fixed)} if fixed.mean else {})


def make(
    config: schema.ExperimentConfig,
    run: str,
    sets: Mapping[str, prepared_types.Preparation],
    *,
    class_names: Mapping[str, Sequence[str]],
    scales: Mapping[str, regression.Scale] | None = None,
    decisions: Mapping[str, Any],
    parent: Any,
    pools: Any,
    steps: int,
) -> Description:
    """Describes what a run has learnt; see `Description`.

    Args:
      config: The whole config.
      run: A row of `config.runs`.
      sets: `preparation.json` of every set that the run read.
      class_names: Classes of each task, in order.
      scales: Those of the tasks that learn numbers.
      decisions: What `operating_points.fit` gave, by task.
      parent: What the run started from.
      pools: What the run's lineage was pre-trained on.
      steps: Optimiser steps done.
    """
    row = config.runs[run]
    prepared = {
        name: Prepared.of(sets[config.tasks[name].dataset]) for name in row.tasks
    }
    sizes = {name: config.tasks[name].image_size for name in row.tasks}
    if not row.tasks:
        prepared[""] = _pool([sets[name] for name in row.contrastive.datasets])
        sizes[row.stage] = row.contrastive.image_size
    return Description(
        network=dataclasses.replace(
            config.backbone, compute_dtype=config.backbone.dtype
        ),
        normalisation=config.input.normalisation,
        fixed=config.input.fixed,
        tasks={name: config.tasks[name] for name in row.tasks},
        prepared=prepared,
        reader=", ".join(sorted({made.get("reader", "1") for made in sets.values()})),
        image_size=sizes,
        fit=config.input.fit,
        resample=config.input.resample,
        class_names={name: tuple(names) for name, names in class_names.items()},
        scales=scales or {},
        decisions=decisions,
        run=run,
        stage=row.stage,
        parent=parent,
        pools=pools,
        steps=steps,
        mtpret_jax=metadata.version("mtpret_jax"),
    )


def _pool(sets: Sequence[prepared_types.Preparation]) -> Prepared:
    """Of several sets, whose images may be stored otherwise: the most detail.

    In training each image is normalised by the statistics of its set, where that is
    asked for; whoever brings an image afterwards has no set, and takes those of all
    training images. They are None where one set's are not known.
    """
    pool = [Prepared.of(made) for made in sets]
    mean = deviation = None
    if all(None not in (each.pixel_mean, each.pixel_std) for each in pool):
        counts = [made.get("splits", {}).get("train", 1) for made in sets]
        means = np.array([each.pixel_mean for each in pool])
        squares = np.array([each.pixel_std for each in pool]) ** 2 + means**2
        mean = float(np.average(means, weights=counts))
        square = float(np.average(squares, weights=counts))
        deviation = math.sqrt(max(0.0, square - mean * mean))
    return Prepared(
        longest_side=max(each.longest_side for each in pool),
        bit_depth=max(each.bit_depth for each in pool),
        pixel_mean=mean,
        pixel_std=deviation,
        checks_polarity=all(each.checks_polarity for each in pool),
    )


def from_json(table: Mapping[str, Any], where: str) -> Description:
    """Reads what `Description.to_json` gave, of this or an earlier version.

    Args:
      table: Plain values; entries of another name are left alone.
      where: Begins a message: the file.

    Raises:
      ValueError: If it lacks something, or holds what no run writes.
    """
    fields = dataclasses.fields(Description)
    needed = [
        field.name
        for field in fields
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    try:
        if lacks := [name for name in needed if name not in table]:
            raise ValueError(f"it lacks {', '.join(lacks)}.")
        values = {f.name: table[f.name] for f in fields if f.name in table}
        found = parser.parse(values, Description, "description", _CHOICES)
        _check_values(found)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: {error} It is damaged, or of a version that kept too little to "
            "predict with. Copy it again, or do the run, or the export, again."
        ) from error
    return found


def _check_values(found: Description) -> None:
    """Checks what types alone do not tell."""
    if found.normalisation == "fixed":
        pixel_rules.check_numbers(found.fixed, "description.fixed")
    for name in ("image_size", "prepared"):
        path = f"description.{name}"
        if not getattr(found, name):
            raise ValueError(f"{path}: nothing in it.")
        for task in found.class_names:
            rules.require_known(task, getattr(found, name), f"task in {path}")
    for task, names in found.class_names.items():
        rules.require_known(task, found.tasks, "task in description.tasks")
        if decided := found.decisions.get(task):
            path = f"description.decisions.{task}"
            said = parser.parse(decided, _Decisions, path, {})
            for name in (*said.thresholds, *said.temperatures):
                rules.require_known(name, names, f"class in {path}")
    for task, scale in found.scales.items():
        if not (math.isfinite(scale.mean) and 0 < scale.deviation < math.inf):
            raise ValueError(
                f"description.scales.{task}: a mean of {scale.mean} and a deviation of "
                f"{scale.deviation}."
            )
    for task, side in found.image_size.items():
        path = f"description.image_size.{task}"
        rules.check_range(schema.TaskConfig, "image_size", side, path)
    for task, entry in found.prepared.items():
        numbers = (entry.pixel_mean, entry.pixel_std)
        known = all(isinstance(value, (float, int, type(None))) for value in numbers)
        if entry.bit_depth not in (8, 16) or not known:
            raise ValueError(
                f"description.prepared.{task}: a bit_depth of {entry.bit_depth}, "
                f"pixel_mean and pixel_std of {numbers}."
            )
