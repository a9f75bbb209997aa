"""Whole networks under torchvision's names, both ways: a backbone with its head.

| kind           | torchvision's network, and what its names begin with              |
|----------------|-------------------------------------------------------------------|
| backbone       | ResNet without `fc`                                               |
| classification | ResNet; `fc`                                                      |
| segmentation   | DeepLabV3; `backbone`, `classifier`, perhaps `aux_classifier`     |
| detection      | Faster R-CNN; `backbone.body`, `backbone.fpn`, `rpn`, `roi_heads` |

A network of ours is `{"backbone": tree, "head": tree}`, each tree `{"params": ...,
"model_state": ...}`; of the kind "backbone" there is no head. Counters of batches
(`num_batches_tracked`) are written as zero, since `load_state_dict(strict=True)` wants
them, and are not read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import layout

Tree = Any
_BODIES: Mapping[str, str] = {
    "backbone": "",
    "classification": "",
    "segmentation": "backbone.",
    "detection": "backbone.body.",
}
KINDS = tuple(_BODIES)
IMAGE_CHANNELS = 3  # of torchvision's stem
# Our module, as a pattern, and torchvision's.
_MODULES: Mapping[str, Mapping[str, str]] = {
    "classification": {r"fc": "fc"},
    "segmentation": {
        r"convs_(\d+)_(\d)": r"classifier.0.convs.\1.\2",
        r"project_(\d)": r"classifier.0.project.\1",
        r"conv_0": "classifier.1",
        r"conv_1": "classifier.2",
        r"classifier": "classifier.4",
        r"aux_classifier_(\d)": r"aux_classifier.\1",
    },
    "detection": {
        r"fpn\.(inner|layer)_blocks_(\d)": r"backbone.fpn.\1_blocks.\2.0",
        r"rpn_head\.conv": "rpn.head.conv.0.0",
        r"rpn_head\.(cls_logits|bbox_pred)": r"rpn.head.\1",
        r"(box_head\.fc[67]|box_predictor\.\w+)": r"roi_heads.\1",
    },
}
# Names before torchvision 0.13, which files of that time still hold.
_OLD_NAMES: Mapping[str, str] = {
    r"^rpn\.head\.conv\.(weight|bias)$": r"rpn.head.conv.0.0.\1",
    r"^(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)$": r"\1.0.\2",
}
_REGION_KERNEL = "roi_heads.box_head.fc6.weight"
_REGION_SIZE = 7  # bins on a side of a region
_OPTIONAL = "aux_classifier."


def to_torchvision(network: Tree, kind: str) -> tuple[dict[str, np.ndarray], str]:
    """A network of ours as torchvision's `state_dict`.

    Args:
      network: See the module.
      kind: One of `KINDS`.

    Returns:
      float32 arrays, and counters int64 []; what was done to the stem, in words.

    Raises:
      ValueError: If the head is of another kind, or a number is not finite.
    """
    body = layout.to_torchvision(network["backbone"])
    body[layout.STEM], stem = _stem(body[layout.STEM])
    tensors = {_BODIES[kind] + name: array for name, array in body.items()}
    if kind != "backbone":
        for entry in _head_entries(network["head"], kind, "export"):
            array = layout.from_ours(entry)
            if entry.name == _REGION_KERNEL:
                array = _channels_first(array)
            tensors[entry.name] = array
    for name in list(tensors):
        if name.endswith(".running_var"):
            counter = name.removesuffix(".running_var") + layout.COUNTER
            tensors[counter] = np.zeros((), np.int64)
    return tensors, stem


def from_torchvision(
    tensors: Mapping[str, np.ndarray], expected: Tree, kind: str, where: str
) -> layout.Converted:
    """Torchvision's `state_dict` as a network of ours.

    A common prefix, such as `module.`, is taken off. An auxiliary head that is not
    expected is left out. Files of versions before 0.13 are known too.

    Args:
      tensors: Any floating dtype.
      expected: What the network wants, leaves with `shape`; see the module.
      kind: One of `KINDS`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    body = layout.from_torchvision(tensors, expected["backbone"], where)
    tree: Tree = {"backbone": body.tree}
    if kind == "backbone":
        return dataclasses.replace(body, tree=tree)
    if not body.prefix.endswith(_BODIES[kind]):
        raise ValueError(
            f"{where}: the file's ResNet is at '{body.prefix}conv1', that of a whole "
            f"network for {kind} at '{_BODIES[kind]}conv1'. Start from the backbone "
            "alone (finetune.head='new'), or from a file of that kind."
        )
    prefix = body.prefix.removesuffix(_BODIES[kind])
    entries = _head_entries(expected["head"], kind, where)
    wanted = {entry.name: entry for entry in entries}
    found, left_out = {}, []
    for name in body.left_out:
        short = name.removeprefix(prefix)
        for pattern, present in _OLD_NAMES.items():
            short = re.sub(pattern, present, short)
        optional = short.startswith(_OPTIONAL) and short not in wanted
        if not name.startswith(prefix) or optional:
            left_out.append(name)
        else:
            found[short] = tensors[name]
    kernel = found.get(_REGION_KERNEL)
    if kernel is not None and _REGION_KERNEL in wanted:
        found[_REGION_KERNEL] = _channels_last(kernel, where)
    advice = (
        f"A head for {kind} with other classes or sizes? Start from the backbone "
        "alone: finetune.head='new'."
    )
    tree["head"] = layout.to_ours(found, wanted, where, advice)
    return dataclasses.replace(body, tree=tree, left_out=tuple(left_out))


def _stem(kernel: np.ndarray) -> tuple[np.ndarray, str]:
    """The stem for three channels; see `layout.fit_stem`."""
    said = []
    if kernel.shape[1] not in (1, IMAGE_CHANNELS):
        kernel, first = layout.fit_stem(kernel, 1, "export")
        said.append(first)
    kernel, last = layout.fit_stem(kernel, IMAGE_CHANNELS, "export")
    return kernel, ", ".join([*said, last])


def _head_entries(head: Tree, kind: str, where: str) -> list[layout.Entry]:
    """The arrays of a head, by torchvision's names."""
    patterns = dict(_MODULES[kind])
    numbers = [
        int(found[1])
        for module in head["params"]
        if (found := re.fullmatch(r"convs_(\d+)_0", module))
    ]
    if numbers:  # Of the pyramid's branches, the last begins with pooling.
        last = max(numbers)
        pooled = f"classifier.0.convs.{last}"
        special = {rf"convs_{last}_0": f"{pooled}.1", rf"convs_{last}_1": f"{pooled}.2"}
        patterns = special | patterns

    def rename(module: str) -> str:
        for pattern, name in patterns.items():
            found = re.fullmatch(pattern, module)
            if found:
                return found.expand(name)
        raise ValueError(
            f"{where}: '{module}' has no name in torchvision's network for {kind}; "
            f"known are {list(patterns)}."
        )

    return list(layout.entries(head, rename))


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    """[hidden, rows * columns * channels] to channels, rows, columns."""
    grid = kernel.reshape(len(kernel), _REGION_SIZE, _REGION_SIZE, -1)
    return np.ascontiguousarray(grid.transpose(0, 3, 1, 2).reshape(kernel.shape))


def _channels_last(kernel: np.ndarray, where: str) -> np.ndarray:
    """[hidden, channels * rows * columns] to rows, columns, channels."""
    if kernel.ndim != 2 or kernel.shape[1] % _REGION_SIZE**2:
        raise ValueError(
            f"{where}: '{_REGION_KERNEL}' has shape {kernel.shape}, expected regions "
            f"of {_REGION_SIZE} x {_REGION_SIZE} bins."
        )
    grid = kernel.reshape(len(kernel), -1, _REGION_SIZE, _REGION_SIZE)
    return np.ascontiguousarray(grid.transpose(0, 2, 3, 1).reshape(kernel.shape))
