"""Digests of what a prepared set depends on; another digest, another set."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from tfds_builders import records


def of_records(found: Mapping[str, Sequence[records.Record]]) -> str:
    """A digest of all records of all splits with everything that is known of them."""
    result = hashlib.sha256()
    for split, part in found.items():
        result.update(split.encode())
        for record in part:
            result.update(b"\0".join(_parts(record)))
    return result.hexdigest()


def of_code(builder: type) -> str:
    """A digest of the code of this package, and of a builder beside its own."""
    found = list(epath.Path(__file__).parent.glob("*.py"))
    module = sys.modules[builder.__module__]
    file = getattr(module, "__file__", None)  # None in a notebook
    if file is not None:
        own = epath.Path(file)
        found += own.parent.glob("*.py") if module.__package__ else [own]
    result = hashlib.sha256()
    for path in sorted(found):
        if not path.name.endswith("_test.py"):
            result.update(path.read_bytes())
    return result.hexdigest()


def of_texts(*parts: str) -> str:
    """A digest of texts in their order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


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
