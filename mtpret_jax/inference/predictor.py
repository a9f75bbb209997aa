"""A trained network as a function of normalised images, and what it is told by.

`describe` makes the part of a backbone folder's description from which `build` makes
the network again, without the config or the data it was trained with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import models, tasks, types
from mtpret_jax.config import parser, rules
from mtpret_jax.data import kinds, transforms
from mtpret_jax.ops import views
from tfds_builders.images import polarity


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A backbone, perhaps with the head of one task, in evaluation mode.

    Attributes:
      backbone: Images to features.
      task: The head; None for features alone.
    """

    backbone: types.Backbone
    task: types.Task | None

    def __call__(self, tree: types.Tree, image: jax.Array) -> dict[str, jax.Array]:
        """Features, and what the task predicts from them.

        Args:
          tree: `{"backbone": .., "head": ..}`, each with `params` and `model_state`.
          image: Normalised, float32 [B, H, W, 1].

        Returns:
          `embedding`, float32 [B, D], the mean of the last level, and the outputs of
          `types.Task.predict`.
        """
        stride = self.task.output_stride if self.task else 0
        features, _ = self.backbone.apply(
            _variables(tree["backbone"]), image, train=False, output_stride=stride
        )
        outputs = {"embedding": features.pooled.astype(jnp.float32)}
        if self.task is not None:
            outputs |= self.task.predict(_variables(tree["head"]), features)
        return outputs

    def shapes(self, image_size: int) -> types.Tree:
        """The tree that a call takes, leaves with `shape` and `dtype`."""

        def init(key: jax.Array) -> types.Tree:
            image = jnp.zeros((1, image_size, image_size, 1))
            stride = self.task.output_stride if self.task else 0
            body = self.backbone.init(key, image)
            tree = {"backbone": _parts(body)}
            if self.task is not None:
                features, _ = self.backbone.apply(
                    body, image, train=False, output_stride=stride
                )
                tree["head"] = _parts(self.task.init(key, features))
            return tree

        return jax.eval_shape(init, jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to a picture before the network sees it.

    Attributes:
      image_size: Side of the square input, pixels.
      fit: How the picture lies in it; see `transforms.fit`.
      statistics: Mean and deviation of intensities in [0, 1]; None: the picture's own.
      longest_side: To which training's pictures were shrunk before, pixels; 0: not.
      bit_depth: Of training's pictures, 8 or 16.
      checks_polarity: Whether what looks inverted is told; not of views for which
        `polarity` is not made, as too many of training's pictures looked so.
    """

    image_size: int
    fit: str
    statistics: tuple[float, float] | None
    longest_side: int
    bit_depth: int
    checks_polarity: bool = True

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits a picture to the square and normalises it.

        Args:
          picture: Not longer than `longest_side`, uint8 or uint16 [H, W].

        Returns:
          float32 [size, size, 1], and the matrix from the picture to the square,
          float64 [3, 3].
        """
        view = transforms.plain_view(picture, size=self.image_size, mode=self.fit)
        image, statistics = transforms.to_input(view, statistics=self.statistics)
        batch = {"image": image[None], "image_statistics": statistics[None]}
        return views.normalise(batch)["image"][0], view.matrix


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """What a set's `preparation.json` says of its pictures."""

    longest_side: int
    bit_depth: int
    pixel_mean: Any = None
    pixel_std: Any = None
    checks_polarity: bool = True


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


@dataclasses.dataclass(frozen=True)
class _Description:
    """What `build`, `preparation` and those who answer read of a description."""

    network: schema.BackboneConfig
    tasks: Mapping[str, schema.TaskConfig]
    prepared: Mapping[str, _Prepared]
    normalisation: str
    image_size: Mapping[str, int]
    fit: str
    class_names: Mapping[str, tuple[str, ...]]
    decisions: Mapping[str, Any]
    mtpret_jax: str


_CHOICES = dict(schema.CHOICES) | {
    (_Description, name): schema.CHOICES[schema.InputConfig, name]
    for name in ("normalisation", "fit")
}


def check(described: Mapping[str, Any], where: str) -> None:
    """Refuses a description by which no network can be built, fed or asked.

    Args:
      described: As `build` takes it.
      where: Begins a message: the file.

    Raises:
      ValueError: If it lacks something, or holds what no run writes.
    """
    entries = [field.name for field in dataclasses.fields(_Description)]
    try:
        if lacks := [name for name in entries if name not in described]:
            raise ValueError(f"it lacks {', '.join(lacks)}.")
        values = {name: described[name] for name in entries}
        _check_values(parser.parse(values, _Description, "description", _CHOICES))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: {error} It is damaged, or of a version that kept too little to "
            "predict with. Copy it again, or do the run, or the export, again."
        ) from error


def _check_values(found: _Description) -> None:
    """Checks what types alone do not tell."""
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
    for task, side in found.image_size.items():
        path = f"description.image_size.{task}"
        rules.check_range("TaskConfig", "image_size", side, path)
    for task, entry in found.prepared.items():
        numbers = (entry.pixel_mean, entry.pixel_std)
        known = all(isinstance(value, (float, int, type(None))) for value in numbers)
        if entry.bit_depth not in (8, 16) or not known:
            raise ValueError(
                f"description.prepared.{task}: a bit_depth of {entry.bit_depth}, "
                f"pixel_mean and pixel_std of {numbers}."
            )


def describe(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    sets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What a description must hold so that `build` and `preparation` need no more.

    Args:
      config: The whole config.
      row: The run.
      sets: `preparation.json` of every set.
    """
    prepared = {name: _prepared(sets[config.tasks[name].dataset]) for name in row.tasks}
    if not prepared:  # The sets of stage 1 may differ: keep the most detail.
        pool = [_prepared(sets[name]) for name in row.contrastive.datasets]
        prepared[""] = {
            name: max(each[name] for each in pool)
            for name in ("longest_side", "bit_depth")
        } | {"checks_polarity": all(each["checks_polarity"] for each in pool)}
    return {
        "network": schema.as_dict(config.backbone)
        | {"compute_dtype": config.backbone.dtype},
        "tasks": {name: schema.as_dict(config.tasks[name]) for name in row.tasks},
        "prepared": prepared,
    }


def _prepared(made: Mapping[str, Any]) -> dict[str, Any]:
    """What a set's `preparation.json` says of its pictures."""
    options = made.get("options", {})
    return {
        "longest_side": options.get("image_size", 0),
        "bit_depth": options.get("bit_depth", 8),
        "pixel_mean": made.get("pixel_mean"),
        "pixel_std": made.get("pixel_std"),
        "checks_polarity": polarity.is_trusted(
            made.get("polarity_warnings", 0), sum(made.get("splits", {}).values())
        ),
    }


def build(described: Mapping[str, Any], task: str) -> Network:
    """The network that a description tells of.

    Args:
      described: With what `describe` gave, and `class_names`.
      task: Whose head; "" for the backbone alone.

    Raises:
      ValueError: If the description is damaged.
    """
    settings = _settings(described["network"], schema.BackboneConfig, "network")
    body = models.build_backbone(settings)
    if not task:
        return Network(body, None)
    row = task_settings(described, task)
    names = kinds.KINDS[row.kind].metadata(row, described["class_names"][task])
    dtype = jnp.dtype(settings.dtype)
    built = tasks.build_tasks({task: row}, {row.dataset: names}, dtype=dtype)
    return Network(body, built[task])


def task_settings(described: Mapping[str, Any], task: str) -> schema.TaskConfig:
    """The options of a task that a description tells of."""
    return _settings(described["tasks"][task], schema.TaskConfig, f"tasks.{task}")


def preparation(described: Mapping[str, Any], task: str) -> Preparation:
    """What a description says of pictures; `task` as in `build`."""
    statistics = None
    everything = described["prepared"]
    prepared = everything.get(task) or next(iter(everything.values()))
    if described["normalisation"] == "dataset":
        if prepared.get("pixel_mean") is None or prepared.get("pixel_std") is None:
            raise ValueError(
                "A backbone whose config.input.normalisation was 'dataset' has no "
                "statistics of its own: fine-tune it and take that run."
            )
        statistics = (float(prepared["pixel_mean"]), float(prepared["pixel_std"]))
    sizes = described["image_size"]
    return Preparation(
        image_size=int(sizes[task] if task else max(sizes.values())),
        fit=described["fit"],
        statistics=statistics,
        longest_side=int(prepared["longest_side"]),
        bit_depth=int(prepared["bit_depth"]),
        checks_polarity=prepared.get("checks_polarity", True),
    )


def whole(network: types.Tree, task: str) -> types.Tree:
    """The inverse of `part`: where `types.Stage.hand_over` has what `Network` takes."""
    head = network.get("head", {})
    heads = {"heads": {kind: {task: head[kind]} for kind in head}}
    return {"backbone": network["backbone"]} | (heads if head else {})


def part(tree: types.Tree, task: str) -> types.Tree:
    """What `Network` takes, of what `types.Stage.hand_over` gives."""
    if not task:
        return {"backbone": tree["backbone"]}
    heads = tree["heads"]
    head = {kind: heads[kind].get(task, {}) for kind in ("params", "model_state")}
    return {"backbone": tree["backbone"], "head": head}


def _settings(values: Mapping[str, Any], kind: Any, path: str) -> Any:
    return parser.parse(values, kind, path, schema.CHOICES)


def _variables(tree: types.Tree) -> types.Variables:
    return types.Variables(tree["params"], tree["model_state"])


def _parts(variables: types.Variables) -> types.Tree:
    return {"params": variables.params, "model_state": variables.model_state}
