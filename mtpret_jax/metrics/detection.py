"""How well boxes are found: average precision after COCO, and free response.

Matching of each image's detections to its ground truth is done once, by pycocotools;
from those matches average precision is a sort and a few sums, cheap enough for a
bootstrap over images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pycocotools import coco, cocoeval

from mtpret_jax.metrics import ratios, weighing

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # of one class in one image
FALSE_ALARMS = 2.0 ** np.arange(-3, 4)  # an image, where sensitivity is read: 1/8 to 8
SHOWN_ALARMS = 2.0 ** np.linspace(-3, 3, 25)  # where a curve is drawn: the same, finer


@dataclasses.dataclass(frozen=True)
class DetectionMetric:
    """Values of a detection task.

    `ap50` is average precision at an overlap of 0.5, `coco_ap` its mean over overlaps
    0.5 to 0.95 in steps of 0.05, and `froc` the mean sensitivity at 1/8 to 8 false
    alarms an image, at an overlap of 0.5; all are means over the classes that occur in
    the ground truth, and NaN where there is no ground-truth box at all.

    Attributes:
      num_classes: Real classes.
      class_names: Adds `ap50/<name>` and `froc/<name>` of each class, if given and more
        than one.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    num_classes: int
    class_names: Sequence[str] = ()
    primary: str = dataclasses.field(default="ap50", init=False)
    sign: ClassVar[int] = 1
    titles: ClassVar[Mapping[str, str]] = {
        "coco_ap": "COCO AP",
        "ap50": "AP50",
        "froc": "FROC, sensitivity at 1/8 to 8 false alarms an image",
    }
    meaning: ClassVar[str] = (
        "Average precision of boxes that overlap the true one by at least half: 0 "
        "finds nothing, 1 finds all and nothing else."
    )
    positives: ClassVar[str] = "with boxes"
    drawn: ClassVar[str] = "boxes"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(
                f"Detection needs at least one class, got {self.num_classes}."
            )
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"Expected {self.num_classes} class names, got "
                f"{list(self.class_names)}."
            )

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Keeps detections and ground truth; padded examples are for the caller.

        Args:
          outputs: `box` float [B, D, 4] (y0, x0, y1, x1 as fractions), `score` float
            [B, D], `class` int [B, D], `valid` bool [B, D].
          batch: `box` float32 [B, M, 4], `box_class` int32 [B, M], `box_valid` bool
            [B, M], `record` int32 [B].

        Returns:
          `box`, `score`, `class`, `valid` of the detections; `truth_box`,
          `truth_class`, `truth_valid`; `record` int32 [B].
        """
        return {
            "box": np.asarray(outputs["box"], np.float32),
            "score": np.asarray(outputs["score"], np.float32),
            "class": np.asarray(outputs["class"], np.int32),
            "valid": np.asarray(outputs["valid"], bool),
            "truth_box": np.asarray(batch["box"], np.float32),
            "truth_class": np.asarray(batch["box_class"], np.int32),
            "truth_valid": np.asarray(batch["box_valid"], bool),
            "record": np.asarray(batch["record"], np.int32),
        }

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Matches detections to ground truth in each image.

        Returns:
          `score` float64 [N, D], NaN where a slot is empty; `class` int32 [N, D];
          `hit` bool [N, D, T], whether the detection found a box at each of the T
          overlaps; `truth_count` int64 [N, classes]; `record` int32 [N].
        """
        images, slots = records["score"].shape
        result = {
            "score": np.full((images, slots), np.nan),
            "class": np.zeros((images, slots), np.int32),
            "hit": np.zeros((images, slots, len(IOU_THRESHOLDS)), bool),
            "truth_count": np.zeros((images, self.num_classes), np.int64),
            "record": np.asarray(records["record"], np.int32),
        }
        evaluation = evaluate(records, num_classes=self.num_classes)
        used = np.zeros(images, np.int64)
        for entry in evaluation.evalImgs:
            if entry is None:  # No box of this class, true or found, in this image.
                continue
            i, found = entry["image_id"] - 1, len(entry["dtScores"])
            place = slice(used[i], used[i] + found)
            used[i] += found
            result["score"][i, place] = entry["dtScores"]
            result["class"][i, place] = entry["category_id"] - 1
            result["hit"][i, place] = (entry["dtMatches"] > 0).T
            result["truth_count"][i, entry["category_id"] - 1] = len(entry["gtIds"])
        return result

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """What is missed and what is made up, at an overlap of 0.5, in [0, 2], [N].

        Missed is one less the mean score with which the true boxes were found; made up
        is the largest score of a detection that is none.
        """
        summary = self.summarise(records)
        hit, score = summary["hit"][..., 0], np.nan_to_num(summary["score"])
        truth = summary["truth_count"].sum(axis=1)
        found = ratios.ratio(np.where(hit, score, 0).sum(axis=1), truth)
        made_up = np.where(hit, 0, score).max(axis=1, initial=0)
        return made_up + np.where(truth > 0, 1 - found, 0)

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Average precision and sensitivity, each value in [0, 1] or NaN."""
        return weighing.once(self, summary)

    def curves(self, summary: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
        """Sensitivity of each class at `SHOWN_ALARMS` false alarms an image, [0, 1]."""
        once = np.ones((len(summary["score"]), 1))
        names = self.class_names or [str(c) for c in range(self.num_classes)]
        return {
            name: sensitivities(one[0][:, 0], *one[1:], SHOWN_ALARMS)[:, 0].tolist()
            for name, one in zip(names, self._found(summary, once), strict=True)
        }

    def _found(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For each class what `average_precision` takes."""
        filled = np.isfinite(summary["score"])
        order = np.argsort(-summary["score"][filled], kind="stable")
        label = summary["class"][filled][order]
        hit = summary["hit"][filled][order]
        image = np.nonzero(filled)[0][order]
        truth_count = weighing.totals(summary["truth_count"], weight)
        return [
            (hit[label == c], image[label == c], weight, truth_count[c])
            for c in range(self.num_classes)
        ]

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All with every example counted `weight` times; see `types.Metric`.

        Detections with equal scores keep the order of the set in every resample.
        """
        found = self._found(summary, weight)
        precision = np.array([average_precision(*one) for one in found])
        at_half = [(one[0][:, 0], *one[1:], FALSE_ALARMS) for one in found]
        sensitivity = np.array([sensitivities(*one).mean(axis=0) for one in at_half])
        values = {
            "ap50": ratios.mean(precision[:, 0]),
            "coco_ap": ratios.mean(precision.reshape(-1, weight.shape[1])),
            "froc": ratios.mean(sensitivity),
        }
        if self.num_classes > 1:
            for c, name in enumerate(self.class_names):
                values[f"ap50/{name}"] = precision[c, 0]
                values[f"froc/{name}"] = sensitivity[c]
        return values


def average_precision(
    hit: np.ndarray, image: np.ndarray, weight: np.ndarray, truth_count: np.ndarray
) -> np.ndarray:
    """Interpolated precision, averaged over 101 recalls, of every resample.

    Args:
      hit: Whether each detection of one class found a box, best score first, at each
        overlap, bool [D, T].
      image: Which image each detection is of, [D].
      weight: How often each image is counted, float64 [N, R].
      truth_count: Ground-truth boxes of the class, [R].

    Returns:
      float64 [T, R] in [0, 1]; NaN where there is no ground truth.

    Source:
      COCO's accumulate; equal to it where no box is marked as a crowd.
    """
    values = np.full((hit.shape[1], weight.shape[1]), np.nan)
    # Precision is highest where a hit has just been added, so hits are enough, and
    # where an image counts several times, the last of a detection's copies is.
    last = np.flatnonzero(hit.any(axis=1))
    found = _up_to(last, image, weight)
    for of_overlap, is_hit in zip(values, hit[last].T, strict=True):
        right = (weight[image[last]] * is_hit[:, np.newaxis]).cumsum(axis=0)
        precision = np.nan_to_num(ratios.ratio(right, found))
        best = np.maximum.accumulate(precision[::-1])[::-1]
        for r in np.flatnonzero(truth_count):
            reached = np.searchsorted(right[:, r] / truth_count[r], RECALLS)
            of_overlap[r] = np.append(best[:, r], 0.0)[reached].mean()
    return values


def sensitivities(
    hit: np.ndarray,
    image: np.ndarray,
    weight: np.ndarray,
    truth_count: np.ndarray,
    rates: np.ndarray,
) -> np.ndarray:
    """Sensitivity at some rates of false alarms, of every resample: free response.

    Args:
      hit: Whether each detection of one class found a box, best score first, bool [D].
      image: Which image each detection is of, [D].
      weight: How often each image is counted, float64 [N, R].
      truth_count: Ground-truth boxes of the class, [R].
      rates: False alarms an image, [F].

    Returns:
      float64 [F, R] in [0, 1]; NaN where there is no ground truth. A detector that
      never gives so many false alarms has the sensitivity of all its detections there.

    Source:
      Bunch et al. 1977 for the curve; Setio et al. 2017 for the mean over
      `FALSE_ALARMS`.
    """
    values = np.full((len(rates), weight.shape[1]), np.nan)
    last = np.flatnonzero(hit)
    right = weight[image[last]].cumsum(axis=0)
    wrong = _up_to(last, image, weight) - right
    allowed = np.multiply.outer(rates, weight.sum(axis=0))
    for r in np.flatnonzero(truth_count):
        hits = np.searchsorted(wrong[:, r], allowed[:, r], side="right")
        values[:, r] = np.append(0.0, right[:, r])[hits] / truth_count[r]
    return values


def _up_to(last: np.ndarray, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How many detections there are up to and with each of some, float64 [last, R]."""
    seen = np.arange(last[-1] + 1 if last.size else 0)
    return weighing.totals_by_bin(
        np.searchsorted(last, seen), image[seen], seen >= 0, weight, bins=len(last)
    ).cumsum(axis=0)


def evaluate(
    records: Mapping[str, np.ndarray], *, num_classes: int
) -> cocoeval.COCOeval:
    """Runs COCO's matching, all areas together, without its prints.

    Args:
      records: As `DetectionMetric.records` returns them.
      num_classes: Real classes.

    Returns:
      The evaluation after `evaluate()`; images and classes are numbered from 1.
    """
    # Boxes of number 0 would count as not matched.
    truth = _annotations(
        records["truth_box"], records["truth_class"], records["truth_valid"], None
    )
    found = _annotations(
        records["box"], records["class"], records["valid"], records["score"]
    )
    images = [{"id": i + 1} for i in range(len(records["score"]))]
    categories = [{"id": c + 1} for c in range(num_classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        parts: list[Any] = []
        for annotations in (truth, found):
            part: Any = coco.COCO()
            part.dataset = {
                "images": images,
                "categories": categories,
                "annotations": annotations,
            }
            part.createIndex()
            parts.append(part)
        evaluation = cocoeval.COCOeval(*parts, iouType="bbox")
        evaluation.params.iouThrs = IOU_THRESHOLDS
        evaluation.params.recThrs = RECALLS
        evaluation.params.areaRng = [[0.0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    return evaluation


def _annotations(
    box: np.ndarray, label: np.ndarray, valid: np.ndarray, score: np.ndarray | None
) -> list[dict[str, object]]:
    annotations = []
    for number, (i, j) in enumerate(zip(*np.nonzero(valid), strict=True), start=1):
        y0, x0, y1, x1 = (float(side) for side in box[i, j])
        width, height = max(x1 - x0, 0.0), max(y1 - y0, 0.0)
        annotation = {
            "id": number,
            "image_id": int(i) + 1,
            "category_id": int(label[i, j]) + 1,
            "bbox": [x0, y0, width, height],
            "area": width * height,
            "iscrowd": 0,
        }
        if score is not None:
            annotation["score"] = float(score[i, j])
        annotations.append(annotation)
    return annotations
