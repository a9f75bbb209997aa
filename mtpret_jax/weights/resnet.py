"""Names of ResNet weights: torchvision's (and timm's) and ours, both ways.

torchvision and timm share one layout for residual networks, whose `layer1.0` is
`layer1_0` here; `arrays` has what else differs. `conversion` does the same for what has
a head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import arrays

Tree = Any
STEM = "conv1.weight"
_CLASSIFIER = "fc."  # torchvision's and timm's last layer, not part of a backbone
_EPSILON = 1e-5  # that our BatchNorm adds to variances
# Of torchvision's detectors, by which they are known: 91 numbers, the background's
# among them, or as many for each of nine anchors.
_COCO_SCORES: Mapping[str, int] = {
    "roi_heads.box_predictor.cls_score.bias": 91,
    "head.classification_head.cls_logits.bias": 9 * 91,
}
_BLOCKS: Mapping[tuple[bool, tuple[int, ...]], str] = {
    (False, (1, 1, 1, 1)): "ResNet-10",
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
}


def to_torchvision(tree: Tree) -> arrays.Tensors:
    """Our backbone under torchvision's names.

    Args:
      tree: `{"params": ..., "model_state": ...}` of a ResNet backbone.

    Returns:
      float32 arrays, kernels as [out, in, height, width], without `fc.*` and
      `num_batches_tracked`, which `load_state_dict(strict=False)` leaves alone.
    """
    return {name: entry.array for name, entry in _entries(tree, "export").items()}


def from_torchvision(
    tensors: Mapping[str, np.ndarray], expected: Tree, where: str
) -> arrays.Converted:
    """Weights under torchvision's names as a backbone of ours.

    A common prefix, such as `module.` or `module.encoder_q.`, is taken off; what lies
    outside it is left out, as are `fc.*` and `num_batches_tracked`.

    Args:
      tensors: Any floating dtype; kernels as [out, in, height, width].
      expected: Tree of what the backbone wants, leaves with `shape`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    wanted = _entries(expected, where)
    prefix = _prefix(tensors, where)
    found = {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    left_out = {name for name in tensors if not name.startswith(prefix)}
    for name in sorted(found):
        if name.startswith(_CLASSIFIER) or name.endswith(arrays.COUNTER):
            del found[name]
            left_out.add(prefix + name)
    if _adds_nothing(tensors, prefix):
        for name in [name for name in found if name.endswith(arrays.VARIANCE)]:
            exact = np.asarray(found[name], np.float64) - _EPSILON
            found[name] = exact.astype(np.float32)
    advice = (
        f"The file holds {_network({n: array.shape for n, array in found.items()})}, "
        f"the config wants {_network({n: one.shape for n, one in wanted.items()})}. "
        "Change config.backbone, or start from other weights."
    )
    tree, stem = arrays.to_ours(found, wanted, where, advice, stem=STEM)
    left_out = {name for name in left_out if not name.endswith(arrays.COUNTER)}
    return arrays.Converted(tree, stem, tuple(sorted(left_out)), prefix)


def _adds_nothing(tensors: Mapping[str, np.ndarray], prefix: str) -> bool:
    """Whether it is torchvision's published detector: its epsilon is 0.

    Its BatchNorm is frozen, without counters, as in detectors of others with its usual
    epsilon; but it tells COCO's 91 classes apart. Our variances become smaller by what
    we add to them.

    Source: torchvision's `overwrite_eps`, called for these weights alone.
    """
    whole = prefix.removesuffix("backbone.body.")
    counted = any(name.endswith(arrays.COUNTER) for name in tensors)
    return not counted and any(
        f"{whole}{name}" in tensors and tensors[f"{whole}{name}"].shape == (count,)
        for name, count in _COCO_SCORES.items()
    )


def _entries(tree: Tree, where: str) -> dict[str, arrays.Entry]:
    """The arrays of a backbone; `where` begins a message.

    Raises:
      ValueError: If it is not a ResNet.
    """
    if tree["params"] and STEM.partition(".")[0] not in tree["params"]:
        raise ValueError(
            f"{where}: weights of this backbone can't be exchanged with torchvision: "
            "of its backbones, only ResNets are read and written."
        )
    numbered = re.compile(r"\b(layer\d+|downsample)_(\d+)\b")
    return arrays.entries(tree, lambda name: numbered.sub(r"\1.\2", name))


def identify(
    tensors: Mapping[str, np.ndarray], where: str
) -> tuple[str, int, tuple[str, ...]]:
    """What a file's names and shapes tell of a ResNet in it.

    Args:
      tensors: Any floating dtype.
      where: Begins a message, for example the option and file.

    Returns:
      Depth and width in words, channels of its images, and the names of the file that
      are no part of it, sorted.

    Raises:
      ValueError: If there is none, or more than one.
    """
    prefix = _prefix(tensors, where)
    found = {
        name.removeprefix(prefix): array.shape
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    left_out = [
        name
        for name in tensors
        if not name.startswith(prefix)
        or name.removeprefix(prefix).startswith(_CLASSIFIER)
    ]
    return _network(found), found[STEM][1], tuple(sorted(left_out))


def _prefix(tensors: Mapping[str, np.ndarray], where: str) -> str:
    """What stands before the names of the one ResNet in the file."""
    marks = (STEM, "layer1.0.conv1.weight", "layer4.0.conv1.weight")
    prefix = arrays.find_prefix(tensors, marks, where)
    if prefix is None:
        raise ValueError(
            f"{where}: no ResNet in torchvision's or timm's layout: no '{marks[0]}', "
            f"'{marks[1]}', '{marks[2]}' among the {len(tensors)} tensors of the file, "
            f"which begin with {sorted(tensors)[:5]}."
        )
    return prefix


def _network(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Depth and width in words, guessed from names and shapes."""
    blocks = [
        len({name.split(".")[1] for name in shapes if name.startswith(f"layer{n}.")})
        for n in range(1, 5)
    ]
    deep = any(re.match(r"layer\d+\.\d+\.conv3\.", name) for name in shapes)
    name = _BLOCKS.get((deep, tuple(blocks)), f"a ResNet of {blocks} blocks")
    return f"{name} of width {shapes[STEM][0]}" if len(shapes[STEM]) == 4 else name
