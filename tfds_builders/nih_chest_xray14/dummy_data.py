"""Invented files in the shape of the NIH ChestX-ray14 release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from etils import epath

from tfds_builders.nih_chest_xray14 import nih_chest_xray14_dataset_builder as builder
from tfds_builders.releases import dummy_images

_write = dummy_images.write

LAYOUTS = ("box", "kaggle", "parts")

_SIDE = 48  # pixels
_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def write(
    folder: epath.Path,
    *,
    images: int = 42,
    seed: int = 0,
    layout: str = "box",
    is_2017: bool = False,
) -> None:
    """Writes a release: patients of three images, a quarter of them for testing.

    Two images of a patient share the fourteen findings between them, the third has
    none. Each finding is a spot at a place of its own.

    Args:
      folder: Becomes the root of the release.
      images: How many, about; a multiple of three.
      seed: Another seed gives other images and findings.
      layout: "box", "kaggle" or "parts"; see `LAYOUTS`.
      is_2017: Writes the older table, with its trailing comma and impossible ages.
    """
    rng = np.random.default_rng(seed)
    rows, boxes = [], []
    lists: dict[str, list[str]] = {"train_val_list.txt": [], "test_list.txt": []}
    for number in range(max(4, round(images / 3))):
        patient, is_test = 7 * number + 1, number % 4 == 3
        order = rng.permutation(len(builder.FINDINGS))
        for follow_up, part in enumerate((order[:7], order[7:], order[:0])):
            name = f"{patient:08}_{follow_up:03}.png"
            found = sorted(int(index) for index in part)
            age = str(30 + number + follow_up)
            if is_2017:
                age = "414" if number == 0 else f"{int(age):03}Y"
            rows.append(_row(name, found, patient, age, is_2017))
            lists["test_list.txt" if is_test else "train_val_list.txt"].append(name)
            if is_test:
                boxes.extend(_boxes(name, found))
            path = folder / _place(layout, number) / name
            # A few files of the release have four channels.
            mode = "RGBA" if number % 5 == 1 and follow_up == 0 else ""
            _write(path, dummy_images.png(_picture(rng, found), mode))
    _junk(folder)
    end = "," if is_2017 else ""
    table = "Data_Entry_2017.csv" if is_2017 else "Data_Entry_2017_v2020.csv"
    (folder / table).write_text("\n".join([_HEADER + end, *rows]) + "\n")
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    (folder / "BBox_List_2017.csv").write_text("\n".join([header, *boxes]) + "\n")
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines))


def centre(finding: int) -> tuple[float, float]:
    """Where a finding's spot is: y, x as fractions."""
    return (finding // 4 + 0.5) / 4, (finding % 4 + 0.5) / 4


def _picture(rng: np.random.Generator, found: Sequence[int]) -> np.ndarray:
    spots = [centre(index) for index in found]
    return dummy_images.draw(rng, _SIDE, _SIDE, spots, radius=0.08)


def _row(name: str, found: Sequence[int], patient: int, age: str, is_2017: bool) -> str:
    findings = "|".join(builder.FINDINGS[i] for i in found) or "No Finding"
    sex, view = "MF"[patient % 2], ("PA", "AP")[patient % 3 == 0]
    follow_up = int(name[9:12])
    cells = f"{name},{findings},{follow_up},{patient},{age},{sex},{view}"
    return f"{cells},2682,2749,0.143,0.143" + ("," if is_2017 else "")


def _boxes(name: str, found: Sequence[int]) -> list[str]:
    """Rows for the first findings that the release has boxes of."""
    rows = []
    for index in [i for i in found if builder.FINDINGS[i] in builder.BOXED][:2]:
        finding = builder.FINDINGS[index].replace("Infiltration", "Infiltrate")
        y, x = (1024 * c for c in centre(index))
        rows.append(f"{name},{finding},{x - 90.5},{y - 90.5},181,181.0")
    return rows


def _place(layout: str, number: int) -> str:
    part = f"images_{number % 12 + 1:03}"
    return {"box": "images", "kaggle": f"{part}/images", "parts": part}[layout]


def _junk(folder: epath.Path) -> None:
    """What systems leave behind."""
    for name in ("._Data_Entry_2017.csv", "__MACOSX/images/._00000001_000.png"):
        _write(folder / name, dummy_images.apple_double())
