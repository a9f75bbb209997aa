"""Names and axes of ResNet weights: torchvision's (and timm's) and ours, both ways.

torchvision and timm share one layout for ResNet-18 and ResNet-50. Ours differs in
three things: `layer1.0` is `layer1_0`, kernels are stored height, width, in, out
instead of out, in, height, width (dense ones in, out instead of out, in), and running
statistics are a tree of their own. `conversion` does the same for what has a head.

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
from collections.abc import Callable, Iterator, Mapping
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
STEM = "conv1.weight"
_CLASSIFIER = "fc."  # torchvision's and timm's last layer, not part of a backbone
COUNTER = ".num_batches_tracked"
_AXES_OUT = {4: (3, 2, 0, 1), 2: (1, 0)}  # of kernels, by their number of axes
_AXES_IN = {4: (2, 3, 1, 0), 2: (1, 0)}
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
      left_out: Names of the file that are not part of the tree, sorted.
      prefix: What stands before the backbone's names in the file.
    """

    tree: Tree
    stem: str
    left_out: tuple[str, ...]
    prefix: str


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One array of a tree of ours.

    Attributes:
      name: In torchvision.
      place: Keys that lead to it in our tree.
      leaf: The array, or what has its `shape`.
    """

    name: str
    place: tuple[str, ...]
    leaf: Any


def to_torchvision(tree: Tree) -> dict[str, np.ndarray]:
    """Our backbone under torchvision's names.

    Args:
      tree: `{"params": ..., "model_state": ...}` of a ResNet backbone.

    Returns:
      float32 arrays, kernels as [out, in, height, width], without `fc.*` and
      `num_batches_tracked`, which `load_state_dict(strict=False)` leaves alone.
    """
    return {entry.name: from_ours(entry) for entry in _entries(tree, "export")}


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
    wanted = {entry.name: entry for entry in _entries(expected, where)}
    prefix = _prefix(tensors, where)
    found = {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    left_out = {name for name in tensors if not name.startswith(prefix)}
    for name in sorted(found):
        if name.startswith(_CLASSIFIER) or name.endswith(COUNTER):
            del found[name]
            left_out.add(prefix + name)
    channels = wanted[STEM].leaf.shape[2]
    kernel = as_float32(found[STEM], f"{where}: '{STEM}'")
    found[STEM], stem = fit_stem(kernel, channels, where)
    tree = to_ours(found, wanted, where, _told(found, wanted))
    left_out = {name for name in left_out if not name.endswith(COUNTER)}
    return Converted(tree, stem, tuple(sorted(left_out)), prefix)


def entries(tree: Tree, rename: Callable[[str], str]) -> Iterator[Entry]:
    """The arrays of `{"params": ..., "model_state": ...}`, in its order.

    Args:
      tree: The arrays of one module.
      rename: Our module's name, with dots between its parts, to torchvision's.
    """

    def walk(branch: Any, path: tuple[str, ...]) -> Iterator[Entry]:
        for key, value in branch.items():
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))
            else:
                last = _LEAVES.get((path[0], key))
                if last is None:
                    raise ValueError(f"'{key}' of {path} has no name in torchvision.")
                yield Entry(f"{rename('.'.join(path[1:]))}.{last}", (*path, key), value)

    for part in ("params", "model_state"):
        yield from walk(tree[part], (part,))


def to_ours(
    found: Mapping[str, np.ndarray],
    wanted: Mapping[str, Entry],
    where: str,
    advice: str,
) -> Tree:
    """Arrays under torchvision's names as a tree of ours.

    Args:
      found: Any floating dtype; torchvision's axes.
      wanted: By the same names.
      where: Begins a message.
      advice: Ends it.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    missing, extra = sorted(wanted.keys() - found), sorted(found.keys() - wanted)
    if missing or extra:
        raise ValueError(
            f"{where}: the file lacks {missing[:5]} ({len(missing)} in all) and has "
            f"{extra[:5]} ({len(extra)} in all) that this network does not know. "
            f"{advice}"
        )
    tree: Tree = {"params": {}, "model_state": {}}
    for name, entry in wanted.items():
        array, shape = found[name], _torch_shape(tuple(entry.leaf.shape))
        if array.shape != shape:
            raise ValueError(
                f"{where}: '{name}' has shape {array.shape}, expected {shape}. {advice}"
            )
        array = as_float32(array, f"{where}: '{name}'")
        branch = tree
        for part in entry.place[:-1]:
            branch = branch.setdefault(part, {})
        branch[entry.place[-1]] = np.ascontiguousarray(
            array.transpose(_AXES_IN.get(array.ndim))
        )
    return tree


def from_ours(entry: Entry) -> np.ndarray:
    """An array of ours with torchvision's axes, float32."""
    array = as_float32(np.asarray(entry.leaf), f"'{entry.name}'")
    return np.ascontiguousarray(array.transpose(_AXES_OUT.get(array.ndim)))


def _entries(tree: Tree, where: str) -> list[Entry]:
    """The arrays of a backbone; `where` begins a message.

    Raises:
      ValueError: If it is not a ResNet.
    """
    if tree["params"] and STEM.partition(".")[0] not in tree["params"]:
        raise ValueError(
            f"{where}: weights of this backbone can't be exchanged with torchvision: "
            "of its backbones, only ResNets are read and written."
        )
    return list(
        entries(
            tree,
            lambda name: re.sub(r"\b(layer\d+|downsample)_(\d+)\b", r"\1.\2", name),
        )
    )


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


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _AXES_OUT.get(len(shape), range(len(shape)))
    return tuple(shape[axis] for axis in axes)


def _prefix(tensors: Mapping[str, np.ndarray], where: str) -> str:
    """What stands before the names of the one ResNet in the file."""
    marks = (STEM, "layer1.0.conv1.weight", "layer4.0.conv1.weight")
    prefixes = sorted(
        name.removesuffix(STEM)
        for name in tensors
        if name == STEM or name.endswith("." + STEM)
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


def _told(found: Mapping[str, np.ndarray], wanted: Mapping[str, Entry]) -> str:
    """What the file and the config hold, and what to do."""
    ours = {n: _torch_shape(tuple(entry.leaf.shape)) for n, entry in wanted.items()}
    theirs = {name: array.shape for name, array in found.items()}
    return (
        f"The file holds {_network(theirs)}, the config wants {_network(ours)}. Change "
        "config.backbone, or start from other weights."
    )


def _network(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Depth and width in words, guessed from names and shapes."""
    blocks = [
        len({name.split(".")[1] for name in shapes if name.startswith(f"layer{n}.")})
        for n in range(1, 5)
    ]
    deep = any(re.match(r"layer\d+\.\d+\.conv3\.", name) for name in shapes)
    name = _BLOCKS.get((deep, tuple(blocks)), f"a ResNet of {blocks} blocks")
    return f"{name} of width {shapes[STEM][0]}" if len(shapes[STEM]) == 4 else name


def as_float32(array: np.ndarray, what: str) -> np.ndarray:
    """The same numbers; ValueError where they are none or not finite."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(f"{what} holds {array.dtype}, expected floating point.")
    with np.errstate(over="ignore"):  # Said below.
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds numbers that are not finite in float32.")
    return array


def fit_stem(kernel: np.ndarray, channels: int, where: str) -> tuple[np.ndarray, str]:
    """The first kernel [out, in, height, width] for the wanted number of channels."""
    has = kernel.shape[1] if kernel.ndim == 4 else channels
    if has == channels:
        return kernel, f"{has} channels, unchanged"
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
