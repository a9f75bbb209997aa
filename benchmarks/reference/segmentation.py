"""DeepLabV3 in PyTorch: torchvision's network, dilated and sized as ours is.

torchvision dilates no ResNet-18; its blocks are dilated here after they are built, as
our backbone does it.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torchvision
from torch.nn import functional
from torchvision.models import segmentation

from benchmarks import pairing
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


class Side:
    """What `pairing` asks of either side."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Builds, and does two steps, which compile where that is asked for."""
        self._reference = reference = training.Reference(settings)
        self._network = reference.place(network(settings))
        self._optimizer = reference.optimizer([self._network])
        self._loss = reference.compile(self._pixel_loss)
        size, batch = settings["image_size"], settings["batch_size"]
        image = torch.randn(batch, 1, size, size)
        target = torch.randint(0, settings["classes"], (batch, size, size))
        self._batch = [tensor.to(reference.device) for tensor in (image, target)]
        self.step(2)

    def _pixel_loss(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = self._network(image)["out"].float()
        return functional.cross_entropy(logits, target, ignore_index=255)

    def _step(self, image: torch.Tensor, target: torch.Tensor) -> None:
        with self._reference.autocast():
            loss = self._loss(self._reference.image(image), target)
        self._reference.update(self._optimizer, loss)

    def facts(self) -> dict[str, Any]:
        """See `training.Reference.facts`."""
        return self._reference.facts([self._network])

    def step(self, steps: int) -> float:
        """Seconds of steps on a constant batch that lies on the device."""
        batches = itertools.repeat(self._batch)
        return self._reference.seconds(steps, batches, self._step)


if __name__ == "__main__":
    pairing.serve(Side)
