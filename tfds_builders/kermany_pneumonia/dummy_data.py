"""A made-up release of kermany_pneumonia: real tree, names and quirks, no patient."""

from __future__ import annotations

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

# Classes look different, so that there is something to learn.
_SPOTS = {
    "normal": [],
    "bacteria": [(0.35, 0.3), (0.65, 0.3)],
    "virus": [(0.35, 0.7), (0.65, 0.7)],
}


def write(
    folder: epath.Path, *, images: int = 48, seed: int = 0, mirror: str = "kaggle"
) -> None:
    """Writes the release.

    Args:
      folder: Gets a folder `chest_xray`.
      images: About how many are readable, at least 24.
      seed: Another seed draws other images.
      mirror: "kaggle" (with val, nested copy and junk) or "mendeley" (without, with
        the names of its third version).
    """
    rng = np.random.default_rng(seed)
    root = folder / "chest_xray"
    names = _kaggle(images) if mirror == "kaggle" else _mendeley(images)
    for index, (name, kind) in enumerate(names):
        height, width = int(rng.integers(34, 48)), int(rng.integers(44, 60))
        picture = dummy_images.draw(rng, height, width, _SPOTS[kind])
        mode = "RGB" if kind != "normal" and index % 5 == 0 else ""
        _write(root / name, dummy_images.encode(picture, ".jpeg", mode))
    if mirror == "kaggle":
        _add_quirks(root, names)


def _kaggle(images: int) -> list[tuple[str, str]]:
    """Names below the root and the kind of each; three in ten are normal."""
    names = [
        ("val/NORMAL/NORMAL2-IM-1427-0001.jpeg", "normal"),
        ("val/PNEUMONIA/person1946_bacteria_4874.jpeg", "bacteria"),
        # Numbers start anew in test; the same name may come in both.
        ("test/PNEUMONIA/person1_virus_6.jpeg", "virus"),
        ("train/PNEUMONIA/person1_virus_6.jpeg", "virus"),
        ("train/PNEUMONIA/person1_bacteria_1.jpeg", "bacteria"),
        ("train/PNEUMONIA/pneumonia_export_17.jpeg", "bacteria"),
    ]
    for index in range(max(0, images - len(names))):
        part = "test" if index % 10 in (2, 5) else "train"
        person = 1000 + index // 2
        if index % 10 in (0, 3, 5):
            start = "NORMAL2-IM" if index % 20 == 3 else "IM"
            number = 1 if part == "test" else 115
            name = f"NORMAL/{start}-{number + index // 2:04d}-0001.jpeg"
            names.append((f"{part}/{name}", "normal"))
        else:
            kind = "virus" if index % 10 in (1, 4, 8) else "bacteria"
            name = f"PNEUMONIA/person{person}_{kind}_{index + 2}.jpeg"
            names.append((f"{part}/{name}", kind))
    return names


def _mendeley(images: int) -> list[tuple[str, str]]:
    """As `_kaggle`; every child has two images."""
    names = []
    for index in range(images):
        child = index // 2
        part = "test" if child % 5 == 2 else "train"
        kind = ("normal", "bacteria", "virus")[child % 3]
        label = "NORMAL" if kind == "normal" else "PNEUMONIA"
        stem = f"{kind.upper()}-{1003233 + child}-{index % 2 + 1:04d}"
        names.append((f"{part}/{label}/{stem}.jpeg", kind))
    return names


def _add_quirks(root: epath.Path, names: list[tuple[str, str]]) -> None:
    whole = (root / names[0][0]).read_bytes()
    _write(root / "train" / "PNEUMONIA" / "person900_virus_1.jpeg", whole[:300])
    _write(root / "train" / "NORMAL" / "IM-0900-0001.jpeg", b"")
    for name, _ in names:
        _write(root / "chest_xray" / name, (root / name).read_bytes())
    junk = dummy_images.apple_double()
    _write(root / "__MACOSX" / "train" / "NORMAL" / "._IM-0115-0001.jpeg", junk)
    _write(root / "train" / "NORMAL" / "._IM-0115-0001.jpeg", junk)
    for part in ("train", "val", "test"):
        _write(root / part / "PNEUMONIA" / ".DS_Store", b"\0\0\0\1Bud1")
    _write(root / "chest_xray" / "__MACOSX" / "._train", junk)
