"""A made-up release of rsna_bone_age: real tree, tables and quirks, no patient."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

_TRAIN = "boneage-training-dataset"
_VALIDATION = "Bone Age Validation Set"
_TEST = "Bone Age Test Set"


def write(
    folder: epath.Path, *, images: int = 45, seed: int = 0, mirror: str = "rsna"
) -> None:
    """Writes the release.

    Args:
      folder: Gets the folders and tables.
      images: How many are readable, at least 20.
      seed: Another seed draws other images.
      mirror: "rsna", or "kaggle" with its nesting and without validation.
    """
    rng = np.random.default_rng(seed)
    small = images // 10
    train = [1377 + index for index in range(images - 2 * small)]
    test = [4360, 1378, *(4361 + index for index in range(small))][:small]
    months = [int(number) % 216 + 12 for number in train]
    if mirror == "kaggle":
        train, months = [*train, *range(3000, 3000 + small)], [*months, *[120] * small]
        for number in train:
            _picture(rng, folder / _TRAIN / _TRAIN / f"{number}.png")
        for number in test:
            name = f"boneage-test-dataset/boneage-test-dataset/{number}.png"
            _picture(rng, folder / name)
        rows = [f"{n},{'MF'[n % 2]}" for n in test]
        _table(folder / "boneage-test-dataset.csv", ["Case ID,Sex", *rows])
    else:
        for number in train:
            _picture(rng, folder / _TRAIN / f"{number}.png")
        _write_validation(rng, folder / _VALIDATION, small)
        for number in test:
            _picture(rng, folder / _TEST / "Test Set Images" / f"{number}.png")
        rows = [[n, "MF"[n % 2], n % 200 + 1.25] for n in test]
        header = ["Case ID", "Sex", "Ground truth bone age (months)"]
        _write(folder / _TEST / "Bone age ground truth.xlsx", _workbook(header, rows))
    rows = [f"{n},{age},{n % 2 == 0}" for n, age in zip(train, months, strict=True)] + [
        "9901,60,True",
        "9902,60,False",
        "9903,60,True",
    ]
    name = f"{_TRAIN}.csv" if mirror == "kaggle" else "train.csv"
    _table(folder / name, ["id,boneage,male", *rows])
    home = folder / _TRAIN / (_TRAIN if mirror == "kaggle" else "")
    whole = (home / "1377.png").read_bytes()
    # 9901 is damaged, 9902 empty, 9903 not there, 9904 in no table.
    _write(home / "9901.png", whole[: len(whole) // 3])
    _write(home / "9902.png", b"")
    _write(home / "9904.png", whole)
    _write(home / "._1377.png", dummy_images.apple_double())
    _write(folder / "__MACOSX" / _TRAIN / "._1377.png", dummy_images.apple_double())


def _write_validation(rng: np.random.Generator, home: epath.Path, count: int) -> None:
    rows = []
    for index in range(count):
        number = 1386 + 1_000 * index
        part = f"boneage-validation-dataset-{index % 2 + 1}"
        inner = f"{part}/{part}" if index % 2 else part
        _picture(rng, home / inner / f"{number}.png")
        rows.append(f"{number},{str(index % 2 == 0).upper()},{100.5 + index:.2f}")
    _table(home / "Validation Dataset.csv", ["Image ID,male,Bone Age (months)", *rows])


def _picture(rng: np.random.Generator, path: epath.Path) -> None:
    number = int(path.stem)
    height, width = int(rng.integers(44, 56)), int(rng.integers(34, 44))
    spots = [(0.3, 0.25 + 0.15 * finger) for finger in range(number % 4 + 1)]
    picture = dummy_images.draw(rng, height, width, spots, radius=0.07)
    stored = picture.astype(np.uint16) * 16 if number % 9 == 5 else picture
    mode = "RGB" if number % 9 == 2 else ""
    _write(path, dummy_images.png(stored, mode))


def _workbook(header: list[str], rows: list[list[object]]) -> bytes:
    """A workbook as Excel writes it: words are shared, empty cells are not stored."""
    words = [*header, "M", "F"]
    lines = []
    for index, row in enumerate([header, *rows], start=1):
        cells = []
        for letter, value in zip("ABC", row, strict=True):
            if isinstance(value, str):
                kind, value = ' t="s"', words.index(value)
            else:
                kind = ""
            cells.append(f'<c r="{letter}{index}"{kind}><v>{value}</v></c>')
        if index == 3:
            cells.pop(1)  # nobody noted the sex
        lines.append(f'<row r="{index}">{"".join(cells)}</row>')
    start = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = "".join(
        f"<si><r><t>{w[:1]}</t></r><r><t>{w[1:]}</t></r></si>" for w in words
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", f"{start}<sst {space}>{shared}</sst>")
        sheet = f"<sheetData>{''.join(lines)}</sheetData>"
        archive.writestr(
            "xl/worksheets/sheet1.xml", f"{start}<worksheet {space}>{sheet}</worksheet>"
        )
    return file.getvalue()


def _table(path: epath.Path, lines: list[str]) -> None:
    _write(path, "\r\n".join([*lines, ""]).encode("utf-8-sig"))
