"""Weights of Swin transformers in timm's layout and its authors', and ours.

They differ in where a stage's halving is: timm (since 0.9) has it at the beginning of
the stage after it, the authors (and Ark's files) at the end of the stage before it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import arrays

Tree = Any
LAYOUTS = ("timm", "authors")
STEM = "patch_embed.proj.weight"
_MARK = "layers.0.blocks.0.attn.relative_position_bias_table"
_PARTS = ("query", "key", "value")
# Flat names of ours, as patterns, and timm's.
_NAMES: Mapping[str, str] = {
    r"^patch_embed\.": "patch_embed.proj.",
    r"^patch_norm\.": "patch_embed.norm.",
    r"^layers_(\d+)_blocks_(\d+)\.": r"layers.\1.blocks.\2.",
    r"^layers_(\d+)_downsample_(norm|reduction)\.": r"layers.\1.downsample.\2.",
    r"\.mlp_(fc[12])\.": r".mlp.\1.",
    r"\.attn\.offsets$": ".attn.relative_position_bias_table",
}
# Heads of the authors, timm and Ark, and buffers that follow from sizes.
_NOT_OURS = re.compile(
    r"(head|omni_heads|classifier|projector|projection_head)\..*"
    r"|.*\.(attn_mask|relative_position_index)"
)
_SIZES: Mapping[tuple[int, int], str] = {
    (96, 6): "tiny",
    (96, 18): "small",
    (128, 18): "base",
    (192, 18): "large",
}


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a file holds.

    Attributes:
      size: "tiny", "small", "base" or "large"; "" for another.
      width: Channels of the first stage.
      depths: Blocks of each stage.
      heads: Heads of each stage.
      window: Side of a window, tokens.
      in_channels: Channels of the images.
      layout: One of `LAYOUTS`.
      left_out: Names of the file that are no part of the network.
    """

    size: str
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    in_channels: int
    layout: str
    left_out: tuple[str, ...]


def identify(tensors: Mapping[str, np.ndarray], where: str) -> Identity:
    """What a file's names and shapes tell; the numbers are not looked at.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If there is no Swin transformer, or more than one, or a part of it is
        missing.
    """
    found, left_out, _, kind = _read(tensors, where)
    blocks = sorted(
        (int(hit[1]), int(hit[2]))
        for name in found
        if (hit := re.fullmatch(r"layers\.(\d+)\.blocks\.(\d+)\.norm1\.weight", name))
    )
    depths = tuple(
        sum(1 for stage, _ in blocks if stage == number)
        for number in range(1 + max(stage for stage, _ in blocks))
    )
    if blocks != [(s, b) for s, depth in enumerate(depths) for b in range(depth)]:
        raise ValueError(f"{where}: a Swin transformer whose blocks are {blocks}.")
    tables = [
        found.get(_MARK.replace("layers.0", f"layers.{stage}"))
        for stage in range(len(depths))
    ]
    heads = tuple(0 if table is None else table.shape[-1] for table in tables)
    window = (round(len(found[_MARK]) ** 0.5) + 1) // 2
    kernel = tuple(found[STEM].shape)
    if len(kernel) != 4 or 0 in heads or len(found[_MARK]) != (2 * window - 1) ** 2:
        raise ValueError(
            f"{where}: a Swin transformer with a first kernel of shape {kernel}, "
            f"{heads} heads and {len(found[_MARK])} offsets, which is none."
        )
    return Identity(
        size=_SIZES.get((kernel[0], depths[2] if len(depths) > 2 else 0), ""),
        width=kernel[0],
        depths=depths,
        heads=heads,
        window=window,
        in_channels=kernel[1],
        layout=kind,
        left_out=left_out,
    )


def to_ours(
    tensors: Mapping[str, np.ndarray], expected: Tree, where: str
) -> arrays.Converted:
    """A file's Swin transformer as a tree of ours.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      expected: Tree of what the backbone wants, leaves with `shape`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    found, left_out, prefix, _ = _read(tensors, where)
    wanted = arrays.entries(expected, _renamed)
    parts = {}
    for name, array in found.items():
        if ".attn.qkv." not in name:
            parts[name] = array
            continue
        if not array.ndim or len(array) % 3:
            raise ValueError(
                f"{where}: '{name}' has shape {array.shape}, expected 3 parts of one "
                "size along the first axis."
            )
        for part, piece in zip(_PARTS, np.split(array, 3), strict=True):
            parts[name.replace(".qkv.", f".{part}.")] = piece
    advice = "Change config.backbone, or start from other weights."
    tree, stem = arrays.to_ours(parts, wanted, where, advice, stem=STEM)
    return arrays.Converted(tree, stem, left_out, prefix)


def from_ours(tree: Tree, name: str) -> dict[str, np.ndarray]:
    """Our Swin transformer under the names of a layout.

    Args:
      tree: `{"params": ..., "model_state": {}}` of a Swin backbone.
      name: One of `LAYOUTS`.

    Returns:
      float32 arrays with PyTorch's axes; no buffers and no head.

    Raises:
      ValueError: If the layout is not known, or a number is not finite.
    """
    if name not in LAYOUTS:
        raise ValueError(f"'{name}' is no layout of Swin transformers: {LAYOUTS}.")
    ours = arrays.entries(tree, _renamed)
    written = {}
    for key, entry in ours.items():
        if ".attn.query." in key:
            parts = [ours[key.replace(".query.", f".{part}.")].array for part in _PARTS]
            written[key.replace(".query.", ".qkv.")] = np.concatenate(parts)
        elif ".attn.key." not in key and ".attn.value." not in key:
            written[key] = entry.array
    if name == "timm":
        return written
    return {_halving_moved(key, -1): array for key, array in written.items()}


def _read(
    tensors: Mapping[str, np.ndarray], where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str, str]:
    """Arrays under timm's names, what is left out, the prefix and the layout."""
    prefix = arrays.find_prefix(tensors, (_MARK, STEM), where)
    if prefix is None:
        raise ValueError(
            f"{where}: no Swin transformer: no '{STEM}' and '{_MARK}' among the "
            f"{len(tensors)} tensors of the file, which begin with "
            f"{sorted(tensors)[:5]}."
        )
    found, left_out = {}, []
    for name, array in tensors.items():
        short = name.removeprefix(prefix)
        if not name.startswith(prefix) or _NOT_OURS.fullmatch(short):
            left_out.append(name)
        else:
            found[short] = array
    kind = "timm"
    if "layers.0.downsample.reduction.weight" in found:
        kind = "authors"
        found = {_halving_moved(name, 1): array for name, array in found.items()}
    return found, tuple(sorted(left_out)), prefix, kind


def _halving_moved(name: str, stages: int) -> str:
    """The name with its halving so many stages later."""
    return re.sub(
        r"^layers\.(\d+)\.downsample\.",
        lambda hit: f"layers.{int(hit[1]) + stages}.downsample.",
        name,
    )


def _renamed(name: str) -> str:
    """Our flat name as timm's, but that queries, keys and values are apart."""
    for pattern, theirs in _NAMES.items():
        name = re.sub(pattern, theirs, name)
    return name
