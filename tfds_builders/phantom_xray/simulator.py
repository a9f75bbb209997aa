"""A simulator of radiographs with exact labels: pure NumPy and OpenCV.

X-rays are sent through analytic bodies (Beer-Lambert), scattered, counted with noise
and shown in display polarity. Image i of a split is a pure function of the body, the
size, the seed, the split and i. Nothing here knows TFDS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from tfds_builders.phantom_xray import canvas as canvas_lib
from tfds_builders.phantom_xray import chest, finger, hand, head
from tfds_builders.phantom_xray import exposure as exposure_lib

SMALLEST = 32  # pixels of the longest side, below which nothing can be seen

_PATIENT, _VIEW = 0, 1  # streams of random numbers


@dataclasses.dataclass(frozen=True)
class Radiograph:
    """A simulated image and what is known about it.

    Attributes:
      image: Display polarity (bone white), uint8 [H, W].
      finding: Index into the body's classes; 0 is the normal one.
      mask: Label map, 0 background and 1 the body's structure, uint8 [H, W]; None
        for a body without masks.
      boxes: ymin, xmin, ymax, xmax as fractions, float32 [N, 4]; empty for a normal
        image; None for a body without boxes.
      grades: Index of the class of each of the body's `grades`.
      values: Number of each of the body's `values`.
      landmarks: y, x as fractions, float32 [P, 2], NaN where the image does not show
        one; None for a body without landmarks.
    """

    image: np.ndarray
    finding: int
    mask: np.ndarray | None
    boxes: np.ndarray | None
    grades: Mapping[str, int]
    values: Mapping[str, float]
    landmarks: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Scene:
    """What a body hands back: attenuation and mask [H, W], boxes and what else it has.

    `points` are x, y in pixels, whose centres are whole numbers, [P, 2].
    """

    attenuation: np.ndarray
    mask: np.ndarray | None
    boxes: list[tuple[float, float, float, float]] | None
    grades: Mapping[str, int] = dataclasses.field(default_factory=dict)
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    points: np.ndarray | None = None


class _Drawer(Protocol):
    """Draws a body: patient's numbers, view's numbers, size, whether diseased."""

    def __call__(
        self,
        patient: np.random.Generator,
        view: np.random.Generator,
        size: int,
        diseased: bool,
    ) -> _Scene: ...


@dataclasses.dataclass(frozen=True)
class Body:
    """A kind of radiograph.

    Attributes:
      classes: Names of the exclusive finding; the first is the normal one.
      mask_names: Names of the mask's values from 1 upwards, or empty.
      object_names: Names of what is boxed, or empty.
      landmark_names: Names of the landmarks, or empty.
      draw: Draws one scene.
      grades: Further label columns and their classes in order.
      values: Value columns and their units.
      tells_sex: Whether the sex is told.
    """

    classes: tuple[str, ...]
    mask_names: tuple[str, ...]
    object_names: tuple[str, ...]
    draw: _Drawer
    grades: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tells_sex: bool = False
    landmark_names: tuple[str, ...] = ()


def patient_of(index: int) -> int:
    """The patient of image `index`: patients have two images and one in turn."""
    return index * 2 // 3


def simulate(
    body: str, *, size: int, seed: int, split_index: int, index: int
) -> Radiograph:
    """Takes one radiograph.

    Args:
      body: A row of `BODIES`.
      size: Longest side, pixels.
      seed: Seed of the set.
      split_index: Number of the split, so that splits share no patient.
      index: Number of the image in its split.

    Returns:
      The image with its labels.

    Raises:
      ValueError: If the body is unknown or the size too small to show anything.
    """
    if body not in BODIES:
        raise ValueError(
            f"phantom_xray: unknown body {body!r}; choose one of {sorted(BODIES)}."
        )
    if size < SMALLEST:
        raise ValueError(
            f"phantom_xray: image_size is {size} pixels, but a phantom needs at "
            f"least {SMALLEST}. Raise image_size."
        )
    patient = _patient(seed, split_index, index)
    view = np.random.default_rng([seed, split_index, _VIEW, index])
    diseased = bool(view.random() < 0.5)
    scene = BODIES[body].draw(patient, view, size, diseased)
    total = scene.attenuation
    exposure = exposure_lib.Exposure.draw(view)
    open_field = exposure_lib.field(view, total.shape, most=0.045)
    value = exposure_lib.expose(total, exposure, view)
    value = value * open_field
    boxes = None
    if scene.boxes is not None:
        boxes = np.array(scene.boxes, np.float32).reshape(-1, 4)
    mask = None
    if scene.mask is not None:
        mask = (scene.mask & open_field).astype(np.uint8)
    image = np.rint(value * 255).astype(np.uint8)
    landmarks = None
    if scene.points is not None:
        landmarks = exposure_lib.shown(scene.points, open_field)
    return Radiograph(
        image=image,
        finding=int(diseased),
        mask=mask,
        boxes=boxes,
        grades=scene.grades,
        values=scene.values,
        landmarks=landmarks,
    )


def sex_of(body: str, *, seed: int, split_index: int, index: int) -> str:
    """The sex of the patient of an image; "" for a body that tells none."""
    if not BODIES[body].tells_sex:
        return ""
    return finger.Person.draw(_patient(seed, split_index, index)).sex


def _patient(seed: int, split_index: int, index: int) -> np.random.Generator:
    """What the patient of an image is drawn from."""
    return np.random.default_rng([seed, split_index, _PATIENT, patient_of(index)])


def _chest(
    patient: np.random.Generator,
    view: np.random.Generator,
    size: int,
    diseased: bool,
) -> _Scene:
    anatomy = chest.Anatomy.draw(patient)
    canvas = _canvas(
        view,
        size,
        aspect=view.uniform(0.88, 1.12),
        zoom=(0.98, 1.14),
        degrees=5,
        shift=0.03,
    )
    opacity, boxes = canvas.zeros(), []
    if diseased:
        opacity, supports = chest.opacities(anatomy, canvas, view)
        found = [canvas_lib.bounds(support) for support in supports]
        boxes = [box for box in found if box is not None]
    total, mask = chest.attenuation(anatomy, canvas, opacity)
    _mark(total, view, text="L", left=False)
    return _Scene(attenuation=total, mask=mask, boxes=boxes)


def _hand(
    patient: np.random.Generator,
    view: np.random.Generator,
    size: int,
    diseased: bool,
) -> _Scene:
    anatomy = hand.Anatomy.draw(patient)
    canvas = _canvas(
        view,
        size,
        aspect=view.uniform(0.75, 1.0),
        zoom=(0.94, 1.1),
        degrees=16,
        shift=0.04,
        middle=anatomy.middle,
    )
    fracture, boxes = None, []
    if diseased:
        fracture, box = hand.break_bone(anatomy, canvas, view)
        boxes.append(box)
    total = hand.attenuation(anatomy, canvas, fracture)
    _mark(
        total, view, text=str(view.choice(["L", "R"])), left=bool(view.random() < 0.5)
    )
    return _Scene(attenuation=total, mask=None, boxes=boxes)


def _head(
    patient: np.random.Generator,
    view: np.random.Generator,
    size: int,
    diseased: bool,
) -> _Scene:
    anatomy = head.Anatomy.draw(patient)
    canvas = _canvas(
        view,
        size,
        aspect=view.uniform(1.35, 1.7),
        zoom=(0.98, 1.12),
        degrees=3,
        shift=0.015,
        middle=(0.0, 0.02),
    )
    absent = head.missing(anatomy, view) if diseased else frozenset()
    total, mask = head.attenuation(anatomy, canvas, absent)
    _mark(total, view, text="R", left=True)
    points = canvas.pixels(head.landmarks(anatomy))
    return _Scene(attenuation=total, mask=mask, boxes=None, points=points)


def _finger(
    patient: np.random.Generator,
    view: np.random.Generator,
    size: int,
    diseased: bool,
) -> _Scene:
    person = finger.Person.draw(patient)
    grade = int(view.integers(2, len(finger.GRADES)) if diseased else view.integers(2))
    anatomy = finger.draw(person, patient, grade)
    canvas = _canvas(
        view,
        size,
        aspect=view.uniform(0.55, 0.7),
        zoom=(0.86, 0.94),
        degrees=10,
        shift=0.02,
        middle=anatomy.middle,
    )
    total = hand.attenuation(anatomy, canvas, None)
    _mark(total, view, text="L", left=True)
    grades, values = {finger.GRADE: grade}, {finger.AGE: person.months}
    return _Scene(total, mask=None, boxes=None, grades=grades, values=values)


def _canvas(
    view: np.random.Generator,
    size: int,
    *,
    aspect: float,
    zoom: tuple[float, float],
    degrees: float,
    shift: float,
    middle: tuple[float, float] = (0.0, 0.0),
) -> canvas_lib.Canvas:
    """Draws the pose: shape of the film, zoom, rotation and shift."""
    height = size if aspect <= 1 else round(size / aspect)
    width = round(size * aspect) if aspect <= 1 else size
    scale = size * view.uniform(*zoom)
    angle = math.radians(float(np.clip(view.normal(0, degrees / 2), -degrees, degrees)))
    x, y = np.array(middle) + view.uniform(-shift, shift, 2)
    cos, sin = math.cos(angle), math.sin(angle)
    offset = (
        (width - 1) / 2 - scale * (x * cos - y * sin),
        (height - 1) / 2 - scale * (x * sin + y * cos),
    )
    return canvas_lib.Canvas(
        height=height, width=width, scale=scale, angle=angle, offset=offset
    )


def _mark(
    total: np.ndarray, view: np.random.Generator, *, text: str, left: bool
) -> None:
    """Lays a side marker into an upper corner of two images in three, in place."""
    y, x = view.uniform(0.05, 0.12), view.uniform(0.05, 0.1)
    angle = view.normal(0, 0.12)
    if view.random() < 0.67:
        exposure_lib.add_marker(total, text, (y, x if left else 1 - x), angle)


BODIES: dict[str, Body] = {
    "chest": Body(
        classes=("normal", "opacity"),
        mask_names=("lungs",),
        object_names=("opacity",),
        draw=_chest,
    ),
    "hand": Body(
        classes=("normal", "fracture"),
        mask_names=(),
        object_names=("fracture",),
        draw=_hand,
    ),
    "head": Body(
        classes=("complete", "missing_tooth"),
        mask_names=("mandible",),
        object_names=(),
        draw=_head,
        landmark_names=tuple(head.LANDMARKS),
    ),
    "finger": Body(
        classes=("wide", "narrow"),
        mask_names=(),
        object_names=(),
        draw=_finger,
        grades={finger.GRADE: finger.GRADES},
        values={finger.AGE: "months"},
        tells_sex=True,
    ),
}
