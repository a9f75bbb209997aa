"""What the JSON beside a file of weights says that the file cannot: family and pixels.

Hugging Face's `config.json` and `preprocessor_config.json`, timm's `config.json`, and
those of an export of ours.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

MODEL, PIXELS = "config.json", "preprocessor_config.json"
_LARGEST = 2**20  # bytes; theirs have a few hundred
# Where names and shapes fit several families, by transformers' `model_type`.
_FAMILIES: Mapping[str, str] = {"vit": "deit", "deit": "deit", "vit_mae": "mae"}


@dataclasses.dataclass(frozen=True)
class Said:
    """What lies beside a file.

    Attributes:
      family: The family that it names, of those that a file cannot tell apart; "" for
        none.
      pixels: `mean` and `deviation` of each channel of intensities in [0, 1], as the
        network was trained; none where nothing says so.
      notes: What could not be read, a line each.
    """

    family: str = ""
    pixels: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: epath.PathLike) -> Said:
    """What lies beside a file of weights; nothing where there is no such JSON."""
    found, notes = {}, []
    for name in (MODEL, PIXELS):
        file = epath.Path(path).parent / name
        try:
            found[name] = _read(file)
        except (OSError, ValueError) as error:
            notes.append(f"{os.fspath(file)} was not read: {error}")
            found[name] = {}
    model = found[MODEL]
    timms = _table(model, "pretrained_cfg")
    family = _FAMILIES.get(str(model.get("model_type")), "")
    ours = _table(_table(model, "mtpret_jax"), "network")  # Of an export.
    family = str(ours.get("family") or family)
    if re.match(r"(vit|deit)_", str(model.get("architecture"))):
        family = "mae" if str(timms.get("tag")).startswith("mae") else "deit"
    pixels = _pixels(timms.get("mean"), timms.get("std"))
    other = found[PIXELS]
    if other.get("do_normalize", True):
        pixels = _pixels(other.get("image_mean"), other.get("image_std")) or pixels
    return Said(family, pixels, tuple(notes))


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table in a table; an empty one where there is none."""
    inner = found.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _read(file: epath.Path) -> Mapping[str, Any]:
    """The table in a file; an empty one where there is no file."""
    if not file.exists():
        return {}
    if file.stat().length > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST} bytes.")
    found = json.loads(file.read_bytes())
    if not isinstance(found, Mapping):
        raise ValueError("it holds no table.")
    return found


def _pixels(mean: Any, deviation: Any) -> Mapping[str, tuple[float, ...]]:
    """Both as numbers of each channel; nothing where they are none."""
    rows = []
    for values in (mean, deviation):
        if not isinstance(values, list) or not values:
            return {}
        if not all(isinstance(value, (int, float)) for value in values):
            return {}
        rows.append(tuple(float(value) for value in values))
    alike = len(rows[0]) == len(rows[1])
    return dict(zip(("mean", "deviation"), rows, strict=True)) if alike else {}
