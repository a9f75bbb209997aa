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

from mtpret_jax.weights import (
    layout_convnext,
    layout_densenet,
    layout_swin,
    layout_vit,
    resnet,
)

Reader = Callable[[Mapping[str, np.ndarray], Any, str], resnet.Converted]
# By what the rows of `models.BACKBONES` begin with.
READERS: Mapping[str, Reader] = {
    "resnet": resnet.from_torchvision,
    "densenet": layout_densenet.FAMILY.read,
    "convnext": layout_convnext.FAMILY.read,
    "swin": layout_swin.to_ours,
    "vit": layout_vit.to_ours,
}


def read(
    tensors: Mapping[str, np.ndarray], expected: Any, backbone: str, where: str
) -> resnet.Converted:
    """A file's backbone as one of ours.

    Args:
      tensors: Any floating dtype, PyTorch's axes.
      expected: Tree of what the backbone wants, leaves with `shape`; see
        `resnet.Converted`.
      backbone: A row of `models.BACKBONES`.
      where: Begins a message, for example the option and file.

    Raises:
      ValueError: If names or shapes do not fit, or a number is not finite.
    """
    found = [one for name, one in READERS.items() if backbone.startswith(name)]
    reader = found[0] if found else resnet.from_torchvision  # which refuses it
    return reader(tensors, expected, where)
