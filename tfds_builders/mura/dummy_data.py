"""A made-up release of mura: real tree, names, tables and quirks, no patient."""

from __future__ import annotations

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

BODY_PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")
_WRAPPER = "MURA-v1.1"


def write(folder: epath.Path, *, images: int = 60, seed: int = 0) -> None:
    """Writes the release.

    Args:
      folder: Gets a folder `MURA-v1.1`.
      images: How many are readable, at least 28.
      seed: Another seed draws other images.
    """
    rng = np.random.default_rng(seed)
    root = folder / _WRAPPER
    paths: dict[str, list[str]] = {"train": [], "valid": []}
    labels: dict[str, list[str]] = {"train": [], "valid": []}
    written = index = 0
    while written < images:
        part = "valid" if index % 8 in (3, 6) else "train"
        # Two studies in a row, of two body parts, are one patient's.
        patient = 11 + index // 2 + (10_000 if part == "valid" else 0)
        positive = (index + index // 7) % 2 == 1
        word = "positive" if positive else "negative"
        body = BODY_PARTS[index % 7]
        study = f"{part}/XR_{body}/patient{patient:05d}/study1_{word}"
        labels[part].append(f"{_WRAPPER}/{study}/,{int(positive)}")
        for number in range(1, min(1 + index % 3, images - written) + 1):
            _picture(rng, root / study / f"image{number}.png", positive, written)
            paths[part].append(f"{_WRAPPER}/{study}/image{number}.png")
            written += 1
        index += 1
    _add_quirks(root, paths["train"], labels["train"])
    for part in paths:
        _table(root / f"{part}_image_paths.csv", paths[part])
        _table(root / f"{part}_labeled_studies.csv", labels[part])


def _picture(
    rng: np.random.Generator, path: epath.Path, positive: bool, index: int
) -> None:
    height, width = int(rng.integers(40, 56)), int(rng.integers(32, 48))
    spots = [(0.3, 0.5), (0.7, 0.5)] if positive else []
    picture = dummy_images.draw(rng, height, width, spots)
    suffix = ".jpeg" if index % 11 == 4 else ".png"
    mode = "" if suffix == ".jpeg" else ("", "RGB", "", "RGBA")[index % 4]
    _write(path, dummy_images.encode(picture, suffix, mode))


def _add_quirks(root: epath.Path, paths: list[str], labels: list[str]) -> None:
    study = "train/XR_WRIST/patient09001/study1_negative"
    labels.append(f"{_WRAPPER}/{study}/,0")
    whole = (root.parent / paths[0]).read_bytes()
    _write(root / study / "image1.png", whole[: len(whole) // 2])
    _write(root / study / "image2.png", b"")
    _write(root / study / "image4.png", whole)
    for name in ("._image1.png", "._image2.png"):
        _write(root / study / name, dummy_images.apple_double())
    listed = ("image1.png", "image2.png", "image3.png", "._image2.png")
    paths.extend(f"{_WRAPPER}/{study}/{name}" for name in listed)


def _table(path: epath.Path, lines: list[str]) -> None:
    _write(path, "\r\n".join(lines).encode())
