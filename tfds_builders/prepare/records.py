"""What a set says about an image before it is loaded."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfds_builders import xray_features


@dataclasses.dataclass(frozen=True)
class Record:
    """An image of a set before it is loaded.

    Attributes:
      image_id: Unique in the set; holds no path of this machine.
      group: The patient, or the group of near copies, that must not cross splits.
      source: What `load` needs; each set's own. Made of dataclasses, arrays, lists,
        dictionaries and plain values, so that it can be compared and sent elsewhere.
      about: What is told about the image besides its labels.
      stratum: What splits should share alike; "" for nothing.
    """

    image_id: str
    group: str
    source: Any = None
    about: xray_features.About = xray_features.About()
    stratum: str = ""


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A file that was left out, and why."""

    file: str
    reason: str
