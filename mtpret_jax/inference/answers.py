"""What outputs become for a person: values, columns of a table, drawings, words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax.inference import description, overlays, preprocessing
from mtpret_jax.metrics import ordinal, regression, temperature

Answer = dict[str, Any]
Outputs = Mapping[str, np.ndarray]
NOT_SEEN = 255  # in a mask: where the network did not see the image
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers of one model; this class is for one without a head, which has features.

    Attributes:
      classes: Names of what the model tells apart; of masks, the background first.
      task: Options of its task; None for a model without a head.
      decisions: What `operating_points.fit` gave for the task.
      scale: What the numbers of the task are worth, if it learnt some.
      outputs: Names of the network's outputs that an answer is made of.
      compared: Names of those by which a network is checked; see `golden`.
      overlay: What an overlay draws, in words; "" where there is none.
      has_attention: Whether it can be drawn where the evidence for a class lies.
      long_table: Name and columns of a second table, in the form of the field, which
        has several rows for an image; "" for none.
      tag: Kind of pipeline, in Hugging Face's words.
      purpose: Sentence for the model card, `{}` where classes go.
    """

    classes: Sequence[str]
    task: schema.TaskConfig | None
    decisions: Mapping[str, Any]
    scale: regression.Scale | None = None

    outputs: ClassVar[tuple[str, ...]] = ()
    compared: ClassVar[tuple[str, ...]] = ()
    overlay: ClassVar[str] = ""
    has_attention: ClassVar[bool] = False
    long_table: ClassVar[tuple[str, tuple[str, ...]]] = ("", ())
    tag: ClassVar[str] = "image-feature-extraction"
    purpose: ClassVar[str] = "Features of X-rays, for other tasks to start from."

    @property
    def is_exclusive(self) -> bool:
        """Whether every image is of one class that excludes the others."""
        return False

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        """The answer for one image.

        Args:
          outputs: Those of the network, without the batch axis.
          radiograph: The image.
        """
        raise NotImplementedError("Features alone answer nothing.")

    def columns(self) -> list[str]:
        """Names of an answer's columns in a table, the same for every image."""
        return []

    def long_rows(self, row: Answer) -> list[Answer]:
        """The rows of `long_table` for the line of a file."""
        del row
        return []

    def draw(self, pixels: np.ndarray, answer: Answer) -> np.ndarray:
        """Draws an answer on an image.

        Args:
          pixels: The image file's, uint8 [H, W].
          answer: What `answer` gave.

        Returns:
          uint8 [H, W, 3], red, green, blue.
        """
        raise NotImplementedError(f"{type(self).__name__} has no overlay.")


class Classification(Answers):
    """Probabilities, as they come and calibrated, and decisions where they are known.

    Where one class excludes the others, the likeliest is `predicted`.
    """

    outputs = ("probability",)
    compared = ("probability",)
    has_attention = True
    tag = "image-classification"
    purpose = "Tells of an X-ray: {}."

    @property
    def is_exclusive(self) -> bool:
        return self.task is not None and self.task.exclusive

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        del radiograph
        probability = np.asarray(outputs["probability"], float)
        answer: Answer = {"probability": _named(self.classes, probability)}
        if self.is_exclusive:
            answer["predicted"] = self.classes[int(probability.argmax())]
        if "temperature" in self.decisions:  # One for all classes.
            scaled = temperature.apply(
                probability,
                self.decisions["temperature"],
                exclusive=self.is_exclusive,
            )
            answer["calibrated"] = _named(self.classes, scaled)
        elif own := self.decisions.get("temperatures"):
            part = np.array([probability[self.classes.index(name)] for name in own])
            degrees = np.array(list(own.values()))
            scaled = temperature.apply(part, degrees, exclusive=False)
            answer["calibrated"] = _named(list(own), scaled)
        if self.decisions.get("thresholds"):
            answer["decision"] = {
                name: bool(probability[self.classes.index(name)] >= row["threshold"])
                for name, row in self.decisions["thresholds"].items()
            }
        return answer

    def columns(self) -> list[str]:
        parts = ("probability", "calibrated", "decision")
        predicted = ["predicted"] if self.is_exclusive else []
        return predicted + [f"{part}:{c}" for part in parts for c in self.classes]


class Segmentation(Answers):
    """`mask`, uint8 [H, W] of the file, and the `share` of each class.

    `NOT_SEEN` is where the image reached out of the network's square.
    """

    outputs = ("segmentation",)
    compared = ("segmentation",)
    overlay = "outlines"
    tag = "image-segmentation"
    purpose = "Draws on an X-ray: {}."

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        mask = radiograph.to_file(
            np.asarray(outputs["segmentation"], np.uint8),
            interpolation=cv2.INTER_NEAREST,
            outside=NOT_SEEN,
        )
        seen = max(1, int((mask != NOT_SEEN).sum()))
        share = [float((mask == c).sum()) / seen for c in range(len(self.classes))]
        return {"mask": mask, "share": _named(self.classes, share)}

    def columns(self) -> list[str]:
        return [*(f"share:{c}" for c in self.classes), "mask"]

    def draw(self, pixels: np.ndarray, answer: Answer) -> np.ndarray:
        return overlays.outlines(pixels, answer["mask"], self.classes)


class Detection(Answers):
    """`boxes`, best first: x0, y0, x1, y1 in pixels of the file, class and score."""

    outputs = ("box", "score", "class", "valid")
    compared = ("score",)
    overlay = "boxes"
    tag = "object-detection"
    purpose = "Finds in an X-ray: {}."

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        size = len(radiograph.image)
        back = np.linalg.inv(radiograph.matrix)
        boxes = []
        for place in np.flatnonzero(outputs["valid"]):
            y0, x0, y1, x1 = np.asarray(outputs["box"][place], float) * size
            corners = back @ np.array([[x0, x1], [y0, y1], [1.0, 1.0]])
            x = corners[0].clip(0, radiograph.width)
            y = corners[1].clip(0, radiograph.height)
            if x[1] <= x[0] or y[1] <= y[0]:
                continue  # It lay in the padding.
            boxes.append(
                {
                    "class": self.classes[int(outputs["class"][place])],
                    "score": round(float(outputs["score"][place]), _DIGITS),
                    "box": [round(float(v), 2) for v in (x[0], y[0], x[1], y[1])],
                }
            )
        return {"boxes": boxes}

    def columns(self) -> list[str]:
        return ["boxes"]

    def draw(self, pixels: np.ndarray, answer: Answer) -> np.ndarray:
        return overlays.boxes(pixels, answer["boxes"], self.classes)


class Ordinal(Classification):
    """Probabilities of the grades, and `predicted`, their median."""

    has_attention = False
    purpose = "Grades an X-ray: {}."

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        answer = super().answer(outputs, radiograph)
        answer["predicted"] = self.classes[int(ordinal.grade(outputs["probability"]))]
        return answer


class Regression(Answers):
    """`value` by name, in its `unit`, and what was told beside the image as `second`.

    Both of these only where the set named a unit, or the model can be told more.
    """

    outputs = ("value",)
    compared = ("value",)
    tag = "other"
    purpose = "Reads a number off an X-ray: {}."

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        scale = self.scale or regression.Scale()
        answer: Answer = {"value": _named(self.classes, [float(outputs["value"])])}
        if scale.unit:
            answer["unit"] = scale.unit
        if scale.second:
            names = (*scale.second, "")  # The last of -1, not known.
            answer["second"] = names[radiograph.second]
        return answer

    def columns(self) -> list[str]:
        scale = self.scale or regression.Scale()
        told = {"unit": scale.unit, "second": scale.second}
        others = [name for name, there in told.items() if there]
        return [*(f"value:{name}" for name in self.classes), *others]


class Landmarks(Answers):
    """`landmarks`: of each by name x, y in pixels of the file, and `spread`.

    The spread is the standard deviation of where it may be, in pixels of the file.
    """

    outputs = ("landmark", "spread")
    compared = ("landmark",)
    overlay = "points"
    tag = "keypoint-detection"
    purpose = "Finds landmarks in an X-ray: {}."
    long_table = ("landmarks.csv", ("file", "landmark", "x", "y", "spread"))

    def answer(self, outputs: Outputs, radiograph: preprocessing.Radiograph) -> Answer:
        size = len(radiograph.image)
        back = np.linalg.inv(radiograph.matrix)
        y, x = np.asarray(outputs["landmark"], float).T * size
        x, y, _ = back @ np.stack([x, y, np.ones_like(x)])
        spread = np.asarray(outputs["spread"], float) * size
        spread *= np.sqrt(abs(np.linalg.det(back)))  # of pixels that may not be square
        found = {
            "x": x.clip(0, radiograph.width),  # It may have lain in the padding.
            "y": y.clip(0, radiograph.height),
            "spread": spread,
        }
        return {
            "landmarks": {
                name: {part: round(float(v[n]), 2) for part, v in found.items()}
                for n, name in enumerate(self.classes)
            }
        }

    def columns(self) -> list[str]:
        parts = ("x", "y", "spread")
        return [f"landmarks:{c}:{part}" for c in self.classes for part in parts]

    def long_rows(self, row: Answer) -> list[Answer]:
        return [
            {"file": row["file"], "landmark": name, **point}
            for name, point in row.get("landmarks", {}).items()
        ]

    def draw(self, pixels: np.ndarray, answer: Answer) -> np.ndarray:
        return overlays.points(pixels, answer["landmarks"])


ANSWERS: Mapping[str, type[Answers]] = {
    description.NO_HEAD: Answers,
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
    "regression": Regression,
    "ordinal": Ordinal,
    "landmarks": Landmarks,
}


def of_model(described: description.Description, task: str) -> Answers:
    """The answers of a model with the head of a task; "" for none."""
    return ANSWERS[described.kind(task)](
        described.class_names[task] if task else (),
        described.tasks[task] if task else None,
        described.decisions.get(task, {}),
        described.scales.get(task),
    )


def _named(classes: Sequence[str], values: Sequence[float] | np.ndarray) -> Answer:
    return {
        name: round(float(value), _DIGITS)
        for name, value in zip(classes, values, strict=True)
    }
