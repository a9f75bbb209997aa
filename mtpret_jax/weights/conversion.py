"""Whole networks under torchvision's names, both ways; see `layouts`.

Counters of batches (`num_batches_tracked`) are written as zero, since
`load_state_dict(strict=True)` wants them, and are not read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax.weights import bodies, layouts, resnet

Tree = Any
Tensors = layouts.Tensors

IMAGE_CHANNELS = 3  # of torchvision's stem


def to_torchvision(network: Tree, kind: str) -> tuple[Tensors, str]:
    """A network of ours as torchvision's `state_dict`.

    Args:
      network: See `layouts`.
      kind: A row of `LAYOUTS`.

    Returns:
      float32 arrays, and counters int64 []; what was done to the stem, in words.

    Raises:
      ValueError: If the network is of another kind, or a number is not finite.
    """
    layout = layouts.LAYOUTS[kind]
    body = resnet.to_torchvision(network["backbone"])
    body[resnet.STEM], stem = _stem(body[resnet.STEM])
    tensors = {layout.body + name: array for name, array in body.items()}
    if layout.modules:
        head = _head_entries(network["head"], kind, "export")
        tensors |= {entry.name: resnet.from_ours(entry) for entry in head}
        layout.outwards(tensors)
    for name in list(tensors):
        if name.endswith(".running_var"):
            counter = name.removesuffix(".running_var") + resnet.COUNTER
            tensors[counter] = np.zeros((), np.int64)
    return tensors, stem


def read(
    tensors: Mapping[str, np.ndarray],
    expected: Tree,
    kind: str,
    network: schema.BackboneConfig,
    where: str,
) -> resnet.Converted:
    """A file's backbone, or whole network of torchvision's, as one of ours.

    Args:
      tensors: Any floating dtype.
      expected: What the network wants, leaves with `shape`; see `layouts`.
      kind: A row of `LAYOUTS`.
      network: Options of the backbone.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite; if a head is
        wanted that is not on a ResNet.
    """
    if not layouts.LAYOUTS[kind].modules:
        body = bodies.read(tensors, expected["backbone"], network, where)
        return dataclasses.replace(body, tree={"backbone": body.tree})
    if not network.name.startswith("resnet"):
        raise ValueError(
            f"{where}: a file's head for {kind} is read for ResNets alone, and the "
            f"backbone is '{network.name}'. Start from the backbone alone: "
            "finetune.head='new'."
        )
    return from_torchvision(tensors, expected, kind, where)


def from_torchvision(
    tensors: Mapping[str, np.ndarray], expected: Tree, kind: str, where: str
) -> resnet.Converted:
    """Torchvision's `state_dict` as a network of ours.

    A common prefix, such as `module.`, is taken off. An auxiliary head that is not
    expected is left out. Files of versions before 0.13 are known too.

    Args:
      tensors: Any floating dtype.
      expected: What the network wants, leaves with `shape`; see `layouts`.
      kind: A row of `LAYOUTS`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    body = resnet.from_torchvision(tensors, expected["backbone"], where)
    tree: Tree = {"backbone": body.tree}
    layout = layouts.LAYOUTS[kind]
    if not layout.modules:
        return dataclasses.replace(body, tree=tree)
    if not body.prefix.endswith(layout.body):
        raise ValueError(
            f"{where}: the file's ResNet is at '{body.prefix}conv1', that of a whole "
            f"network for {kind} at '{layout.body}conv1'. Start from the backbone "
            "alone (finetune.head='new'), or from a file of that kind."
        )
    prefix = body.prefix.removesuffix(layout.body)
    entries = _head_entries(expected["head"], kind, where)
    wanted = {entry.name: entry for entry in entries}
    outside = [name for name in body.left_out if not name.startswith(prefix)]
    found = layout.inwards(
        {n.removeprefix(prefix): tensors[n] for n in body.left_out if n not in outside},
        where,
    )
    for name in list(found):
        if layout.optional and name.startswith(layout.optional) and name not in wanted:
            del found[name]
            outside.append(prefix + name)
    advice = (
        f"A head for {kind} with other classes or sizes? Start from the backbone "
        "alone: finetune.head='new'."
    )
    tree["head"] = resnet.to_ours(found, wanted, where, advice)
    return dataclasses.replace(body, tree=tree, left_out=tuple(sorted(outside)))


def _stem(kernel: np.ndarray) -> tuple[np.ndarray, str]:
    """The stem for three channels; see `resnet.fit_stem`."""
    said = []
    if kernel.shape[1] not in (1, IMAGE_CHANNELS):
        kernel, first = resnet.fit_stem(kernel, 1, "export")
        said.append(first)
    kernel, last = resnet.fit_stem(kernel, IMAGE_CHANNELS, "export")
    return kernel, ", ".join([*said, last])


def _head_entries(head: Tree, kind: str, where: str) -> list[resnet.Entry]:
    """The arrays of a head, by torchvision's names."""
    patterns = layouts.LAYOUTS[kind].patterns(head)

    def rename(module: str) -> str:
        for pattern, name in patterns.items():
            found = re.fullmatch(pattern, module)
            if found:
                return found.expand(name)
        raise ValueError(
            f"{where}: '{module}' has no name in torchvision's network for {kind}; "
            f"known are {list(patterns)}."
        )

    return list(resnet.entries(head, rename))
