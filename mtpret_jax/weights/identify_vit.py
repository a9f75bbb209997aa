"""Which vision transformer a file holds, as far as names and shapes can tell.

Several published networks share all names and shapes (RAD-DINO and DINOv2 of size base;
DeiT and MAE), but not what they expect of pixels, nor what stands for the image. They
are listed; to choose is the user's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import layout_vit, vit_names

_REQUIRED = ("class_token", "patch_embed.bias", "norm.weight", "norm.bias")
_DENSE = ("query", "key", "value", "proj", "fc1", "fc2", "gate", "up")
_WIDE = ("mlp.fc1", "mlp.gate", "mlp.up", "mlp.norm")
SIZES: Mapping[tuple[int, int], str] = {
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
}
# Published networks: family, patch, sizes.
PUBLISHED: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "DeiT": ("deit", 16, ("tiny", "small", "base")),
    "MAE": ("mae", 16, ("base", "large")),
    "Medical MAE": ("mae", 16, ("small", "base")),
    "DINOv2": ("dinov2", 14, ("small", "base", "large")),
    "RAD-DINO": ("dinov2", 14, ("base",)),
    "DINOv2 with registers": ("dinov2_registers", 14, ("small", "base", "large")),
    "CXformer": ("dinov2_registers", 14, ("small", "base")),
    "EVA-X": ("eva_x", 16, ("tiny", "small")),
    "EVA-X, base": ("eva_x_normed", 16, ("base",)),
    "DINOv3": ("dinov3", 16, ("small", "base", "large")),
    "DINOv3 plus": ("dinov3_gated", 16, ("small",)),
}


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a file holds.

    Attributes:
      families: Those that fit, of `vit_names.FAMILIES`; more than one where a file
        cannot tell.
      published: Published networks of that shape, of `PUBLISHED`; none where the size
        or patch is of nobody's.
      layouts: Those that explain every name, of `vit_names.LAYOUTS`.
      size: A row of `SIZES`; "" for another.
      width: Channels of a token.
      depth: Blocks.
      patch: Side of a patch, pixels.
      image_size: Side of the images whose positions were learned, pixels; 0: none were.
      registers: Number of register tokens.
      in_channels: Channels of the images.
      left_out: Names of the file that are no part of the network.
    """

    families: tuple[str, ...]
    published: tuple[str, ...]
    layouts: tuple[str, ...]
    size: str
    width: int
    depth: int
    patch: int
    image_size: int
    registers: int
    in_channels: int
    left_out: tuple[str, ...]


def identify(tensors: Mapping[str, np.ndarray], where: str) -> Identity:
    """What a file's names and shapes tell; the numbers are not looked at.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If no layout explains the names, blocks differ or are missing, or the
        network is of no family.
    """
    found = layout_vit.read(tensors, where)
    arrays = found.arrays
    kernel = tuple(arrays[layout_vit.PATCHES].shape)
    if len(kernel) != 4 or kernel[2] != kernel[3]:
        raise ValueError(
            f"{where}: the patches' kernel has shape {kernel}, expected (width, "
            "channels, side, side)."
        )
    width, channels, _, patch = kernel
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise ValueError(f"{where}: a vision transformer without {missing}.")
    depth = _depth(arrays, where)
    if not found.families:
        raise ValueError(
            f"{where}: {layout_vit.describe(arrays)}, but of none of the families "
            f"{list(vit_names.FAMILIES)}."
        )
    _check_shapes(arrays, width, 8 / 3 if "eva_x" in found.families[0] else 4.0, where)
    size = SIZES.get((width, depth), "")
    published = tuple(
        name
        for name, (family, side, sizes) in PUBLISHED.items()
        if family in found.families and side == patch and size in sizes
    )
    table, registers = arrays.get("positions"), arrays.get("registers")
    return Identity(
        families=found.families,
        published=published,
        layouts=found.layouts,
        size=size,
        width=width,
        depth=depth,
        patch=patch,
        image_size=0 if table is None else math.isqrt(len(table) - 1) * patch,
        registers=0 if registers is None else len(registers),
        in_channels=channels,
        left_out=found.left_out,
    )


def _depth(arrays: Mapping[str, Any], where: str) -> int:
    """Number of blocks, all of the same arrays and numbered from 0."""
    blocks: dict[str, set[str]] = {}
    for name in arrays:
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            blocks.setdefault(number, set()).add(rest)
    depth = len(blocks)
    if set(blocks) != {str(number) for number in range(depth)} or not depth:
        raise ValueError(
            f"{where}: blocks {sorted(blocks, key=int)} are not numbered from 0 on."
        )
    if any(names != blocks["0"] for names in blocks.values()):
        odd = next(key for key, names in blocks.items() if names != blocks["0"])
        differing = sorted(blocks[odd] ^ blocks["0"])
        raise ValueError(
            f"{where}: blocks 0 and {odd} are not alike: only one has {differing[:5]}."
        )
    return depth


def _check_shapes(
    arrays: Mapping[str, Any], width: int, ratio: float, where: str
) -> None:
    """Raises ValueError for an array whose shape does not go with the width."""
    wide = int(width * ratio)
    for name, array in arrays.items():
        shape, module = tuple(array.shape), name.rsplit(".", 1)[0]
        if name == layout_vit.PATCHES:
            continue
        outputs = wide if module.endswith(_WIDE) else width
        expected: tuple[int, ...] = (outputs,)
        if name in ("positions", "registers"):
            expected = (len(array), width)
        elif name.endswith(".weight") and module.endswith(_DENSE):
            expected = (outputs, wide if module.endswith("fc2") else width)
        if shape != expected:
            raise ValueError(
                f"{where}: '{name}' has shape {shape}, expected {expected} in a ViT of "
                f"width {width}."
            )
