"""Copies that the audit misses, and pictures that it takes for copies.

    python -m benchmarks.copies --pictures=FOLDER

The folder has one of pictures for each set, with a `labels.csv` of `file` and, where
they are known, `group`. First all pictures are compared; a pair of two groups is a
false alarm, or nobody knew. Then every `--each`-th is mirrored, turned, inverted or cut
at a random place, encoded anew, and looked for among the others.
"""

from __future__ import annotations

import collections
import csv
import hashlib
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from absl import app, flags

from benchmarks import recording
from mtpret_jax.audit import copies, signatures
from tfds_builders.images import reader

_FOLDER = flags.DEFINE_string("pictures", None, "Folder of sets.", required=True)
_EACH = flags.DEFINE_integer("each", 12, "Of so many pictures one is changed.")
_QUALITY = flags.DEFINE_integer("quality", 60, "Of the changed pictures' JPEG.")

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _cut(down: float, across: float) -> Change:
    def cut(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = round(down * picture.shape[0]), round(across * picture.shape[1])
        top = rng.integers(picture.shape[0] - height + 1)
        left = rng.integers(picture.shape[1] - width + 1)
        return picture[top : top + height, left : left + width]

    return cut


CHANGES: Mapping[str, Change] = {
    "mirrored": lambda picture, _: picture[:, ::-1],
    "turned by a quarter": lambda picture, _: np.rot90(picture),
    "inverted": lambda picture, _: 255 - picture,
    **{f"cut to {100 * s:.0f} %": _cut(s, s) for s in (0.8, 0.85, 0.9, 0.95)},
    **{f"cut to {100 * s:.0f} % of the height": _cut(s, 1.0) for s in (0.8, 0.9)},
}


def _rows(folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Every picture and its group; one without is a group of its own."""
    found = []
    for path in sorted(folder.glob("*/labels.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                alone = f"{path.parent.name}/{row['file']}"
                found.append((path.parent / row["file"], row.get("group") or alone))
    return found


def _read(path: pathlib.Path) -> np.ndarray:
    return reader.read_image(path, dtype=np.uint8)


def _encode(picture: np.ndarray) -> np.ndarray:
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY.value]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture), quality)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _pairs(found: copies.Copies) -> list[tuple[int, int, str]]:
    """The first picture of each two groups of equal ones, and what they are."""
    first = found.first[found.near]
    return [(i, j, k) for (i, j), k in zip(first.tolist(), found.kind, strict=True)]


def main(arguments: list[str]) -> None:
    """Looks, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    rows = _rows(pathlib.Path(_FOLDER.value).expanduser())
    known = signatures.join([signatures.of_pictures([_read(p)]) for p, _ in rows])
    start = time.process_time()
    found = copies.find(known)
    results: dict[str, Any] = {
        "pictures": len(rows),
        "files_sha256": hashlib.sha256(
            "\n".join(f"{p.parent.parent.name}/{p.name}" for p, _ in rows).encode()
        ).hexdigest(),
        "seconds_of_processor": time.process_time() - start,
        "pairs": dict(collections.Counter(found.kind)),
        "of_two_groups": dict(
            collections.Counter(
                kind for i, j, kind in _pairs(found) if rows[i][1] != rows[j][1]
            )
        ),
    }
    recording.show(str(results))
    chosen = np.arange(0, len(rows), _EACH.value)
    table = [["", "missed", "of"]]
    for name, change in CHANGES.items():
        changed = [
            _encode(change(_read(rows[i][0]), np.random.default_rng(int(i))))
            for i in chosen
        ]
        both = signatures.join([known.take(chosen), signatures.of_pictures(changed)])
        pairs = {pair[:2] for pair in _pairs(copies.find(both))}
        missed = sum((i, i + len(chosen)) not in pairs for i in range(len(chosen)))
        results[name] = {"missed": missed, "of": len(chosen)}
        table.append([name, str(missed), str(len(chosen))])
    recording.table(table)
    recording.write("copies", results, n=len(chosen))


if __name__ == "__main__":
    app.run(main)
