"""DeepLabV3 in PyTorch: torchvision's network, dilated and sized as ours is.

torchvision dilates no ResNet-18; its blocks are dilated here after they are built, as
our backbone does it.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch.nn import functional
from torchvision.models import segmentation

from benchmarks import harness
from benchmarks.reference import training


def dilate(backbone: torch.nn.Module, output_stride: int) -> None:
    """Replaces strides of the last levels by dilation, in place.

    Args:
      backbone: A ResNet of torchvision with strides of 4, 8, 16 and 32 pixels.
      output_stride: That the last level shall have, pixels.
    """
    dilation = 1
    for level, stride in ((backbone.layer3, 16), (backbone.layer4, 32)):
        if stride <= output_stride:
            continue
        rate = dilation  # Of the first; it still sees the grid of the level before.
        dilation *= 2
        for module in level.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (rate, rate)
                    rate = dilation


def network(settings: dict[str, Any]) -> torch.nn.Module:
    """The network that `settings` describe, with `classes` classes."""
    head, stride = settings["segmentation"], settings["segmentation"]["output_stride"]
    backbone = torchvision.models.get_model(settings["network"], weights=None)
    dilate(backbone, stride)
    classifier = segmentation.deeplabv3.DeepLabHead(
        backbone.fc.in_features,
        settings["classes"],
        tuple(head["rates"]),
    )
    for module in classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = head["dropout"]
    body = torchvision.models._utils.IntermediateLayerGetter(
        backbone, {"layer4": "out"}
    )
    return segmentation.DeepLabV3(body, classifier)


class Side(training.Side):
    """DeepLabV3, trained on noise."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Builds, and does two steps."""
        super().__init__(settings)
        self.train(network(settings))
        self._loss = self.reference.compile(self._pixel_loss)
        size, batch = settings["image_size"], settings["batch_size"]
        image = torch.randn(batch, 1, size, size)
        target = torch.randint(0, settings["classes"], (batch, size, size))
        device = self.reference.device
        self.batch = (image.to(device), target.to(device))
        self.step(2)

    def _pixel_loss(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = self.network(image)["out"].float()
        return functional.cross_entropy(logits, target, ignore_index=255)

    def one_step(self, *batch: Any) -> None:
        """A step on images [B, 1, S, S] and classes [B, S, S]."""
        image, target = batch
        with self.reference.autocast():
            loss = self._loss(self.reference.image(image), target)
        self.reference.update(self.optimizer, loss)


if __name__ == "__main__":
    harness.serve(Side)
