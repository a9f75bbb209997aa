"""Options of what runs share: sets, tasks and heads, input, backbone, optimiser."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

# Numbers, with the smallest and the largest value of each, both allowed.
Share = Annotated[float, (0, 1)]
Amount = Annotated[float, (0, math.inf)]
Count = Annotated[int, (1, math.inf)]
Number = Annotated[int, (0, math.inf)]
LARGEST_SEED = 2**31 - 1
Side = Annotated[int, (1, 8192)]  # pixels; a batch of one then has 256 MiB


def bounds(table: type, option: str) -> tuple[float, float]:
    """The smallest and the largest value of an option of one of the dataclasses."""
    hint = typing.get_type_hints(table, include_extras=True)[option]
    return getattr(hint, "__metadata__", [(-math.inf, math.inf)])[0]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image. Zero (an area: one) switches one off."""

    crop_min_area: Annotated[float, (0.01, 1)] = 1.0  # smallest crop, fraction of the
    # image's area
    crop_max_area: Annotated[float, (1, 16)] = 1.0  # largest; above 1 the image becomes
    # smaller, with padding around (stage 1: its edges repeated), and sizes are as often
    # halved as doubled
    flip_probability: Share = 0.0  # left-right; 0 where side matters
    rotation_degrees: Annotated[float, (0, 180)] = 0.0  # largest rotation either way
    brightness: Share = 0.0  # largest shift, fraction of the intensity range
    contrast: Share = 0.0  # factor drawn from 1 - c to 1 + c
    gamma: Amount = 0.0  # exponent drawn from 1 / (1 + g) to 1 + g
    blur_probability: Share = 0.0  # that an image is blurred
    blur_sigma: Amount = 1.0  # largest standard deviation, pixels of the input
    noise: Amount = 0.0  # largest standard deviation, fraction of the intensity range


AUGMENT_PRESETS: Mapping[str, AugmentConfig] = {
    "none": AugmentConfig(),
    # ours: small geometry and exposure changes, as between two visits to one room.
    "gentle": AugmentConfig(
        crop_min_area=0.8,
        rotation_degrees=7.0,
        brightness=0.1,
        contrast=0.2,
        gamma=0.2,
    ),
    # ours: two views of a radiograph; MoCo v2 without what makes no sense in grey.
    "contrastive": AugmentConfig(
        crop_min_area=0.4,
        flip_probability=0.5,
        rotation_degrees=10.0,
        brightness=0.2,
        contrast=0.4,
        gamma=0.3,
        blur_probability=0.5,
        blur_sigma=1.0,
        noise=0.03,
    ),
}


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """A prepared set: which builder makes it, and with which of its options."""

    builder: str = "phantom_xray"  # a module of tfds_builders
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # builder's
    splits: str = ""  # official, muscle, grouped, as far as it has them; "": its own


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """A head for masks and its loss. What the chosen head does not read is refused."""

    head: str = "deeplabv3"  # deeplabv3 or unetplusplus
    dice_weight: Amount = 0.0  # weight of 1 - Dice beside cross-entropy
    output_stride: int = 16  # deeplabv3: of the backbone, pixels: 8, 16 or 32
    channels: Count = 256  # deeplabv3: of the atrous pyramid
    rates: tuple[int, ...] = (6, 12, 18)  # deeplabv3: dilation rates
    dropout: Annotated[float, (0, 0.99)] = 0.1  # deeplabv3: fraction of its features,
    # in training
    auxiliary_weight: Amount = 0.0  # deeplabv3: of the loss of a head on C4; 0: none
    node_channels: tuple[int, ...] = (32, 64, 128, 256)  # unetplusplus: finest first
    deep_supervision: bool = False  # unetplusplus: a head on each node of the finest


@dataclasses.dataclass(frozen=True)
class DetectionConfig:
    """A head for boxes on a feature pyramid. What it does not read is refused."""

    head: str = "faster_rcnn"  # faster_rcnn, in two stages; or retinanet, in one
    channels: Count = 256  # of the feature pyramid
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # sides, pixels, of the
    # finest level first, as many for each; faster_rcnn: P2 to P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    finest_level: Annotated[int, (2, 3)] = 3  # retinanet: of the levels up to P7; P2
    # for small boxes has four times the positions of P3
    candidates: Count = 1000  # retinanet: before non-maximum suppression, each level
    proposals_before_nms: Count = 2000  # faster_rcnn: before non-maximum suppression,
    # each level
    proposals: Count = 1000  # faster_rcnn: after non-maximum suppression, each image
    anchors_sampled: Annotated[int, (2, math.inf)] = 256  # faster_rcnn: for training,
    # each image; fewer weigh boxes more
    regions: Annotated[int, (4, math.inf)] = 512  # faster_rcnn: sampled for training,
    # each image
    hidden: Count = 1024  # faster_rcnn: width of the two dense layers
    max_boxes: Count = 32  # of ground truth, each image
    detections: Count = 100  # kept, each image
    score_threshold: Share = 0.05  # probability that a detection needs to be kept
    nms_threshold: Share = 0.5  # intersection over union, final detections


@dataclasses.dataclass(frozen=True)
class LandmarksConfig:
    """A head of heat maps on a feature pyramid, and its loss."""

    channels: Count = 128  # of the feature pyramid and the two convolutions after it
    deviation: Annotated[float, (0.1, math.inf)] = 1.0  # of the Gaussian that a heat
    # map should be, cells; a cell is a quarter of a ResNet's first level: 4 pixels
    distance_weight: Amount = 0.1  # of the points' distance from the truth, in cells


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is learnt from the labels of one set."""

    kind: str = "classification"  # classification, ordinal, regression, segmentation,
    # detection or landmarks
    dataset: str = ""  # a row of config.datasets
    target: str = "label"  # classification: the label column; ordinal: one whose
    # classes are grades, in the set's order; regression: the value column
    second_input: str = ""  # regression: a label column, or sex, that the head is told
    # beside the image; "": none
    exclusive: bool = True  # classification: classes exclude each other
    image_size: Side = 224  # side of the square input, pixels
    batch_size: int = 32  # examples of the global batch
    microbatches: int = 1  # gradient accumulation: parts of a batch done in turn
    batch_norm_rows: Number = 32  # examples with statistics of their own; 0: the batch
    learning_rate_scale: Amount = 1.0  # factor on the run's learning rate
    class_weights: str = ""  # classification, ordinal: "balanced", the rarer a class
    # among the labels used, the more it weighs in the loss; "": all alike
    balanced_sampling: bool = False  # classification, ordinal, detection: draws each
    # class, or images with boxes and without, equally often in training, with
    # replacement
    label_smoothing: Annotated[float, (0, 0.99)] = 0.0  # classification, ordinal: share
    # of each label that is spread over all classes alike
    mixup: Amount = 0.0  # classification, ordinal: alpha of the Beta distribution from
    # which the share is drawn by which a batch's images and labels are mixed in pairs;
    # 0: none
    crop_box_probability: Share = 0.0  # detection: that a training view's crop is put
    # around one of the image's boxes
    flip_at_test: bool = False  # all but detection and landmarks: predicts the mean
    # over an image and its mirror image
    augment: AugmentConfig = AUGMENT_PRESETS["gentle"]
    segmentation: SegmentationConfig = SegmentationConfig()
    detection: DetectionConfig = DetectionConfig()
    landmarks: LandmarksConfig = LandmarksConfig()

    @property
    def can_be_probed(self) -> bool:
        """Whether a linear probe and nearest neighbours can predict it."""
        return self.kind == "classification"

    def second_names(self, label_names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """Classes of the second input, of a set with these; none without one."""
        known = {"sex": ("F", "M"), **label_names} if self.second_input else {}
        return tuple(known.get(self.second_input, ()))


@dataclasses.dataclass(frozen=True)
class FixedConfig:
    """Numbers that a published encoder was trained with: (x - mean) / deviation."""

    mean: tuple[float, ...] = ()  # of each channel of the backbone, or one for all
    deviation: tuple[float, ...] = ()  # as many, above 0
    greys: tuple[float, ...] = (0.0, 1.0)  # what black and white are in these numbers

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of intensities in [0, 1], of each channel.

        Of one, where all are alike.
        """
        black, white = self.greys
        rows = [*zip(self.mean, self.deviation, strict=True)]
        rows = rows[:1] if len(set(rows)) == 1 else rows
        return (
            tuple((mean - black) / (white - black) for mean, _ in rows),
            tuple(deviation / (white - black) for _, deviation in rows),
        )


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """How a stored picture becomes an input."""

    fit: str = "pad"  # how a rectangle becomes a square: pad, crop or stretch
    resample: str = "area"  # how it becomes smaller: mean of the area; bicubic, as
    # transformers' processors; gaussian, as torchxrayvision's; turned views always area
    normalisation: str = "image"  # mean 0, deviation 1: of each image or the dataset;
    # or fixed: by the numbers below. Padding is 0 after it: the mean
    fixed: FixedConfig = FixedConfig()
    workers: Annotated[int, (-1, math.inf)] = -1  # processes that read; 0: threads; -1:
    # on accelerators, one for each core
    threads: Number = 0  # that read without workers; 0: one for each core, at least 4
    buffer: Count = 8  # batches read ahead by all streams; at least one for each reader


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """A row of models.BACKBONES and its sizes. Parameters are float32."""

    name: str = "resnet50"  # a row of models.BACKBONES
    family: str = ""  # of a ViT: a row of models.vit_families.FAMILIES; "": deit
    positions: Number = 0  # side of the images, pixels, whose positions a ViT learns;
    # 0: its family's
    width: Count = 64  # channels of a ResNet's stem; other backbones are published
    # where it is 64, and narrower in proportion
    in_channels: Count = 3  # the one grey channel is repeated to this many
    compute_dtype: str = "auto"  # bfloat16, float32; auto: the latter on CPUs alone
    remat: bool = False  # recompute activations in the backward pass to save memory

    @property
    def dtype(self) -> str:
        """Of products; float32 where no device has settled it (`precision.settle`)."""
        return "float32" if self.compute_dtype == "auto" else self.compute_dtype


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Gradient transformation and learning-rate curve of a run or segment."""

    name: str = "sgd"  # sgd, adamw, lars or lamb
    learning_rate: Amount = 0.01  # peak, per step
    learning_rate_batch: Number = 0  # that both rates are for: they grow in proportion
    # to the examples of the batch (adamw, lamb: to their square root); 0: for any batch
    final_learning_rate: Amount = 0.0  # at the end of the cosine
    warmup_steps: Number = 0  # linear, from 0.1 of the peak
    momentum: Share = 0.9  # of sgd and lars
    weight_decay: Amount = 1e-4  # of kernels; stage 2's anchors take its place
    clip_norm: Annotated[float, (1e-6, math.inf)] = 10.0  # largest global norm of the
    # gradient
