"""Weights of vision transformers in the layouts of libraries and families, and ours.

Between a file and our tree stand flat names: ours, with dots, and PyTorch's axes
(`blocks.3.attn.query.weight`). Every name of a file is used, or is of those that any
reader leaves out and told (`vit_names.NOT_OURS`), or refused.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import arrays, vit_names

Tree = Any
PATCHES = vit_names.PATCHES
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+\.)")  # of FSDP: blocks.CHUNK.NUMBER
_BIAS = re.compile(r"blocks\.\d+\.attn\.(query|value)\.bias")
_BIAS_MASK = ".attn.qkv.bias_mask"  # in DINOv3's own files; 0 for keys
_TOKENS = ("class_token", "positions", "registers")


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """A file's arrays under our flat names.

    Attributes:
      arrays: Ours; of what the file has.
      layouts: Names of the layouts that explain every name, the first one used.
      families: Those that fit, of `vit_names.FAMILIES`; none for a damaged network.
      left_out: Names of the file that are no part of the network, sorted.
      prefix: What stands before the network's names in the file.
    """

    arrays: Mapping[str, Any]
    layouts: tuple[str, ...]
    families: tuple[str, ...]
    left_out: tuple[str, ...]
    prefix: str


def read(tensors: Mapping[str, np.ndarray], where: str) -> Read:
    """A file's vision transformer, in whichever layout it is.

    Prefixes, such as `module.` or `teacher.backbone.`, are taken off; what lies outside
    them is left out.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If there is no such network, or more than one, or a name or the shape
        of a joined array is not known.
    """
    prefix = _prefix(tensors, where)
    found, left_out = {}, set()
    for name, array in tensors.items():
        short = _CHUNK.sub(r"blocks.\1", name.removeprefix(prefix))
        if not name.startswith(prefix) or vit_names.NOT_OURS.fullmatch(short):
            left_out.add(name)
        else:
            found[short] = array
    for name in [name for name in found if name.endswith(_BIAS_MASK)]:
        left_out.add(prefix + name)
        mask = found.pop(name)
        masked = name.removesuffix("_mask")
        if masked in found:
            found[masked] = found[masked] * (mask != 0).astype(found[masked].dtype)
    layouts, families = _fitting(found, where)
    ours = _parts(found, vit_names.LAYOUTS[layouts[0]], where)
    return Read(ours, layouts, families, tuple(sorted(left_out)), prefix)


def _fitting(
    found: Collection[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layouts that explain all names, those of a whole family first, and families."""
    unknown, families = {}, {}
    for key, one in vit_names.LAYOUTS.items():
        ours = {name: one.find(name) for name in found}
        unknown[key] = sorted(name for name, parts in ours.items() if parts is None)
        families[key] = one.fits(
            {part for parts in ours.values() for part in parts or ()}
        )
    fewest = min(len(names) for names in unknown.values())
    layouts = [key for key, names in unknown.items() if len(names) == fewest]
    if fewest:
        strange = unknown[layouts[0]]
        raise ValueError(
            f"{where}: no layout of vision transformers that is known here; nearest "
            f"is {layouts[0]}, which does not know {strange[:5]} ({fewest} in all)."
        )
    whole = [key for key in layouts if families[key]] or layouts
    return tuple(whole), tuple(
        dict.fromkeys(name for key in whole for name in families[key])
    )


def to_ours(
    tensors: Mapping[str, np.ndarray], expected: Tree, where: str
) -> arrays.Converted:
    """A file's vision transformer as a tree of ours.

    A patch embedding for three channels becomes one for a single channel, and the other
    way round, as a ResNet's stem does. Where a file has no biases of queries and values
    at all (DINOv3 in timm, whose biases came out as zero), they are zero.

    Args:
      tensors: See `read`.
      expected: Tree of what the backbone wants, leaves with `shape`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    found = read(tensors, where)
    wanted, ours = arrays.entries(expected, _numbered), dict(found.arrays)
    if not any(_BIAS.fullmatch(name) for name in ours):
        for name in filter(_BIAS.fullmatch, wanted):
            ours[name] = np.zeros(wanted[name].shape, np.float32)
    advice = (
        f"The file holds {describe(ours)}, the config wants {describe(wanted)}. "
        "Change config.backbone, or start from other weights."
    )
    tree, stem = arrays.to_ours(ours, wanted, where, advice, stem=PATCHES)
    return arrays.Converted(tree, stem, found.left_out, found.prefix)


def from_ours(tree: Tree, name: str) -> arrays.Tensors:
    """Our vision transformer under a layout's names.

    Args:
      tree: `{"params": ..., "model_state": {}}` of a ViT backbone.
      name: A row of `vit_names.LAYOUTS`.

    Returns:
      float32 arrays with PyTorch's axes; a mask token of zeros where the library wants
      one, no buffers and no head.

    Raises:
      ValueError: If the ViT is of no family of the layout, or a number is not finite.
    """
    chosen = vit_names.LAYOUTS[name]
    flat = {key: one.array for key, one in arrays.entries(tree, _numbered).items()}
    if not chosen.fits(flat):
        raise ValueError(
            f"'{name}' is a layout of {list(chosen.families)}, which this ViT is not; "
            f"known layouts: {list(vit_names.LAYOUTS)}."
        )
    if chosen.folds_class_position and "registers" in flat:
        flat["class_token"] = flat["class_token"] + flat["positions"][0]
        flat["positions"] = flat["positions"][1:]
    blocks = {key.split(".")[1] for key in flat if key.startswith("blocks.")}
    written: arrays.Tensors = {}
    for ours, theirs in chosen.rules:
        for number in sorted(blocks) if "{}" in theirs else [""]:
            parts = [part.format(number) for part in ours]
            if not set(filter(None, parts)) <= flat.keys():
                continue
            zeros = np.zeros_like(flat[parts[0]])
            joined = [flat[part] if part else zeros for part in parts]
            array = np.concatenate(joined) if len(parts) > 1 else joined[0]
            if parts[0] in _TOKENS:
                array = array.reshape(1, -1, array.shape[-1])
            written[theirs.format(number)] = np.ascontiguousarray(array)
    if chosen.mask_token:
        token, axes = chosen.mask_token
        width = len(flat["class_token"])
        written[token] = np.zeros((*(1,) * (axes - 1), width), np.float32)
    return written


def describe(ours: Mapping[str, Any]) -> str:
    """Size, patch and grid in words, from our names and what has shapes."""
    kernel = tuple(ours[PATCHES].shape)
    depth = len({name.split(".")[1] for name in ours if name.startswith("blocks.")})
    said = f"a ViT of width {kernel[0]}, {depth} blocks, patches of {kernel[-1]}"
    if "positions" in ours:
        side = math.isqrt(ours["positions"].shape[0] - 1)
        said += f", positions for {side * kernel[-1]} pixels"
    if "registers" in ours:
        said += f", {ours['registers'].shape[0]} registers"
    return said


def _numbered(name: str) -> str:
    """Our name with the block's number by itself."""
    return re.sub(r"^blocks_(\d+)", r"blocks.\1", name)


def _prefix(tensors: Mapping[str, np.ndarray], where: str) -> str:
    """What stands before the names of the one vision transformer in the file."""
    marks = sorted({one.patches for one in vit_names.LAYOUTS.values()})
    for mark in marks:
        prefix = arrays.find_prefix(tensors, (mark,), where)
        if prefix is not None:
            return prefix
    raise ValueError(
        f"{where}: no vision transformer: none of {marks} among the {len(tensors)} "
        f"tensors of the file, which begin with {sorted(tensors)[:5]}."
    )


def _parts(
    found: Mapping[str, np.ndarray], chosen: vit_names.Layout, where: str
) -> dict[str, np.ndarray]:
    """A file's arrays under our names: joined ones apart, tokens without empty axes."""
    parts = {}
    for name, array in found.items():
        ours = chosen.find(name) or ()
        if array.ndim == 0 or len(array) % len(ours):
            raise ValueError(
                f"{where}: '{name}' has shape {array.shape}, expected {len(ours)} "
                "parts of one size along the first axis."
            )
        for part, piece in zip(ours, np.split(array, len(ours)), strict=True):
            if part in _TOKENS:
                piece = _squeezed(piece, part, f"{where}: '{name}'")
            if part:
                parts[part] = piece
            elif np.any(piece):
                raise ValueError(
                    f"{where}: '{name}' has a bias for keys, which this family does "
                    "not have."
                )
    return parts


def _squeezed(array: np.ndarray, part: str, what: str) -> np.ndarray:
    """A token [D] or tokens [N, D] of [1, N, D]; positions always with the class's."""
    single = part == "class_token"
    if array.ndim != 3 or len(array) != 1 or (single and array.shape[1] != 1):
        raise ValueError(
            f"{what} has shape {array.shape}, expected (1, tokens, width)."
        )
    array = array[0, 0] if single else array[0]
    if part != "positions":
        return array
    side = math.isqrt(len(array))
    if side * side == len(array):  # The class token has no position: timm's registers.
        return np.concatenate([np.zeros_like(array[:1]), array])
    if (side * side) + 1 != len(array):
        raise ValueError(
            f"{what} has {len(array)} positions, expected those of a square grid, with "
            "or without one for a class token."
        )
    return array
