"""Trees of arrays: compared by names and shapes, and put in each other's place."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from mtpret_jax import types


class Unfit(ValueError):
    """Arrays of other names or shapes than wanted."""


def refuse_unlike(
    found: types.Tree, wanted: types.Tree, what: str, who: str, *, more: bool = False
) -> None:
    """Refuses arrays whose names or shapes are not those of `wanted`.

    Args:
      found: Leaves with `shape`.
      wanted: The same.
      what: Where they were found.
      who: Who wants the others.
      more: Whether there may be others besides.

    Raises:
      Unfit: If they differ.
    """
    there, ours = _by_path(found), _by_path(wanted)
    missing, extra = sorted(ours.keys() - there.keys()), sorted(there.keys() - ours)
    if missing or (extra and not more):
        raise Unfit(
            f"{what}: the file lacks {missing[:5]} ({len(missing)} in all) and has "
            f"{extra[:5]} ({len(extra)} in all) that {who} does not know."
        )
    for path, array in ours.items():
        if tuple(there[path].shape) != tuple(array.shape):
            raise Unfit(
                f"{what}: '{path}' has shape {tuple(there[path].shape)} in the file, "
                f"{tuple(array.shape)} in {who}."
            )


def graft(current: types.Tree, loaded: types.Tree, what: str) -> types.Tree:
    """Puts loaded arrays in place of `current` ones, of the same structure.

    Raises:
      ValueError: If keys or shapes differ; the message lists both sides' extra keys.
    """
    refuse_unlike(loaded, current, what, "this run")
    new = _by_path(loaded)
    leaves = [
        jax.device_put(np.asarray(new[path], array.dtype), array.sharding)
        for path, array in _by_path(current).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(current), leaves)


def _by_path(tree: types.Tree) -> dict[str, Any]:
    """Leaves by their names, joined by dots, in the order of the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
