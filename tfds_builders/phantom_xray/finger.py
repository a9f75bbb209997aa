"""A child's finger: growth plates that close with age, joints that narrow by grade."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfds_builders.phantom_xray import bone as bone_lib
from tfds_builders.phantom_xray import canvas as canvas_lib
from tfds_builders.phantom_xray import hand

AGE, GRADE = "bone_age_months", "narrowing"
GRADES = ("0", "1", "2", "3", "4")
_YOUNGEST, _GROWN = 12.0, 216.0  # months
_AHEAD = 18.0  # months by which girls' bones are ahead of boys' of the same age
_SHAFT = np.array([1.25, 1.3, 1.1, 0.95, 0.9, 0.9, 0.95, 1.1, 1.3, 1.15])
_CAP = np.array([0.6, 0.95, 1.0, 0.95, 0.6])  # the end beyond the growth plate
_LENGTHS = (0.42, 0.3, 0.2)  # of the three bones when grown, from the palm on, units


@dataclasses.dataclass(frozen=True)
class Person:
    """Whose finger it is.

    Attributes:
      sex: "F" or "M".
      months: Age.
    """

    sex: str
    months: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Person:
        """Draws a child."""
        sex = "F" if rng.random() < 0.5 else "M"
        return Person(sex, round(float(rng.uniform(_YOUNGEST, _GROWN)), 1))

    @property
    def growth(self) -> float:
        """From 0 to 1, grown."""
        ahead = _AHEAD if self.sex == "F" else 0.0
        return min(1.0, (self.months + ahead) / (_GROWN + _AHEAD))


def draw(person: Person, rng: np.random.Generator, grade: int) -> hand.Anatomy:
    """The finger, tip up.

    Args:
      person: Decides the size of the bones and the width of the growth plates.
      rng: What differs from child to child.
      grade: How narrow the joints are, an index into `GRADES`.
    """
    grown = person.growth
    size = (0.6 + 0.4 * grown) * rng.uniform(0.96, 1.04)
    width = (0.055 + 0.025 * grown) * rng.uniform(0.95, 1.05)
    plate = 0.002 + 0.038 * (1 - grown)
    joint = 0.05 * (1 - 0.23 * grade)
    spur = 1 + 0.1 * grade  # worn joints widen the ends of their bones
    cortex = rng.uniform(0.32, 0.42)
    bones, y = [], 0.46 * size
    foot = y
    for place, length in enumerate(_LENGTHS):
        thick = width * (1 - 0.17 * place)
        cap = (0.025 + 0.03 * grown) * (1 - 0.1 * place)
        wide = thick * (0.75 + 0.45 * grown) * (spur if place else 1.0)
        bones.append(_bone(y, y - cap, wide * _CAP, 0.2))
        y -= cap + plate
        shaft = thick * _SHAFT
        if place < len(_LENGTHS) - 1:
            shaft[-2:] *= spur
        bones.append(_bone(y, y - length * size, shaft, cortex))
        y -= length * size + joint
    line = np.array([(0.0, foot + 0.4), (0.0, foot), (0.0, 0.0), (0.0, y + 0.02)])
    line = canvas_lib.smooth(line, closed=False)
    skin = np.interp(np.linspace(0, 1, len(line)), [0, 0.6, 1], [1.9, 1.7, 0.9])
    return hand.Anatomy(
        bones=tuple(bones),
        lines=(line,),
        widths=(skin * width,),
        depth=0.09,
        soft=rng.uniform(0.6, 1.0),
        middle=(0.0, (foot + y) / 2),
        texture=int(rng.integers(2**31)),
    )


def _bone(
    start: float, end: float, half_width: np.ndarray, cortex: float
) -> bone_lib.Bone:
    """A straight bone on the finger's axis, between two heights."""
    ends = (np.array([0.0, start]), np.array([0.0, end]))
    return bone_lib.Bone(*ends, half_width, bend=0.0, cortex=cortex, long=False)
