# pyright: reportMissingImports=false
"""The networks that `round_trip.py` takes to torchvision and back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torchvision.models.detection import anchor_utils, backbone_utils
from torchvision.ops import MultiScaleRoIAlign


@dataclasses.dataclass(frozen=True)
class Case:
    """A network of ours, and torchvision's where it can build it by itself."""

    name: str
    backbone: dict[str, Any]
    task: dict[str, Any]
    theirs: Callable[[], torch.nn.Module] | None = None


def _detector(name: str, size: int, **options: Any) -> torch.nn.Module:
    backbone = backbone_utils.resnet_fpn_backbone(
        backbone_name=name,
        weights=None,
        trainable_layers=5,
        norm_layer=torch.nn.BatchNorm2d,
    )
    ratios = ((0.5, 1.0, 2.0),) * 5
    return torchvision.models.detection.FasterRCNN(
        backbone,
        num_classes=3,
        min_size=size,
        max_size=size,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=anchor_utils.AnchorGenerator(
            ((8,), (16,), (32,), (64,), (128,)), ratios
        ),
        box_roi_pool=MultiScaleRoIAlign(list("0123"), 7, 2, canonical_scale=56),
        rpn_pre_nms_top_n_test=options["proposals_before_nms"],
        rpn_post_nms_top_n_test=options["proposals"],
        box_detections_per_img=options["detections"],
    )


def _deeplab() -> torch.nn.Module:
    return torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    )


def _resnet(name: str) -> torch.nn.Module:
    return getattr(torchvision.models, name)(num_classes=3)


def _narrow(name: str, width: int) -> dict[str, Any]:
    return {"name": name, "width": width, "in_channels": 1}


_CLASSES = {"kind": "classification", "image_size": 96}
_MASKS = {"kind": "segmentation", "image_size": 128}
_STRIDE_8 = {"output_stride": 8, "rates": (12, 24, 36), "auxiliary_weight": 0.5}
_COUNTS = {"proposals_before_nms": 200, "proposals": 100, "detections": 20}
_ANCHORS = {"anchor_sizes": (8, 16, 32, 64, 128)}
_BOXES = {"kind": "detection", "detection": _COUNTS | _ANCHORS}


def _dense(size: int, *sizes: float, **options: Any) -> dict[str, Any]:
    """Options of a task of one-stage detection, with sides of anchors."""
    head = {"head": "retinanet", "score_threshold": 0.5, "detections": 20}
    return {
        "kind": "detection",
        "image_size": size,
        "detection": {**head, "anchor_sizes": sizes, **options},
    }


CASES = (
    Case("resnet18", {"name": "resnet18"}, _CLASSES, lambda: _resnet("resnet18")),
    Case("resnet50", {"name": "resnet50"}, _CLASSES, lambda: _resnet("resnet50")),
    Case("resnet18 grey stem", {"name": "resnet18", "in_channels": 1}, _CLASSES),
    Case(
        "deeplabv3_resnet50",
        {"name": "resnet50"},
        _MASKS | {"segmentation": _STRIDE_8},
        _deeplab,
    ),
    Case(
        "deeplabv3 R18 grey",
        {"name": "resnet18", "in_channels": 1},
        _MASKS | {"segmentation": {"output_stride": 8}},
    ),
    Case(
        "fasterrcnn_resnet18",
        {"name": "resnet18"},
        _BOXES | {"image_size": 128},
        lambda: _detector("resnet18", 128, **_COUNTS),
    ),
    Case(
        "fasterrcnn_resnet50",
        {"name": "resnet50"},
        _BOXES | {"image_size": 128},
        lambda: _detector("resnet50", 128, **_COUNTS),
    ),
    Case("fasterrcnn R18 144", {"name": "resnet18"}, _BOXES | {"image_size": 144}),
    # torchvision by itself would take 1/16 for the 1/32 of the last level.
    Case("fasterrcnn R18 66", {"name": "resnet18"}, _BOXES | {"image_size": 66}),
    # Widths that torchvision does not build, such as the demonstration's.
    Case("resnet18 narrow", _narrow("resnet18", 16), _CLASSES),
    Case("resnet50 narrow", _narrow("resnet50", 8), _CLASSES),
    *(
        Case(
            f"deeplabv3 {name} /{stride} narrow",
            _narrow(name, 16),
            _MASKS | {"segmentation": {"output_stride": stride, "channels": 32}},
        )
        for name in ("resnet18", "resnet50")
        for stride in (8, 16)
    ),
    Case("fasterrcnn narrow", _narrow("resnet18", 16), _BOXES | {"image_size": 128}),
    Case("retinanet R18 144", {"name": "resnet18"}, _dense(144, *range(8, 88, 8))),
    Case(
        "retinanet R18 66",
        {"name": "resnet18"},
        _dense(66, 6, 8, 16, 24, 32, 48, finest_level=2),
    ),
    Case(
        "retinanet narrow",
        _narrow("resnet18", 16),
        _dense(128, 8, 16, 32, 64, 128, channels=32),
    ),
)
