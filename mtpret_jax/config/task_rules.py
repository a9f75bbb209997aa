"""Rules of a row of `config.tasks`: what its kind of task, or its head, has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtpret_jax.config import parts

# Options of TaskConfig that some kinds alone have.
KIND_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "second_input": ("regression",),
    "exclusive": ("classification",),
    "class_weights": ("classification", "ordinal"),
    "balanced_sampling": ("classification", "ordinal", "detection"),
    "label_smoothing": ("classification", "ordinal"),
    "mixup": ("classification", "ordinal"),
    "flip_at_test": ("classification", "segmentation", "regression", "ordinal"),
    "crop_box_probability": ("detection",),
    "landmarks": ("landmarks",),
}
# Options of a kind's table that one head alone reads.
HEAD_OPTIONS: Mapping[type, Mapping[str, tuple[str, ...]]] = {
    parts.SegmentationConfig: {
        "deeplabv3": (
            "output_stride",
            "channels",
            "rates",
            "dropout",
            "auxiliary_weight",
        ),
        "unetplusplus": ("node_channels", "deep_supervision"),
    },
    parts.DetectionConfig: {
        "faster_rcnn": (
            "proposals_before_nms",
            "proposals",
            "anchors_sampled",
            "regions",
            "hidden",
        ),
        "retinanet": ("finest_level", "candidates"),
    },
}


def check(row: parts.TaskConfig, path: str) -> None:
    """Checks what a task's row says of itself.

    Args:
      row: The row.
      path: Where it stands, for messages.

    Raises:
      ValueError: If an option is out of its range, or set where nothing reads it.
    """
    for option, kinds in KIND_OPTIONS.items():
        is_set = getattr(row, option) != getattr(parts.TaskConfig, option)
        if is_set and row.kind not in kinds:
            raise ValueError(
                f"{path}.{option}: only tasks of {_listed(kinds)} have it, "
                f"and this is one of {row.kind}. Leave it out."
            )
    if row.class_weights and row.balanced_sampling:
        raise ValueError(
            f"{path}.class_weights: balanced_sampling draws every class equally often, "
            "so none is rare. Leave one of the two out."
        )
    if row.mixup and row.batch_size < 2:
        raise ValueError(
            f"{path}.mixup: a batch of one has no pairs. Leave it out, or use a larger "
            "batch_size."
        )
    _check_segmentation(row.segmentation, f"{path}.segmentation")
    for option in ("anchor_sizes", "anchor_ratios"):
        values = getattr(row.detection, option)
        if not values or not min(values) > 0:
            raise ValueError(
                f"{path}.detection.{option}: expected numbers above 0, got {values}."
            )
    _check_head(row.segmentation, f"{path}.segmentation")
    _check_head(row.detection, f"{path}.detection")


def _listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _check_segmentation(row: parts.SegmentationConfig, path: str) -> None:
    """Checks sizes."""
    if row.output_stride not in (8, 16, 32):
        raise ValueError(
            f"{path}.output_stride: expected 8, 16 or 32, got {row.output_stride}."
        )
    if len(row.node_channels) != 4:
        raise ValueError(
            f"{path}.node_channels: expected 4 numbers, for strides 2, 4, 8 and 16, "
            f"got {len(row.node_channels)}."
        )
    for option in ("rates", "node_channels"):
        if min(getattr(row, option), default=1) < 1:
            raise ValueError(
                f"{path}.{option}: expected numbers of at least 1, "
                f"got {getattr(row, option)}."
            )


def _check_head(
    row: parts.SegmentationConfig | parts.DetectionConfig, path: str
) -> None:
    """Checks that no option is set which the head does not read."""
    for head, options in HEAD_OPTIONS[type(row)].items():
        for option in options:
            default = getattr(type(row), option)
            if head != row.head and getattr(row, option) != default:
                raise ValueError(
                    f"{path}.{option}: only head '{head}' has it, and the head is "
                    f"'{row.head}'. Leave it out, or at its default, {default}."
                )
