"""Trees of ours as named arrays with PyTorch's axes, and back.

Our name of an array has dots between its modules and PyTorch's word at its end:
`layer1_0/conv1/kernel` is `layer1_0.conv1.weight`. Kernels are stored height, width,
in, out instead of out, in, height, width (dense ones in, out instead of out, in), and
running statistics are a tree of their own. What libraries call them is in the other
modules here.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Tree = Any
Tensors = dict[str, np.ndarray]
VARIANCE, COUNTER = ".running_var", ".num_batches_tracked"
_KERNEL = "kernel"
_LEAVES = {
    ("params", _KERNEL): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("model_state", "mean"): "running_mean",
    ("model_state", "var"): "running_var",
}
_AXES_OUT = {4: (3, 2, 0, 1), 2: (1, 0)}  # of kernels, by their number of axes
_AXES_IN = {4: (2, 3, 1, 0), 2: (1, 0)}


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
      name: Ours, or another library's.
      place: Keys that lead to it in our tree.
      leaf: The array, or what has its `shape`.
    """

    name: str
    place: tuple[str, ...]
    leaf: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """With PyTorch's axes."""
        shape = tuple(self.leaf.shape)
        if self.place[-1] != _KERNEL:
            return shape
        return tuple(shape[axis] for axis in _AXES_OUT[len(shape)])

    @property
    def array(self) -> np.ndarray:
        """With PyTorch's axes, float32; ValueError where a number is not finite."""
        array = as_float32(np.asarray(self.leaf), f"'{self.name}'")
        if self.place[-1] == _KERNEL:
            array = array.transpose(_AXES_OUT[array.ndim])
        return np.ascontiguousarray(array)


def entries(tree: Tree, rename: Callable[[str], str] = str) -> dict[str, Entry]:
    """The arrays of `{"params": ..., "model_state": ...}` by name, in its order.

    Args:
      tree: The arrays of one network, or what has their `shape`.
      rename: Our name of an array to another library's.
    """

    def walk(branch: Any, path: tuple[str, ...]) -> Iterator[Entry]:
        for key, value in branch.items():
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))
            else:
                last = _LEAVES.get((path[0], key)) or key
                name = rename(".".join((*path[1:], last)))
                yield Entry(name, (*path, key), value)

    return {
        entry.name: entry
        for part in ("params", "model_state")
        for entry in walk(tree.get(part, {}), (part,))
    }


def to_ours(
    found: Mapping[str, np.ndarray],
    wanted: Mapping[str, Entry],
    where: str,
    advice: str,
    *,
    stem: str = "",
) -> tuple[Tree, str]:
    """Named arrays as a tree of ours, and what was done to the stem.

    Args:
      found: Any floating dtype; PyTorch's axes.
      wanted: By the same names.
      where: Begins a message.
      advice: Ends it.
      stem: Name of the first kernel, which is fitted to the number of channels; "":
        there is none.

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
    said = ""
    for name, entry in wanted.items():
        array = found[name]
        if name == stem:
            array = as_float32(array, f"{where}: '{name}'")
            array, said = fit_stem(array, entry.shape[1], where)
        if array.shape != entry.shape:
            raise ValueError(
                f"{where}: '{name}' has shape {array.shape}, expected {entry.shape}. "
                f"{advice}"
            )
        array = as_float32(array, f"{where}: '{name}'")
        branch = tree
        for part in entry.place[:-1]:
            branch = branch.setdefault(part, {})
        if entry.place[-1] == _KERNEL:
            array = array.transpose(_AXES_IN[array.ndim])
        branch[entry.place[-1]] = np.ascontiguousarray(array)
    return tree, said


def find_prefix(
    tensors: Collection[str], marks: Sequence[str], where: str
) -> str | None:
    """What stands before a file's one network that has all of these names; or None.

    Raises:
      ValueError: If there are several.
    """
    first, *others = marks
    found = sorted(
        name.removesuffix(first)
        for name in tensors
        if name == first or name.endswith("." + first)
    )
    found = [p for p in found if all(p + mark in tensors for mark in others)]
    if len(found) > 1:
        raise ValueError(
            f"{where}: the file holds {len(found)} networks, under {found}; "
            "expected one. Save the one that you mean by itself."
        )
    return found[0] if found else None


def add_counters(tensors: Tensors) -> None:
    """Adds what BatchNorm counts, zero, which PyTorch wants to load strictly."""
    for name in [name for name in tensors if name.endswith(VARIANCE)]:
        tensors[name.removesuffix(VARIANCE) + COUNTER] = np.zeros((), np.int64)


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


def stem_for(kernel: np.ndarray, channels: int) -> tuple[np.ndarray, str]:
    """The same for a kernel of ours and any number of channels that a library takes."""
    said = []
    if kernel.shape[1] not in (1, channels):
        kernel, first = fit_stem(kernel, 1, "export")
        said.append(first)
    kernel, last = fit_stem(kernel, channels, "export")
    return kernel, ", ".join([*said, last])
