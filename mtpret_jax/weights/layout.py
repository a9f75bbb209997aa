"""Names and axes of ResNet weights: torchvision's (and timm's) and ours, both ways.

torchvision and timm share one layout for ResNet-18 and ResNet-50. Ours differs in
three things: `layer1.0` is `layer1_0`, kernels are stored height, width, in, out
instead of out, in, height, width, and running statistics are a tree of their own.

Our networks take one grey channel and repeat it for the stem. A stem for three
channels therefore becomes one for a single channel by summing over its inputs, and one
for a single channel becomes one for three by dividing by three and repeating: both give
the same features. Not converted: what the weights expect of the pixels. ImageNet
weights were trained on (x - mean) / std of the whole set and each colour; here every
image (or data set) is brought to mean 0 and deviation 1, which is close to that for
grey images; fine-tuning estimates the running statistics anew.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Tree = Any
_LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("model_state", "mean"): "running_mean",
    ("model_state", "var"): "running_var",
}
_STEM = "conv1.weight"
_CLASSIFIER = "fc."  # torchvision's and timm's last layer, not part of a backbone
_COUNTER = "num_batches_tracked"
_BLOCKS: Mapping[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """Weights in our layout.

    Attributes:
      tree: `{"params": ..., "model_state": ...}`, nested dicts of float32 arrays.
      stem: What was done to the first convolution, in words.
      left_out: Names of the file that are no part of the backbone, sorted.
    """

    tree: Tree
    stem: str
    left_out: tuple[str, ...]


def to_torchvision(tree: Tree) -> dict[str, np.ndarray]:
    """Our backbone under torchvision's names.

    Args:
      tree: `{"params": ..., "model_state": ...}` of a ResNet backbone.

    Returns:
      float32 arrays, kernels as [out, in, height, width], without `fc.*` and
      `num_batches_tracked`, which `load_state_dict(strict=False)` leaves alone.
    """
    return {
        name: _from_ours(np.asarray(leaf, np.float32))
        for name, _, leaf in _entries(tree)
    }


def from_torchvision(
    tensors: Mapping[str, np.ndarray], expected: Tree, where: str
) -> Converted:
    """Weights under torchvision's names as a backbone of ours.

    A common prefix, such as `module.` or `module.encoder_q.`, is taken off; what lies
    outside it is left out, as are `fc.*` and `num_batches_tracked`.

    Args:
      tensors: Any floating dtype; kernels as [out, in, height, width].
      expected: Tree of what the backbone wants, leaves with `shape`, as of `Converted`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    wanted = {name: (place, leaf) for name, place, leaf in _entries(expected)}
    prefix = _prefix(tensors, where)
    found = {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    left_out = {name for name in tensors if not name.startswith(prefix)}
    for name in sorted(found):
        if name.startswith(_CLASSIFIER) or name.endswith("." + _COUNTER):
            del found[name]
            left_out.add(prefix + name)
    _check_names(found, wanted, where)
    tree: Tree = {"params": {}, "model_state": {}}
    stem = ""
    for name, (place, leaf) in wanted.items():
        array = _as_float32(found[name], f"{where}: '{name}'")
        if name == _STEM:
            array, stem = _stem(array, leaf.shape[2], where)
        shape = tuple(leaf.shape)
        array = _to_ours(array)
        if array.shape != shape:
            raise ValueError(
                f"{where}: '{name}' has shape {found[name].shape}, expected "
                f"{_torch_shape(shape)}. {_told(found, wanted)}"
            )
        branch = tree
        for part in place[:-1]:
            branch = branch.setdefault(part, {})
        branch[place[-1]] = array
    counted = {name for name in left_out if name.endswith("." + _COUNTER)}
    return Converted(tree, stem, tuple(sorted(left_out - counted)))


def _entries(tree: Tree) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Name in torchvision, path in ours, and leaf, in the tree's order."""

    def walk(branch: Any, path: tuple[str, ...]) -> Iterator[Any]:
        for key, value in branch.items():
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))
            else:
                modules = [
                    re.sub(r"^(layer\d+|downsample)_(\d+)$", r"\1.\2", part)
                    for part in path[1:]
                ]
                last = _LEAVES[path[0], key]
                yield ".".join((*modules, last)), (*path, key), value

    for part in ("params", "model_state"):
        yield from walk(tree[part], (part,))


def _from_ours(array: np.ndarray) -> np.ndarray:
    kernel = array.ndim == 4
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if kernel else array)


def _to_ours(array: np.ndarray) -> np.ndarray:
    kernel = array.ndim == 4
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if kernel else array)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in (3, 2, 0, 1)) if len(shape) == 4 else shape


def _prefix(tensors: Mapping[str, np.ndarray], where: str) -> str:
    """What stands before the names of the one ResNet in the file."""
    marks = (_STEM, "layer1.0.conv1.weight", "layer4.0.conv1.weight")
    prefixes = sorted(
        name.removesuffix(_STEM)
        for name in tensors
        if name == _STEM or name.endswith("." + _STEM)
    )
    prefixes = [p for p in prefixes if all(p + mark in tensors for mark in marks)]
    if len(prefixes) > 1:
        raise ValueError(
            f"{where}: the file holds {len(prefixes)} networks, under {prefixes}; "
            "expected one. Save the one that you mean by itself."
        )
    if not prefixes:
        raise ValueError(
            f"{where}: no ResNet in torchvision's or timm's layout: no '{marks[0]}', "
            f"'{marks[1]}', '{marks[2]}' among the {len(tensors)} tensors of the file, "
            f"which begin with {sorted(tensors)[:5]}."
        )
    return prefixes[0]


def _check_names(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, Any], where: str
) -> None:
    missing, extra = sorted(wanted.keys() - found), sorted(found.keys() - wanted)
    if missing or extra:
        raise ValueError(
            f"{where}: the file lacks {missing[:5]} ({len(missing)} in all) and has "
            f"{extra[:5]} ({len(extra)} in all) that this backbone does not know. "
            f"{_told(found, wanted)}"
        )


def _told(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What the file and the config hold, and what to do."""
    ours = {name: _Shape(leaf) for name, (_, leaf) in wanted.items()}
    return (
        f"The file holds {_network(found)}, the config wants {_network(ours)}. Change "
        "config.backbone, or start from other weights."
    )


class _Shape:
    """The shape that torchvision would give one of our leaves."""

    def __init__(self, leaf: Any) -> None:
        self.shape = _torch_shape(tuple(leaf.shape))


def _network(tensors: Mapping[str, Any]) -> str:
    """Depth and width in words, guessed from names and shapes."""
    blocks = [
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{n}.")})
        for n in range(1, 5)
    ]
    deep = any(re.match(r"layer\d+\.\d+\.conv3\.", name) for name in tensors)
    name = _BLOCKS.get((deep, tuple(blocks)), f"a ResNet of {blocks} blocks")
    shape = tuple(tensors[_STEM].shape)
    if len(shape) != 4:
        return name
    return f"{name} of width {shape[0]}"


def _as_float32(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(f"{what} holds {array.dtype}, expected floating point.")
    with np.errstate(over="ignore"):  # Said below.
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds numbers that are not finite in float32.")
    return array


def _stem(kernel: np.ndarray, channels: int, where: str) -> tuple[np.ndarray, str]:
    """The first kernel [out, in, height, width] for the wanted number of channels."""
    has = kernel.shape[1] if kernel.ndim == 4 else channels
    if has == channels:
        return kernel, f"{has} channels, as in the file"
    if channels == 1:
        summed = kernel.sum(1, keepdims=True, dtype=np.float64).astype(np.float32)
        return summed, f"{has} channels summed to 1"
    if has == 1:
        divided = np.repeat(kernel / np.float32(channels), channels, axis=1)
        return divided, f"1 channel divided over {channels}"
    raise ValueError(
        f"{where}: the stem has {has} channels, config.backbone.in_channels wants "
        f"{channels}. Set in_channels to {has} or 1."
    )
