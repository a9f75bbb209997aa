"""Anchors that fit the boxes of a training split: how many are met, and sizes for more.

A box can be found well where an anchor overlaps it by half or more. Of an anchor's
places the nearest to a box's centre overlaps it most, so one place a level is enough.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.data import kinds, sources, transforms
from mtpret_jax.models import pyramid
from mtpret_jax.ops import regions
from mtpret_jax.tasks import detection

MET_FROM = 0.5  # overlap
_BOXES = 4000  # looked at, evenly spaced: shares are then exact to 1 or 2 %
_STEPS = (1.3, 1.1, 1.03)  # factors by which sizes are tried larger and smaller


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Anchors of every position, and how well they meet boxes.

    Attributes:
      sizes: As the option `anchor_sizes`.
      ratios: As the option `anchor_ratios`.
      met: Share of the boxes that an anchor overlaps by `MET_FROM`, [0, 1].
      overlap: Largest overlap of a box with an anchor, mean over boxes, [0, 1].
    """

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    met: float
    overlap: float


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a detector lays anchors.

    Attributes:
      counts: Positions of each level along a side, finest first.
      strides: Pixels between two of them.
    """

    counts: tuple[int, ...]
    strides: tuple[float, ...]


def shared_out(row: schema.TaskConfig) -> schema.TaskConfig:
    """A task of boxes whose sizes the levels of its head share; a made-up size if not.

    So that sizes can be found for a head which the ones that it has do not fit.
    """
    options = row.detection
    head = detection.HEADS[options.head](1, row.image_size, options, jnp.float32)
    finest, coarsest = head.levels
    if not len(options.anchor_sizes) % (coarsest - finest + 1):
        return row
    sizes = (float(row.image_size),) * (coarsest - finest + 1)
    options = dataclasses.replace(options, anchor_sizes=sizes)
    return dataclasses.replace(row, detection=options)


def places(task: types.Task, network: schema.BackboneConfig) -> Places | None:
    """Where a task lays anchors behind a backbone; None for a task without any."""
    if not isinstance(task, detection.DetectionTask):
        return None
    backbone = models.build_backbone(network)
    size = task.image_size
    image = jnp.zeros((1, size, size, network.in_channels))

    def levels() -> tuple[jax.Array, ...]:
        body = backbone.init(jax.random.key(0), image)
        return backbone.apply(body, image, train=False)[0].levels

    finest, coarsest = task.head.levels
    strides = pyramid.strides_of(jax.eval_shape(levels), size)
    strides = strides[finest - pyramid.FINEST :]
    counts = [-(-size // stride) for stride in strides]
    coarser = coarsest - finest + 1 - len(strides)
    for _ in range(coarser):
        counts.append(-(-counts[-1] // 2))
    strides = pyramid.anchor_strides(size, strides=strides, coarser=coarser)
    return Places(tuple(map(int, counts)), strides)


def training_boxes(
    source: sources.Source, task: schema.TaskConfig, fit: str
) -> tuple[np.ndarray, int]:
    """Boxes of a split as a task sees them without chance.

    Args:
      source: The split.
      task: Options of the task.
      fit: The option `config.input.fit`.

    Returns:
      x0, y0, x1, y1 in pixels of the square input, float32 [N, 4]; number of images.
    """
    kind, found = kinds.KINDS[task.kind], []
    records = kinds.usable_records(source, task)
    for record in records:
        example = source[int(record)]
        shape = example["image"].shape
        matrix = transforms.fit(*shape, size=task.image_size, mode=fit).matrix
        targets = kind.targets(example, task, matrix, shape, whole=True)
        found.append(targets["box"][targets["box_valid"]])
    box = np.concatenate(found)[:, [1, 0, 3, 2]] * task.image_size
    return box, len(records)


def measure(
    box: np.ndarray, where: Places, sizes: Sequence[float], ratios: Sequence[float]
) -> Anchors:
    """How well anchors meet boxes, pixels [N, 4]; see `regions.anchors`."""
    cells = regions.anchors(
        [(1, 1)] * len(where.counts),
        strides=where.strides,
        sizes=sizes,
        ratios=ratios,
    )
    centre, side = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    best = np.zeros(len(box))
    for cell, count, stride in zip(cells, where.counts, where.strides, strict=True):
        place = np.clip(np.rint(centre / stride), 0, count - 1) * stride
        anchor = np.concatenate([place, place], axis=1)[:, None] + cell[None]
        low = np.maximum(anchor[..., :2], box[:, None, :2])
        high = np.minimum(anchor[..., 2:], box[:, None, 2:])
        shared = np.prod((high - low).clip(0), axis=-1)
        area = np.prod(cell[:, 2:] - cell[:, :2], axis=-1)
        union = area + np.prod(side, axis=-1)[:, None] - shared
        best = np.maximum(best, (shared / union).max(axis=1))
    met = float(np.mean(best >= MET_FROM))
    return Anchors(tuple(sizes), tuple(ratios), met, float(best.mean()))


def fitted(box: np.ndarray, where: Places, *, each: int, ratios: int) -> Anchors:
    """Sizes and ratios that meet most boxes.

    Ratios are those in the middle of equal parts of the boxes, sizes begin in even
    steps from small to large boxes, and each is then moved as long as that helps.

    Args:
      box: Pixels, float32 [N, 4], N above 0.
      where: Where anchors are laid.
      each: Sizes of each level.
      ratios: Number of ratios.
    """
    box = box[np.linspace(0, len(box) - 1, min(len(box), _BOXES)).astype(int)]
    side = np.log((box[:, 2:] - box[:, :2]).clip(0.5))
    middle = (np.arange(ratios) + 0.5) / ratios
    ratio = np.exp(np.quantile(side[:, 1] - side[:, 0], middle)).round(2)
    small, large = np.quantile(side.mean(axis=1), (0.05, 0.95))
    sizes = np.exp(np.linspace(small, large, each * len(where.counts)))

    def tried(sizes: np.ndarray) -> Anchors:
        whole = sorted(max(2.0, float(round(size))) for size in sizes)
        return measure(box, where, whole, tuple(ratio.tolist()))

    best = tried(sizes)
    for step in _STEPS:
        improves = True
        while improves:
            improves = False
            for place in range(len(sizes)):
                for factor in (step, 1 / step):
                    changed = np.array(best.sizes)
                    changed[place] *= factor
                    other = tried(changed)
                    if _worth(other) > _worth(best):
                        best, improves = other, True
    return best


def _worth(found: Anchors) -> float:
    """Boxes that are met count most; how well, where as many are."""
    return found.met + 0.1 * found.overlap
