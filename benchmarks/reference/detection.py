"""Faster R-CNN in PyTorch: torchvision's, with the sizes that ours is given.

Only where torchvision's compiled operators are there: without them its NMS and RoIAlign
are not what anyone would use, and no comparison.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torchvision.models import detection
from torchvision.models.detection import anchor_utils, backbone_utils, faster_rcnn

from benchmarks import harness
from benchmarks.reference import training

_LEVELS = ("layer1", "layer2", "layer3", "layer4")
_REGION_SIZE = 7  # bins on a side
_CLASSES = 2  # the background and one real class


def network(settings: dict[str, Any]) -> detection.FasterRCNN:
    """The detector with random weights; BatchNorm learns, as in ours."""
    head, size = settings["detection"], settings["image_size"]
    body = torchvision.models.get_model(settings["network"], weights=None)
    widest = body.fc.in_features
    backbone = backbone_utils.BackboneWithFPN(
        body,
        {name: str(index) for index, name in enumerate(_LEVELS)},
        [widest // 2**power for power in (3, 2, 1, 0)],
        head["channels"],
    )
    ratios = (tuple(head["anchor_ratios"]),) * len(head["anchor_sizes"])
    sizes = tuple((side,) for side in head["anchor_sizes"])
    return detection.FasterRCNN(
        backbone,
        min_size=size,
        max_size=size,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=anchor_utils.AnchorGenerator(sizes, ratios),
        rpn_pre_nms_top_n_train=head["proposals_before_nms"],
        rpn_post_nms_top_n_train=head["proposals"],
        rpn_batch_size_per_image=head["anchors_sampled"],
        box_head=faster_rcnn.TwoMLPHead(
            head["channels"] * _REGION_SIZE**2, head["hidden"]
        ),
        box_predictor=faster_rcnn.FastRCNNPredictor(head["hidden"], _CLASSES),
        box_batch_size_per_image=head["regions"],
        _skip_resize=True,  # The images have their size.
    )


class Side(training.Side):
    """Faster R-CNN, trained on noise with random boxes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Builds, and does two steps where the operators are there."""
        super().__init__(settings)
        self.train(network(settings))
        # What follows the pyramid has no fixed shapes and would be compiled in pieces.
        self.network.backbone = self.reference.compile(self.network.backbone)
        size, batch = settings["image_size"], settings["batch_size"]
        device = self.reference.device
        start = torch.rand(batch, settings["boxes"], 2) * 0.6
        box = torch.cat([start, start + 0.1 + torch.rand_like(start) * 0.3], -1)
        label = torch.ones(settings["boxes"], dtype=torch.int64).to(device)
        targets = [{"boxes": row.to(device), "labels": label} for row in box * size]
        self.batch = (torch.randn(batch, 1, size, size).to(device), targets)
        # Only the compiled library defines this one.
        self._comparable = hasattr(torch.ops.torchvision, "_cuda_version")
        if self._comparable:
            self.step(2)

    def one_step(self, *batch: Any) -> None:
        """A step on images [B, 1, S, S] and a dictionary of targets for each."""
        image, targets = batch
        with self.reference.autocast():
            losses = self.network(list(self.reference.image(image)), targets)
            loss = sum(losses.values())
        self.reference.update(self.optimizer, loss)

    def facts(self) -> dict[str, Any]:
        """See `training.Side.facts`; and whether there is anything to time."""
        return {**super().facts(), "comparable": self._comparable}


if __name__ == "__main__":
    harness.serve(Side)
