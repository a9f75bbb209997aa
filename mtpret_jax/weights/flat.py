"""Trees of ours as flat names with dots and PyTorch's axes, and back.

For networks without batch statistics: `blocks_3/attn/query/kernel` is
`blocks.3.attn.query.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import resnet

Tree = Any
Arrays = dict[str, np.ndarray]
Entry = tuple[tuple[str, ...], Any]  # keys that lead to a leaf, and the leaf
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_AXES_OUT = {4: (3, 2, 0, 1), 2: (1, 0)}  # of kernels, by their number of axes
_AXES_IN = {4: (2, 3, 1, 0), 2: (1, 0)}


def entries(tree: Tree) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Arrays name, keys and array of each leaf of `{"params": ...}`, in its order."""

    def walk(branch: Any, path: tuple[str, ...]) -> Iterator[Any]:
        for key, value in branch.items():
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))
            else:
                place = (*path, key)
                name = ".".join((*path, _LEAVES.get(key) or key))
                yield re.sub(r"^blocks_(\d+)", r"blocks.\1", name), place, value

    yield from walk(tree["params"], ())


def placed(
    arrays: Arrays, wanted: Mapping[str, Entry], stem: str, where: str, advice: str
) -> tuple[Tree, str]:
    """Arrays under flat names as a tree of ours, and what was done to the stem.

    Args:
      arrays: Any floating dtype, PyTorch's axes.
      wanted: By the same names; see `entries`.
      stem: Name of the first kernel, which is fitted to the number of channels.
      where: Begins a message.
      advice: Ends it.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    missing, extra = sorted(wanted.keys() - arrays), sorted(arrays.keys() - wanted)
    if missing or extra:
        raise ValueError(
            f"{where}: the file lacks {missing[:5]} ({len(missing)} in all) and has "
            f"{extra[:5]} ({len(extra)} in all) that this network does not know. "
            f"{advice}"
        )
    shapes = shapes_of(wanted)
    tree: Tree = {"params": {}, "model_state": {}}
    said = ""
    for name, (place, _) in wanted.items():
        array = resnet.as_float32(arrays[name], f"{where}: '{name}'")
        if name == stem:
            array, said = resnet.fit_stem(array, shapes[name].shape[1], where)
        if array.shape != shapes[name].shape:
            raise ValueError(
                f"{where}: '{name}' has shape {array.shape}, expected "
                f"{shapes[name].shape}. {advice}"
            )
        branch = tree["params"]
        for part in place[:-1]:
            branch = branch.setdefault(part, {})
        if place[-1] == "kernel":
            array = array.transpose(_AXES_IN[array.ndim])
        branch[place[-1]] = np.ascontiguousarray(array)
    return tree, said


def shapes_of(wanted: Mapping[str, Entry]) -> dict[str, np.ndarray]:
    """Arrays of zeros, which take no memory, of the shapes that PyTorch would give."""
    return {
        name: np.broadcast_to(np.float32(0), _shape(place, leaf))
        for name, (place, leaf) in wanted.items()
    }


def arrays_of(tree: Tree) -> Arrays:
    """The arrays of `{"params": ...}` under flat names, float32, PyTorch's axes."""
    arrays = {}
    for name, place, leaf in entries(tree):
        array = resnet.as_float32(np.asarray(leaf), f"'{name}'")
        if place[-1] == "kernel":
            array = array.transpose(_AXES_OUT[array.ndim])
        arrays[name] = array
    return arrays


def _shape(place: tuple[str, ...], leaf: Any) -> tuple[int, ...]:
    """The shape that PyTorch would give one of our leaves."""
    shape = tuple(leaf.shape)
    if place[-1] != "kernel":
        return shape
    return tuple(shape[axis] for axis in _AXES_OUT[len(shape)])
