"""Weights of backbones alone, in whichever library's layout a file has them.

| family   | layouts                                                                 |
|----------|-------------------------------------------------------------------------|
| ResNet   | torchvision, timm                                                       |
| DenseNet | torchvision of all versions, torchxrayvision                            |
| ConvNeXt | torchvision, timm, its authors, DINOv3, transformers                    |
| Swin     | timm, its authors, Ark                                                  |
| ViT      | timm, MAE, DINOv2, EVA-X and DINOv3 of their authors, transformers      |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax.weights import (
    arrays,
    layout_convnext,
    layout_densenet,
    layout_swin,
    layout_vit,
    resnet,
    vit_names,
)

Reader = Callable[[Mapping[str, np.ndarray], Any, str], arrays.Converted]
_CHANNELS = 3  # of the images that other libraries' networks take
# By what the rows of `models.BACKBONES` begin with.
READERS: Mapping[str, Reader] = {
    "resnet": resnet.from_torchvision,
    "densenet": layout_densenet.FAMILY.read,
    "convnext": layout_convnext.FAMILY.read,
    "swin": layout_swin.to_ours,
    "vit": layout_vit.to_ours,
}


def read(
    tensors: Mapping[str, np.ndarray],
    expected: Any,
    network: schema.BackboneConfig,
    where: str,
) -> arrays.Converted:
    """A file's backbone as one of ours.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      expected: Tree of what the backbone wants, leaves with `shape`; see
        `arrays.Converted`.
      network: Options of the backbone.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite; if the file
        is of another family, or of several and the config names none.
    """
    found = [one for name, one in READERS.items() if network.name.startswith(name)]
    reader = found[0] if found else resnet.from_torchvision  # which refuses it
    if reader is layout_vit.to_ours:
        _check_family(layout_vit.read(tensors, where).families, network.family, where)
    return reader(tensors, expected, where)


def write(
    tree: Any, network: schema.BackboneConfig, layout: str
) -> tuple[arrays.Tensors, str]:
    """A backbone of ours, but a ResNet, under another library's names.

    Args:
      tree: `{"params": ..., "model_state": ...}`.
      network: Options of the backbone.
      layout: A row of its family's layouts.

    Returns:
      float32 arrays, counters int64 []; what was done to the stem, in words.

    Raises:
      ValueError: If no library has such a backbone, or a number is not finite.
    """
    staged = {"densenet": layout_densenet.FAMILY, "convnext": layout_convnext.FAMILY}
    for name, family in staged.items():
        if network.name.startswith(name):
            return family.write(tree, layout, channels=_CHANNELS)
    if network.name.startswith("swin"):
        tensors, stem = layout_swin.from_ours(tree, layout), layout_swin.STEM
    else:
        tensors = layout_vit.from_ours(tree, layout)
        stem = vit_names.LAYOUTS[layout].patches
    tensors[stem], said = arrays.stem_for(tensors[stem], _CHANNELS)
    return tensors, said


def _check_family(fitting: tuple[str, ...], family: str, where: str) -> None:
    """Refuses a family that the file is not of, and to guess: both compute wrongly."""
    if fitting and family not in fitting:
        named = f"the config names '{family}'" if family else "the config names none"
        raise ValueError(
            f"{where}: the file is of the family {' or '.join(fitting)}, and {named}. "
            "Set config.backbone.family."
        )
