"""A stand-in for GRAZPEDWRI-DX: its tree, names and quirks, images of nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

HEIGHT, WIDTH = 64, 48  # pixels; around 1000 x 500 in the release


_HEADER = (
    "filestem,patient_id,study_number,timehash,gender,age,laterality,projection,"
    "initial_exam,ao_classification,cast,diagnosis_uncertain,osteopenia,"
    "fracture_visible,metal,pixel_spacing,device_manufacturer"
)
_CLASSES = (
    *("boneanomaly", "bonelesion", "foreignbody", "fracture", "metal"),
    *("periostealreaction", "pronatorsign", "softtissue", "text"),
)
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, pixels
_TEXT: Box = (2, 2, 12, 10)
Boxes = Sequence[tuple[Box, str]]


def write(folder: epath.Path, *, images: int = 12, seed: int = 0) -> None:
    """Writes the tree below `folder`.

    Args:
      folder: Made if it is not there.
      images: X-rays that can be read, two a patient; every other patient has a
        fracture. Three more are odd.
      seed: Another seed gives other images and boxes.
    """
    rng = np.random.default_rng(seed)
    rows = [_HEADER]
    for index in range(images):
        patient, view = index // 2 + 1, index % 2 + 1
        has_fracture = patient % 2 == 0
        stem = f"{patient:04d}_{1297860395 + index}_01_WRI-L{view}_M014"
        found = [(_TEXT, "text")]
        if has_fracture:
            found.append((dummy_images.box(rng, HEIGHT, WIDTH), "fracture"))
        if index == 2:
            found += [((40, 50, 60, 80), "metal"), ((9, 9, 9, 20), "bonelesion")]
        path = folder / f"images_part{index % 4 + 1}" / f"{stem}.png"
        _write_picture(path, rng, found, is_deep=index != 0)
        if index == 1:
            nested = folder / "folder_structure" / "supervisely" / "wrist" / "img"
            _write_picture(nested / path.name, rng, [], is_deep=False)
        # The first has no file, the fifth an empty one.
        if index:
            _write_boxes(folder, stem, [] if index == 4 else found)
        rows.append(_row(stem, index, has_fracture))
    _write_picture(folder / "images_part1" / "stranger.png", rng, [], is_deep=True)
    damaged = folder / "images_part2" / "0900_1_01_WRI-R1_F009.png"
    _write_picture(damaged, rng, [], is_deep=True)
    damaged.write_bytes(damaged.read_bytes()[:300])
    rows.append("0900_1_01_WRI-R1_F009,900,1,1,F,9,R,1,,,,,,,,0.1,Siemens")
    rows.append("0901_1_01_WRI-R1_F009,901,1,1,F,9,R,1,,,,,,1,,0.1,Siemens")
    _write(folder / "images_part2" / "._leftover.png", b"")
    content = "\ufeff" + "\r\n".join(rows) + "\r\n"
    _write(folder / "dataset.csv", content.encode())


def _row(stem: str, index: int, has_fracture: bool) -> str:
    patient = index // 2 + 1
    sex = "O" if index == 6 else "MF"[patient % 2]
    seen, cast = ("1", "1") if has_fracture else ("", "")
    code = "23r-M/2.1;23u-E/7" if has_fracture else ""
    side, projection = ("", "3") if index == 8 else ("L", str(index % 2 + 1))
    age = "" if index == 8 else f"{5 + patient / 10:.1f}"
    cells = [stem, patient, 1, 1297860395 + index, sex, age, side, projection, 1, code]
    cells += [cast, "", "", seen, "1" if index == 2 else "", "0.144", "Siemens"]
    return ",".join(map(str, cells))


def _write_boxes(folder: epath.Path, stem: str, found: Boxes) -> None:
    root = folder / "folder_structure"
    lines, parts, objects = [], [], []
    for (x0, y0, x1, y1), name in found:
        x, y = (x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT
        w, h = (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT
        lines.append(f"{_CLASSES.index(name)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x0, y0, x1, y1), strict=True)
        cells = "".join(f"<{n}>{v}</{n}>" for n, v in corners)
        parts.append(f"<object><name>{name}</name><bndbox>{cells}</bndbox></object>")
        outline = {"exterior": [[x0, y0], [x1, y1]], "interior": []}
        objects.append(
            {"classTitle": name, "geometryType": "rectangle", "points": outline}
        )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    xml = f"<annotation>{size}{''.join(parts)}</annotation>"
    told = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
    _write(root / "yolov5" / "labels" / f"{stem}.txt", "\n".join(lines).encode())
    _write(root / "pascalvoc" / f"{stem}.xml", xml.encode())
    path = root / "supervisely" / "wrist" / "ann" / f"{stem}.png.json"
    _write(path, json.dumps(told).encode())


def _write_picture(
    path: epath.Path, rng: np.random.Generator, found: Boxes, *, is_deep: bool
) -> None:
    picture = dummy_images.draw(rng, HEIGHT, WIDTH)
    for box, name in found:
        if name == "fracture":
            picture = dummy_images.fill(picture, box)
    if is_deep:
        picture = picture.astype(np.uint16) * 257 + 1
    _write(path, dummy_images.encode(picture, path.suffix))
