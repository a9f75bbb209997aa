"""What a file of weights holds, by its names and shapes, as options of a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtpret_jax.models import vit_families
from mtpret_jax.weights import (
    identify_vit,
    layout_convnext,
    layout_densenet,
    layout_swin,
    resnet,
)

Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Identity:
    """A backbone that a file may hold.

    Attributes:
      about: Architecture, size and layout in words.
      options: What `config.backbone` needs, so that a run can start from the file.
      left_out: Names of the file that a backbone has no place for, sorted.
    """

    about: str
    options: Mapping[str, Any]
    left_out: tuple[str, ...]


def identify(tensors: Tensors, where: str) -> list[Identity]:
    """Every backbone that fits a file's names and shapes.

    More than one where the file cannot tell: DeiT and MAE, for example, have the same
    names and shapes.

    Args:
      tensors: By the file's names.
      where: Begins a message: the file.

    Raises:
      ValueError: If no backbone that is known here fits.
    """
    refusals = []
    for look in (_resnet, _densenet, _convnext, _swin, _vit):
        try:
            return look(tensors, where)
        except ValueError as error:
            refusals.append(str(error))
    # The families say "no ... among the tensors"; one that knows more says more.
    telling = [text for text in refusals if " among the " not in text]
    begin = sorted(tensors)[:5]
    raise ValueError(
        telling[0]
        if telling
        else f"{where}: no ResNet, DenseNet, ConvNeXt, Swin or ViT in a layout that is "
        f"known here among the {len(tensors)} tensors of the file, which begin with "
        f"{begin}."
    )


def _resnet(tensors: Tensors, where: str) -> list[Identity]:
    about, channels, left_out = resnet.identify(tensors, where)
    depth, _, width = about.removeprefix("ResNet-").partition(" of width ")
    if not depth.isdigit():
        raise ValueError(f"{where}: {about}, which is no size that is known here.")
    options = {"name": f"resnet{depth}", "width": int(width), "in_channels": channels}
    return [Identity(f"{about}, in the layout of torchvision", options, left_out)]


def _staged(family: Any, name: Callable[[str], str]) -> Callable[..., list[Identity]]:
    def look(tensors: Tensors, where: str) -> list[Identity]:
        found = family.identify(tensors, where)
        if not found.size:
            raise ValueError(
                f"{where}: a {found.family} of {found.depths} blocks and width "
                f"{found.width}, which is no published size; known: "
                f"{list(family.sizes)}."
            )
        about = f"{found.family} {found.size}, in the layout of {found.layout}"
        options = {"name": name(found.size), "in_channels": found.in_channels}
        return [Identity(about, options, found.left_out)]

    return look


_densenet = _staged(layout_densenet.FAMILY, lambda size: f"densenet{size}")
_convnext = _staged(layout_convnext.FAMILY, lambda size: f"convnext_{size}")


def _swin(tensors: Tensors, where: str) -> list[Identity]:
    found = layout_swin.identify(tensors, where)
    if not found.size:
        raise ValueError(
            f"{where}: a Swin transformer of {found.depths} blocks and width "
            f"{found.width}, which is no published size."
        )
    about = f"Swin {found.size}, window {found.window}, in the layout of {found.layout}"
    options = {"name": f"swin_{found.size}", "in_channels": found.in_channels}
    return [Identity(about, options, found.left_out)]


def _vit(tensors: Tensors, where: str) -> list[Identity]:
    found = identify_vit.identify(tensors, where)
    if not found.size:
        raise ValueError(
            f"{where}: a vision transformer of {found.depth} blocks and width "
            f"{found.width}, which is no published size; known: "
            f"{list(identify_vit.SIZES.values())}."
        )
    identities = []
    for family in found.families:
        published = [
            name
            for name in found.published
            if identify_vit.PUBLISHED[name][0] == family
        ]
        shaped = f", as {' or '.join(published)}" if published else ""
        about = (
            f"ViT {found.size}, patches of {found.patch} px, family {family}{shaped}, "
            f"in the layout of {' or '.join(found.layouts)}"
        )
        options = {
            "name": f"vit_{found.size}",
            "family": family,
            "in_channels": found.in_channels,
        }
        if found.image_size not in (0, vit_families.FAMILIES[family].image_size):
            options["positions"] = found.image_size
        identities.append(Identity(about, options, found.left_out))
    return identities
