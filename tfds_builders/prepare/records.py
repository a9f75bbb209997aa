"""What a set says about an image before it is loaded, and how its files are read."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from tfds_builders import xray_features
from tfds_builders.images import reader
from tfds_builders.sources import files


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


@contextlib.contextmanager
def reading(listing: files.Listing, name: str, *, what: str = "") -> Iterator[None]:
    """Within, a file of a listing is read and used.

    Args:
      listing: The files that there were.
      name: Path of the file below the folder.
      what: What the file is, where it is not the image itself; for reasons.

    Raises:
      reader.UnreadableImage: If the file can't be read, or is a dangling link.
      FileNotFoundError: If it has vanished since it was listed.
    """
    start = f"{what} {name}: " if what else ""
    try:
        yield
    except FileNotFoundError as error:
        if listing.holds(name):
            raise
        raise reader.UnreadableImage(f"{start}a link that leads nowhere") from error
    except reader.UnreadableImage as error:
        raise reader.UnreadableImage(f"{start}{error}") from error
