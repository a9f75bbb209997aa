"""What answers say, in a form that reports and graphics share; who may have which."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from mtpret_jax.inference import answers, overlays

REPORT, MASKS, GRAPHICS, PICTURE = KINDS = ("sr", "seg", "gsps", "sc")
NUMBER, PERCENT, PIXELS = "", "%", "pixels"
# Points of a line: FL of explicit syntaxes ends at 65,534 bytes, a point takes 8.
MOST_POINTS = 8_000
_NO_POINTS = np.zeros((0, 2))


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number with its unit; `NUMBER` is a unit, too."""

    name: str
    value: float
    unit: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that an answer says, of the image or of a place in it.

    Attributes:
      name: The class, landmark, grade or quantity.
      measures: Its numbers.
      said: Names and words that are no numbers.
      points: A closed line, one point, or none for the whole image: x and y, float
        [N, 2], pixels of the file; 0 is the outer edge of the first one.
      text: What stands beside it on the image; "" for nothing.
      is_shown: Whether it is drawn on the image.
      is_reported: Whether it stands in a report.
    """

    name: str
    measures: tuple[Measure, ...] = ()
    said: tuple[tuple[str, str], ...] = ()
    points: np.ndarray = dataclasses.field(default_factory=_NO_POINTS.copy)
    text: str = ""
    is_shown: bool = False
    is_reported: bool = True


@dataclasses.dataclass(frozen=True)
class Content:
    """What objects can be made of a kind of answer.

    Attributes:
      kinds: Those of `KINDS` that make sense.
      findings: Makes findings of an answer and the names of classes; measures that are
        no finite numbers may be among them.
    """

    kinds: tuple[str, ...]
    findings: Callable[[answers.Answer, Sequence[str]], list[Finding]]


def findings(
    made: answers.Answers, answer: answers.Answer, classes: Sequence[str]
) -> list[Finding]:
    """What an answer says, without numbers and places that are not finite.

    Args:
      made: What gave the answer.
      answer: With the mask, where there is one.
      classes: Names of the model's classes.
    """
    found = CONTENTS[type(made)].findings(answer, classes)
    return [
        dataclasses.replace(
            finding, measures=tuple(m for m in finding.measures if _is_finite(m))
        )
        for finding in found
        if np.isfinite(finding.points).all()
    ]


def _is_finite(measure: Measure) -> bool:
    return math.isfinite(measure.value)


def _none(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    del answer, classes
    return []


def _classes(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    """Probabilities, in percent, decisions, and the class or grade that was chosen."""
    found = []
    for name in classes:
        measures = [Measure("Probability", 100 * answer["probability"][name], PERCENT)]
        if name in (calibrated := answer.get("calibrated", {})):
            measures.append(
                Measure("Calibrated probability", 100 * calibrated[name], PERCENT)
            )
        said: list[tuple[str, str]] = []
        if name in (decided := answer.get("decision", {})):
            said.append(("Above threshold", "yes" if decided[name] else "no"))
        if "predicted" in answer:
            chosen = answer["predicted"] == name
            said.append(("Predicted", "yes" if chosen else "no"))
        found.append(Finding(name, tuple(measures), tuple(said)))
    return found


def _numbers(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    """Numbers with their unit, and what was told beside the image."""
    told = str(answer.get("second", ""))
    said = (("Told beside the image", told),) if told else ()
    unit = str(answer.get("unit", NUMBER))
    return [
        Finding(name, (Measure(name, answer["value"][name], unit),), said)
        for name in classes
    ]


def _boxes(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    """Their number, then each box as the line around it."""
    del classes
    rows = answer["boxes"]
    found = [Finding("Boxes", (Measure("Number of boxes", len(rows), NUMBER),))]
    for row in rows:
        x0, y0, x1, y1 = row["box"]
        found.append(
            Finding(
                row["class"],
                (Measure("Score", 100 * row["score"], PERCENT),),
                points=np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]),
                text=f"{row['class']} {row['score']:.2f}",
                is_shown=row["score"] >= overlays.SCORE_SHOWN,
            )
        )
    return found


def _regions(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    """The share of each class, then the outline of each part; without the background.

    An outline runs through the middle of a part's outermost pixels. The largest part
    of a class has its name. No outline is reported: the masks are objects, too.
    """
    found, mask = [], answer["mask"]
    for place, name in enumerate(classes[1:], start=1):
        share = Measure("Share of the image", 100 * answer["share"][name], PERCENT)
        found.append(Finding(name, (share,)))
        rims, _ = cv2.findContours(
            (mask == place).astype(np.uint8),
            cv2.RETR_EXTERNAL,
            cv2.CHAIN_APPROX_SIMPLE,
        )
        text = name
        for rim in sorted(rims, key=cv2.contourArea, reverse=True):
            points = _thin(rim)[:, 0].astype(float) + 0.5
            closed = np.concatenate([points, points[:1]])
            line = Finding(name, (), (), closed, text, True, is_reported=False)
            found.append(line)
            text = ""
    return found


def _thin(rim: np.ndarray) -> np.ndarray:
    """A line [N, 1, 2] of so few points as an object holds; few are near that."""
    slack = 0.5  # pixels
    while len(rim) >= MOST_POINTS:
        rim, slack = cv2.approxPolyDP(rim, slack, closed=True), 2 * slack
    return rim


def _points(answer: answers.Answer, classes: Sequence[str]) -> list[Finding]:
    return [
        Finding(
            name,
            (Measure("Spread", point["spread"], PIXELS),),
            points=np.array([[point["x"], point["y"]]]),
            text=name,
            is_shown=True,
        )
        for name in classes
        for point in [answer["landmarks"][name]]
    ]


CONTENTS: Mapping[type[answers.Answers], Content] = {
    answers.Answers: Content((), _none),
    answers.Classification: Content((REPORT,), _classes),
    answers.Ordinal: Content((REPORT,), _classes),
    answers.Regression: Content((REPORT,), _numbers),
    answers.Detection: Content((REPORT, GRAPHICS, PICTURE), _boxes),
    answers.Segmentation: Content(KINDS, _regions),
    answers.Landmarks: Content((REPORT, GRAPHICS, PICTURE), _points),
}
