"""What a set says about an image before it is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

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


def digest(found: Mapping[str, Sequence[Record]]) -> str:
    """A digest of all records of all splits with everything that is known of them."""
    result = hashlib.sha256()
    for split, records in found.items():
        result.update(split.encode())
        for record in records:
            result.update(b"\0".join(_parts(record)))
    return result.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """Yields bytes that are the same for equal values in every process."""
    if dataclasses.is_dataclass(value):
        yield type(value).__qualname__.encode()
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype.str}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        yield f"{{{len(value)}".encode()
        for key, entry in value.items():
            yield from _parts(key)
            yield from _parts(entry)
    elif isinstance(value, (list, tuple)):
        yield f"[{len(value)}".encode()
        for entry in value:
            yield from _parts(entry)
    else:
        yield repr(value).encode()
