"""Arguments by which torchvision builds a detector of ours, by its head.

`docs/load_exported.py` hands them over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.models import faster_rcnn, pyramid, retinanet
from mtpret_jax.ops import regions

Arguments = dict[str, Any]


def arguments(
    task: schema.TaskConfig, channels: Sequence[int], classes: int
) -> Arguments:
    """Those of a task's detector, but for its ResNet.

    Args:
      task: Options of the task.
      channels: Widths of the ResNet's levels, C2 to C5.
      classes: That the head tells apart; in two stages the background is one of them.
    """
    return _HEADS[task.detection.head](task, channels, classes)


def _faster_rcnn(
    task: schema.TaskConfig, channels: Sequence[int], classes: int
) -> Arguments:
    row = task.detection
    return {
        "backbone": _backbone(row, channels, finest=2),
        "rpn_anchor_generator": _anchors(task, finest=2, coarsest=6),
        "box_roi_pool": {
            "featmap_names": [str(level) for level in range(4)],
            "output_size": faster_rcnn.REGION_SIZE,
            "sampling_ratio": 2,
            "canonical_scale": regions.CANONICAL_PER_ANCHOR * row.anchor_sizes[0],
            "canonical_level": 4,
        },
        "box_head": {
            "in_channels": row.channels * faster_rcnn.REGION_SIZE**2,
            "representation_size": row.hidden,
        },
        "box_predictor": {"in_channels": row.hidden, "num_classes": classes},
        "faster_rcnn": _pixels(task)
        | {
            "rpn_pre_nms_top_n_train": row.proposals_before_nms,
            "rpn_pre_nms_top_n_test": row.proposals_before_nms,
            "rpn_post_nms_top_n_train": row.proposals,
            "rpn_post_nms_top_n_test": row.proposals,
            "rpn_batch_size_per_image": row.anchors_sampled,
            "box_batch_size_per_image": row.regions,
            "box_score_thresh": row.score_threshold,
            "box_nms_thresh": row.nms_threshold,
            "box_detections_per_img": row.detections,
        },
    }


def _retinanet(
    task: schema.TaskConfig, channels: Sequence[int], classes: int
) -> Arguments:
    row, finest = task.detection, task.detection.finest_level
    anchors = _anchors(task, finest=finest, coarsest=retinanet.COARSEST)
    return {
        "backbone": _backbone(row, channels, finest=finest),
        "anchor_generator": anchors,
        "head": {
            "in_channels": row.channels,
            "num_anchors": len(anchors["sizes"][0]) * len(row.anchor_ratios),
            "num_classes": classes,
            "groups": retinanet.groups(row.channels),
        },
        "retinanet": _pixels(task)
        | {
            "score_thresh": row.score_threshold,
            "nms_thresh": row.nms_threshold,
            "detections_per_img": row.detections,
            "topk_candidates": row.candidates,
        },
    }


def _backbone(
    row: schema.DetectionConfig, channels: Sequence[int], *, finest: int
) -> Arguments:
    used = channels[finest - pyramid.FINEST :]
    first = len(channels) - len(used) + 1  # torchvision's `layer1` has C2.
    return {
        "return_layers": {f"layer{first + n}": str(n) for n in range(len(used))},
        "in_channels_list": list(used),
        "out_channels": row.channels,
    }


def _anchors(task: schema.TaskConfig, *, finest: int, coarsest: int) -> Arguments:
    row, size, levels = task.detection, task.image_size, coarsest - finest + 1
    each = len(row.anchor_sizes) // levels
    made: Arguments = {
        "sizes": [
            list(row.anchor_sizes[first : first + each])
            for first in range(0, len(row.anchor_sizes), each)
        ],
        "aspect_ratios": [list(row.anchor_ratios)] * levels,
    }
    strides = pyramid.STRIDES[finest - pyramid.FINEST :]
    if size % strides[-1]:  # torchvision divides the size by the grid.
        coarser = levels - len(strides)
        made["strides"] = list(
            pyramid.anchor_strides(size, strides=strides, coarser=coarser)
        )
    return made


def _pixels(task: schema.TaskConfig) -> Arguments:
    """Images as they come: they are normalised before."""
    return {
        "min_size": task.image_size,
        "max_size": task.image_size,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "size_divisible": 1,
    }


_HEADS: Mapping[str, Callable[[schema.TaskConfig, Sequence[int], int], Arguments]] = {
    "faster_rcnn": _faster_rcnn,
    "retinanet": _retinanet,
}
