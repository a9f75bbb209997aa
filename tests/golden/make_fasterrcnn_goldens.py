# pyright: reportMissingImports=false
"""Faster R-CNN of torchvision as a whole: image to detections, losses and gradients.

`fasterrcnn_resnet18.npz` (small anchors and layers) and `fasterrcnn_resnet50.npz` (as
torchvision offers it) hold corners of the pyramid, detections, the losses of each image
with every candidate sampled, and (ResNet-18) the gradients of their sum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import drawing
import numpy as np

SIZE = 96  # pixels; P6 has 2 positions for 3 of P5
ANCHOR_SIZES = (8.0, 16.0, 32.0, 64.0, 128.0)
RATIOS = (0.5, 1.0, 2.0)
BEFORE_NMS, PROPOSALS, DETECTIONS = 100, 60, 20
SCORE_THRESHOLD = 0.2
CLASSES = 2
EVERYTHING = 10**6
# Boxes of three images, x0, y0, x1, y1 in pixels, and classes from 1. The second has
# none; the third has one box twice, of two classes, and one that ends at the border.
# The second box and the fourth lie on proposals of the ResNet-18 here, which must not
# be learnt through the targets.
TRUTH: Sequence[tuple[list[list[float]], list[int]]] = (
    ([[10, 12, 40, 50], [6, 36, 66, 52], [60, 5, 66, 11]], [1, 2, 1]),
    ([], []),
    ([[18.5, 81.25, 36, 96], [0, 0, 20, 9], [0, 0, 20, 9]], [2, 1, 2]),
)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Those of `drawing.draw`, but offsets that leave proposals near their anchors."""
    drawn = drawing.draw(shapes)
    for name in ("weight", "bias"):
        drawn[f"rpn.head.bbox_pred.{name}"] /= 8
    return drawn


def small_network(sampled: tuple[int, int]) -> Any:
    """Faster R-CNN on ResNet-18 with small anchors and small dense layers."""
    import torch
    from torchvision.models.detection import (
        anchor_utils,
        backbone_utils,
        faster_rcnn,
    )
    from torchvision.ops import poolers

    return faster_rcnn.FasterRCNN(
        backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            norm_layer=torch.nn.BatchNorm2d,
            trainable_layers=5,
        ),
        rpn_anchor_generator=anchor_utils.AnchorGenerator(
            tuple((size,) for size in ANCHOR_SIZES), (RATIOS,) * len(ANCHOR_SIZES)
        ),
        box_roi_pool=poolers.MultiScaleRoIAlign(
            ["0", "1", "2", "3"], 7, 2, canonical_scale=int(7 * ANCHOR_SIZES[0])
        ),
        box_head=faster_rcnn.TwoMLPHead(256 * 49, 64),
        box_predictor=faster_rcnn.FastRCNNPredictor(64, 1 + CLASSES),
        **options(sampled),
    )


def stock_network(sampled: tuple[int, int]) -> Any:
    """torchvision's fasterrcnn_resnet50_fpn with its own anchors and layers."""
    from torchvision.models import detection

    return detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=1 + CLASSES,
        **options(sampled),
    )


def options(sampled: tuple[int, int]) -> dict[str, Any]:
    """Pictures as they are, few boxes, and the sizes of the two samples."""
    return {
        "min_size": SIZE,
        "max_size": SIZE,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "rpn_pre_nms_top_n_train": BEFORE_NMS,
        "rpn_pre_nms_top_n_test": BEFORE_NMS,
        "rpn_post_nms_top_n_train": PROPOSALS,
        "rpn_post_nms_top_n_test": PROPOSALS,
        "rpn_batch_size_per_image": sampled[0],
        "box_batch_size_per_image": sampled[1],
        "box_score_thresh": SCORE_THRESHOLD,
        "box_detections_per_img": DETECTIONS,
    }


def targets(dtype: Any) -> list[dict[str, Any]]:
    """The truth as torchvision wants it."""
    import torch

    return [
        {
            "boxes": torch.tensor(box, dtype=dtype).reshape(-1, 4),
            "labels": torch.tensor(label, dtype=torch.int64),
        }
        for box, label in TRUTH
    ]


def padded(parts: Sequence[Any], count: int) -> np.ndarray:
    """Arrays of differing length as one, filled up with zeros."""
    result = np.zeros((len(parts), count, *parts[0].shape[1:]))
    for i, part in enumerate(parts):
        result[i, : len(part)] = part.detach().numpy()
    return result


def detections(box: Any, score: Any, label: Any, count: int) -> drawing.Arrays:
    """Detections of each image, filled up with zeros."""
    return {
        "detection_count": np.array([len(x) for x in score]),
        "detection_box": padded(box, count),
        "detection_score": padded(score, count),
        "detection_class": padded(label, count),
    }


def whole(network: Any, name: str, dtype: Any) -> drawing.Arrays:
    """Pyramid, detections, losses of each image; of ResNet-18 gradients too."""
    import torch

    network = network.to(dtype).eval()
    image = drawing.images(3, SIZE).transpose(0, 3, 1, 2)
    image = torch.tensor(image.repeat(3, axis=1), dtype=dtype)
    with torch.no_grad():
        pyramid = network.backbone(image).values()
        found = network(list(image))
    network.rpn.train()
    network.roi_heads.train()
    network.training = True
    losses = []
    for picture, target in zip(image, targets(dtype), strict=True):
        terms = network([picture], [target])
        names = (
            "loss_objectness",
            "loss_rpn_box_reg",
            "loss_classifier",
            "loss_box_reg",
        )
        losses.append(torch.stack([terms[name] for name in names]))
    loss = torch.stack(losses)
    result = {
        **{f"P{i + 2}": corner(x.permute(0, 2, 3, 1)) for i, x in enumerate(pyramid)},
        **detections(
            *([x[key] for x in found] for key in ("boxes", "scores", "labels")),
            DETECTIONS,
        ),
        "losses": loss.detach().numpy(),
    }
    if name == "resnet18":
        network.zero_grad()
        loss.sum().backward()
        result["gradients"] = drawing.digest(drawing.gradients(network))
    return result


def corner(level: Any) -> np.ndarray:
    """Some channels of a few positions up to the far corner, [3, <= 3, <= 3, 8]."""
    return drawing.kept(np.asarray(level)[:, -3:, -3:])


def main() -> None:
    """Writes every file."""
    import roi_border
    import torch

    roi_border.follow_compiled()
    for name, make in (("resnet18", small_network), ("resnet50", stock_network)):
        network = make((EVERYTHING, EVERYTHING))
        shapes = drawing.fill(network)
        drawn = {key: torch.from_numpy(x) for key, x in weights(shapes).items()}
        network.load_state_dict(drawn, strict=False)
        results = [
            whole(network, name, dtype) for dtype in (torch.float64, torch.float32)
        ]
        drawing.store(f"fasterrcnn_{name}", shapes, *results)


if __name__ == "__main__":
    main()
