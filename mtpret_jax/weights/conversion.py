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
from mtpret_jax.weights import arrays, bodies, layouts, libraries, resnet

Tree = Any
Tensors = layouts.Tensors

IMAGE_CHANNELS = 3  # of torchvision's stem
# What others call one dense layer on pooled features; looked for in this order.
_HEADS = ("head.fc", "head", "classifier.2", "classifier")


def write(
    network: Tree, kind: str, options: schema.BackboneConfig, theirs: libraries.Network
) -> tuple[Tensors, str]:
    """A network of ours, on any backbone but a ResNet, as another library's state.

    Args:
      network: See `layouts`.
      kind: A row of `LAYOUTS`.
      options: Those of the backbone.
      theirs: Whose network it becomes; it has a head of that kind.

    Returns:
      float32 arrays, and counters int64 []; what was done to the stem, in words.

    Raises:
      ValueError: If a number is not finite.
    """
    tensors, stem = bodies.write(network["backbone"], options, theirs.layout)
    if layouts.LAYOUTS[kind].modules:
        for name, entry in _dense(network["head"], theirs.head).items():
            tensors[name] = entry.array
    return tensors, stem


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
    body[resnet.STEM], stem = arrays.stem_for(body[resnet.STEM], IMAGE_CHANNELS)
    tensors = {layout.body + name: array for name, array in body.items()}
    if layout.modules:
        head = _head_entries(network["head"], kind, "export")
        tensors |= {name: entry.array for name, entry in head.items()}
        layout.outwards(tensors)
    arrays.add_counters(tensors)
    return tensors, stem


def read(
    tensors: Mapping[str, np.ndarray],
    expected: Tree,
    kind: str,
    network: schema.BackboneConfig,
    where: str,
) -> arrays.Converted:
    """A file's backbone, or whole network of torchvision's, as one of ours.

    Args:
      tensors: Any floating dtype.
      expected: What the network wants, leaves with `shape`; see `layouts`.
      kind: A row of `LAYOUTS`.
      network: Options of the backbone.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite; if a head is
        wanted that no library has, or that is not on a ResNet, and more than one dense
        layer.
    """
    layout = layouts.LAYOUTS[kind]
    if layout.is_ours:
        raise ValueError(
            f"{where}: no file of a library has a head for {kind}. Start from the "
            "backbone alone: finetune.head='new'."
        )
    if layout.modules and network.name.startswith("resnet"):
        return from_torchvision(tensors, expected, kind, where)
    if layout.modules and not layout.is_dense:
        raise ValueError(
            f"{where}: a file's head for {kind} is read for ResNets alone, and the "
            f"backbone is '{network.name}'. Start from the backbone alone: "
            "finetune.head='new'."
        )
    body = bodies.read(tensors, expected["backbone"], network, where)
    tree = {"backbone": body.tree}
    if not layout.modules:
        return dataclasses.replace(body, tree=tree)
    known = [body.prefix + name for name in _HEADS]
    name = next((n for n in known if f"{n}.weight" in body.left_out), known[0])
    found = {n: tensors[n] for n in body.left_out if n.startswith(f"{name}.")}
    wanted = _dense(expected["head"], name)
    tree["head"], _ = arrays.to_ours(found, wanted, where, _advice(kind))
    left_out = tuple(n for n in body.left_out if n not in found)
    return dataclasses.replace(body, tree=tree, left_out=left_out)


def from_torchvision(
    tensors: Mapping[str, np.ndarray], expected: Tree, kind: str, where: str
) -> arrays.Converted:
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
    wanted = _head_entries(expected["head"], kind, where)
    outside = [name for name in body.left_out if not name.startswith(prefix)]
    found = layout.inwards(
        {n.removeprefix(prefix): tensors[n] for n in body.left_out if n not in outside},
        where,
    )
    for name in list(found):
        if layout.optional and name.startswith(layout.optional) and name not in wanted:
            del found[name]
            outside.append(prefix + name)
    tree["head"], _ = arrays.to_ours(found, wanted, where, _advice(kind))
    return dataclasses.replace(body, tree=tree, left_out=tuple(sorted(outside)))


def _advice(kind: str) -> str:
    return (
        f"A head for {kind} with other classes or sizes? Start from the backbone "
        "alone: finetune.head='new'."
    )


def _dense(head: Tree, name: str) -> dict[str, arrays.Entry]:
    """The arrays of one dense layer, by another name of it."""
    return arrays.entries(head, lambda ours: f"{name}.{ours.rpartition('.')[2]}")


def _head_entries(head: Tree, kind: str, where: str) -> dict[str, arrays.Entry]:
    """The arrays of a head, by torchvision's names."""
    patterns = layouts.LAYOUTS[kind].patterns(head)

    def rename(ours: str) -> str:
        module, _, last = ours.rpartition(".")
        for pattern, name in patterns.items():
            found = re.fullmatch(pattern, module)
            if found:
                return f"{found.expand(name)}.{last}"
        raise ValueError(
            f"{where}: '{module}' has no name in torchvision's network for {kind}; "
            f"known are {list(patterns)}."
        )

    return arrays.entries(head, rename)
