"""What a network answers, in the pixels of the file and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mtpret_jax.inference import reading
from mtpret_jax.metrics import temperature

Answer = dict[str, Any]
Outputs = Mapping[str, np.ndarray]
NOT_SEEN = 255  # in a mask: where the network did not see the picture
_DIGITS = 6


def classification(
    outputs: Outputs,
    radiograph: reading.Radiograph,
    classes: Sequence[str],
    *,
    exclusive: bool,
    decisions: Mapping[str, Any],
) -> Answer:
    """Probabilities, as they come and calibrated, and decisions where they are known.

    Where one class excludes the others, the likeliest is `predicted`.

    Args:
      outputs: `probability` [L].
      radiograph: The picture.
      classes: L names.
      exclusive: Whether one class excludes the others.
      decisions: What `operating_points.fit` gave.
    """
    del radiograph
    told = np.asarray(outputs["probability"], float)
    answer: Answer = {"probability": _named(classes, told)}
    if exclusive:
        answer["predicted"] = classes[int(told.argmax())]
    if "temperature" in decisions:  # One for all classes.
        scaled = temperature.apply(told, decisions["temperature"], exclusive=exclusive)
        answer["calibrated"] = _named(classes, scaled)
    elif own := decisions.get("temperatures"):
        part = np.array([told[classes.index(name)] for name in own])
        degrees = np.array(list(own.values()))
        scaled = temperature.apply(part, degrees, exclusive=False)
        answer["calibrated"] = _named(list(own), scaled)
    if decisions.get("thresholds"):
        answer["decision"] = {
            name: bool(told[classes.index(name)] >= row["threshold"])
            for name, row in decisions["thresholds"].items()
        }
    return answer


def detection(
    outputs: Outputs, radiograph: reading.Radiograph, classes: Sequence[str]
) -> Answer:
    """Boxes, best first: x0, y0, x1, y1 in pixels of the file.

    Args:
      outputs: `box` [D, 4] as fractions of the square, `score`, `class`, `valid` [D].
      radiograph: The picture.
      classes: Names.
    """
    size = len(radiograph.image)
    back = np.linalg.inv(radiograph.matrix)
    found = []
    for place in np.flatnonzero(outputs["valid"]):
        y0, x0, y1, x1 = np.asarray(outputs["box"][place], float) * size
        corners = back @ np.array([[x0, x1], [y0, y1], [1.0, 1.0]])
        x = corners[0].clip(0, radiograph.width)
        y = corners[1].clip(0, radiograph.height)
        if x[1] <= x[0] or y[1] <= y[0]:
            continue  # It lay in the padding.
        found.append(
            {
                "class": classes[int(outputs["class"][place])],
                "score": round(float(outputs["score"][place]), _DIGITS),
                "box": [round(float(v), 2) for v in (x[0], y[0], x[1], y[1])],
            }
        )
    return {"boxes": found}


def segmentation(
    outputs: Outputs, radiograph: reading.Radiograph, classes: Sequence[str]
) -> Answer:
    """`mask`, uint8 [H, W] of the file, and the share of each class.

    `NOT_SEEN` is where the picture reached out of the network's square.

    Args:
      outputs: `segmentation` [S, S], class indices.
      radiograph: The picture.
      classes: Names, background first.
    """
    mask = to_file(
        np.asarray(outputs["segmentation"], np.uint8),
        radiograph,
        interpolation=cv2.INTER_NEAREST,
        outside=NOT_SEEN,
    )
    seen = max(1, int((mask != NOT_SEEN).sum()))
    share = [float((mask == c).sum()) / seen for c in range(len(classes))]
    return {"mask": mask, "share": _named(classes, share)}


def to_file(
    square: np.ndarray,
    radiograph: reading.Radiograph,
    *,
    interpolation: int,
    outside: int = 0,
) -> np.ndarray:
    """Lays what covers the square, [h, w], on the pixels of the file, [H, W]."""
    cell = len(radiograph.image) / np.array(square.shape[::-1], float)
    matrix = np.diag([1 / cell[0], 1 / cell[1], 1.0]) @ radiograph.matrix
    # OpenCV's coordinates are of pixel centres.
    centred = matrix[:2].copy()
    centred[:, 2] += 0.5 * (matrix[:2, 0] + matrix[:2, 1]) - 0.5
    return cv2.warpAffine(
        square,
        centred,
        (radiograph.width, radiograph.height),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )


def _named(classes: Sequence[str], values: Sequence[float] | np.ndarray) -> Answer:
    return {
        name: round(float(value), _DIGITS)
        for name, value in zip(classes, values, strict=True)
    }
