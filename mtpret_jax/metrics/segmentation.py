"""How well regions fit: Dice, intersection over union, and how far outlines are apart.

All over known pixels.

Also the best Dice that a coarse output grid can reach, whatever the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mtpret_jax.metrics import distances, ratios, weighing


@dataclasses.dataclass(frozen=True)
class SegmentationMetric:
    """Values of a segmentation task.

    `dice` pools the pixels of all images and is the mean over foreground classes;
    `mean_iou` pools too and includes the background; `dice_per_image` is the mean over
    images that have foreground, in each over the foreground classes that it has.
    `hd95` is the mean over images of the distance of outlines, in pixels of the stored
    image, in each over the foreground classes that are both there and drawn, as far
    as the input shows them; what is left out of it is counted apart: `masks_missed` is
    the share of regions where nothing is drawn, `masks_made_up` that of absent ones
    where something is. Of these three, lower is better.

    Attributes:
      class_names: Names of the S classes, background first.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    class_names: Sequence[str]
    primary: str = dataclasses.field(default="dice", init=False)
    sign: ClassVar[int] = 1
    titles: ClassVar[Mapping[str, str]] = {
        "dice": "Dice",
        "dice_per_image": "Dice per image",
        "mean_iou": "mean IoU",
        "hd95": "HD95 of outlines, pixels of the stored image (lower is better)",
        "masks_missed": "regions where nothing is drawn (not in HD95)",
        "masks_made_up": "absent regions where something is drawn (not in HD95)",
    }
    meaning: ClassVar[str] = (
        "Overlap of the drawn and the true region, over all pixels of the set: 0 is "
        "none, 1 is the same."
    )
    positives: ClassVar[str] = "with a mask"
    drawn: ClassVar[str] = "outlines"

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise ValueError(
                "Segmentation needs background and at least one class, got "
                f"{list(self.class_names)}. Check mask_names of the data set."
            )

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Counts pixels; padding is kept, for the caller to drop.

        Args:
          outputs: `segmentation` int [B, H, W] class index.
          batch: `segmentation` uint8 [B, H, W], `pixel_known` bool [B, H, W],
            `record` int32 [B], `pixel_size` float32 [B, 2], height and width of a pixel
            in those of the stored image; without it, they are 1. `outside` int [B, at
            least S], pixels of each class that the input leaves out, where background
            counts as drawn; without it, there are none.

        Returns:
          `tp`, `fp`, `fn` int64 [B, S] pixels; `hd95` float32 [B, S - 1], NaN where a
          class is not there or not drawn; `record` int32 [B].
        """
        truth = np.asarray(batch["segmentation"])
        drawn = np.asarray(outputs["segmentation"])
        known = np.asarray(batch["pixel_known"], bool)
        size = np.asarray(batch.get("pixel_size", np.ones((len(truth), 2))))
        counts = _counts(truth, drawn, known, len(self.class_names))
        if "outside" in batch:
            outside = np.asarray(batch["outside"])[:, : len(self.class_names)]
            counts["tp"][:, 0] += outside[:, 0]
            counts["fp"][:, 0] += outside[:, 1:].sum(axis=1)
            counts["fn"][:, 1:] += outside[:, 1:]
        apart = [
            [
                distances.hausdorff_95((t == c) & k, (d == c) & k, one)
                for c in range(1, len(self.class_names))
            ]
            for t, d, k, one in zip(truth, drawn, known, size, strict=True)
        ]
        return {
            **counts,
            "hd95": np.asarray(apart, np.float32).reshape(len(truth), -1),
            "record": np.asarray(batch["record"], np.int32),
        }

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The counts, and of each image what its regions come to.

        Returns:
          `tp`, `fp`, `fn` as in the records; `image_dice` and `image_hd95` float64 [N],
          NaN without a region to measure; how many regions are `present`, `missed`,
          `absent` and `made_up`, int64 [N]; `record` int32 [N].
        """
        tp, fp, fn = (np.asarray(records[name])[:, 1:] for name in ("tp", "fp", "fn"))
        present, drawn = tp + fn > 0, tp + fp > 0
        dice = np.where(present, ratios.ratio(2 * tp, 2 * tp + fp + fn), 0.0)
        return {
            "tp": np.asarray(records["tp"]),
            "fp": np.asarray(records["fp"]),
            "fn": np.asarray(records["fn"]),
            "image_dice": ratios.ratio(dice.sum(axis=1), present.sum(axis=1)),
            # Predictions of earlier versions have no distances.
            "image_hd95": ratios.mean(records.get("hd95", np.full(tp.shape, np.nan)).T),
            "present": present.sum(axis=1),
            "missed": (present & ~drawn).sum(axis=1),
            "absent": (~present).sum(axis=1),
            "made_up": (~present & drawn).sum(axis=1),
            "record": np.asarray(records["record"], np.int32),
        }

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """What is missing to a Dice of 1, [N]; NaN without foreground."""
        return 1 - self.summarise(records)["image_dice"]

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """All values; each but `hd95` in [0, 1] or NaN."""
        return weighing.once(self, summary)

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All with every example counted `weight` times; see `types.Metric`."""
        tp, fp, fn = (
            weighing.totals(summary[name], weight) for name in ("tp", "fp", "fn")
        )
        dice = ratios.ratio(2 * tp, 2 * tp + fp + fn)[1:]

        def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
            return ratios.ratio(*(weighing.totals(x, weight) for x in (part, whole)))

        per_image = {
            name: share(np.nan_to_num(summary[name]), np.isfinite(summary[name]))
            for name in ("image_dice", "image_hd95")
        }
        values = {
            "dice": ratios.mean(dice),
            "mean_iou": ratios.mean(ratios.ratio(tp, tp + fp + fn)),
            "dice_per_image": per_image["image_dice"],
            "hd95": per_image["image_hd95"],
            "masks_missed": share(summary["missed"], summary["present"]),
            "masks_made_up": share(summary["made_up"], summary["absent"]),
        }
        if len(dice) > 1:
            for name, value in zip(self.class_names[1:], dice, strict=True):
                values[f"dice/{name}"] = value
        return values


def best_dice(
    segmentation: np.ndarray,
    pixel_known: np.ndarray,
    *,
    output_stride: int,
    num_classes: int,
) -> float:
    """About the best Dice that a head with a coarse output grid can reach.

    For every image, the logits of the grid's cells are fitted so that, enlarged
    bilinearly (centres of pixels at half), they tell the known pixels' classes. The fit
    starts from the truth averaged over each cell, as a network would see it, and may
    still fall a little short of the true optimum.

    Args:
      segmentation: Class index, int [N, H, W].
      pixel_known: bool [N, H, W]; other pixels count nowhere.
      output_stride: Side of a cell, pixels of the mask.
      num_classes: S, background included.

    Returns:
      Pooled Dice, mean over foreground classes, as `SegmentationMetric`'s `dice`.
    """
    if output_stride < 1:
        raise ValueError(f"output_stride must be at least 1, got {output_stride}.")
    height, width = segmentation.shape[1:]
    down_y, up_y = _grid(height, output_stride)
    down_x, up_x = _grid(width, output_stride)
    total = {name: np.zeros(num_classes, np.int64) for name in ("tp", "fp", "fn")}
    for truth, known in zip(segmentation, np.asarray(pixel_known, bool), strict=True):
        target = (truth == np.arange(num_classes)[:, None, None]) & known
        weight = down_y @ known.astype(float) @ down_x.T
        cell = down_y @ target.astype(float) @ down_x.T
        share = np.divide(cell, weight, out=np.zeros_like(cell), where=weight > 0)
        logits = _fit_grid(10.0 * share, target, known, up_y, up_x)
        drawn = (up_y @ logits @ up_x.T).argmax(0)
        counts = _counts(truth[None], drawn[None], known[None], num_classes)
        for name, value in counts.items():
            total[name] += value[0]
    tp, fp, fn = total["tp"], total["fp"], total["fn"]
    return ratios.mean(ratios.ratio(2 * tp, 2 * tp + fp + fn)[1:]).item()


def _fit_grid(
    logits: np.ndarray,
    target: np.ndarray,
    known: np.ndarray,
    up_y: np.ndarray,
    up_x: np.ndarray,
    *,
    steps: int = 100,
) -> np.ndarray:
    """Improves grid logits [S, h, w] by Adam on the cross-entropy of known pixels."""
    first, second = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, steps + 1):
        pixel = up_y @ logits @ up_x.T  # [S, H, W]
        chance = np.exp(pixel - pixel.max(0))
        chance /= chance.sum(0)
        gradient = up_y.T @ ((chance - target) * known) @ up_x
        first += 0.1 * (gradient - first)
        second += 0.001 * (np.square(gradient) - second)
        scale = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        logits = logits - 0.5 * first / (1 - 0.9**step) / scale
    return logits


def _counts(
    truth: np.ndarray, drawn: np.ndarray, known: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Pixels of each image [B, H, W] by class: `tp`, `fp`, `fn` int64 [B, S]."""
    if truth.shape != drawn.shape:
        raise ValueError(
            "Predicted and true segmentation differ in shape: "
            f"{drawn.shape} and {truth.shape}."
        )
    for name, array in (("True", truth), ("Predicted", drawn)):
        inside = array[known]
        if inside.size and (inside.min() < 0 or inside.max() >= num_classes):
            raise ValueError(
                f"{name} segmentation holds class {inside.min()} to {inside.max()} in "
                f"known pixels, expected 0 to {num_classes - 1}. Mark pixels without "
                "a class as not known."
            )
    image = np.broadcast_to(np.arange(len(truth))[:, None, None], truth.shape)[known]
    pair = (image * num_classes + truth[known]) * num_classes + drawn[known]
    table = np.bincount(pair, minlength=len(truth) * num_classes**2)
    table = table.reshape(len(truth), num_classes, num_classes)
    tp = np.diagonal(table, axis1=1, axis2=2).copy()
    return {"tp": tp, "fp": table.sum(axis=1) - tp, "fn": table.sum(axis=2) - tp}


def _grid(size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that average `size` pixels into cells and enlarge them bilinearly."""
    cells = -(-size // stride)
    edge = np.linspace(0, size, cells + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edge[1:, None], pixel + 1) - np.maximum(edge[:-1, None], pixel)
    down = np.clip(overlap, 0, None) * cells / size
    centre = np.clip((pixel + 0.5) * cells / size - 0.5, 0, cells - 1)
    up = np.clip(1 - np.abs(centre[:, None] - np.arange(cells)), 0, None)
    return down, up
