"""A stand-in for FracAtlas: its tree, names and quirks, with images of nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

HEIGHT, WIDTH = 48, 64  # pixels; 454x373 to 2880x2304 in the release


_HEADER = (
    "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,"
    "frontal,lateral,oblique"
)
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, pixels
Boxes = list[Box]


def write(folder: epath.Path, *, images: int = 12, seed: int = 0) -> None:
    """Writes the tree below `folder`/FracAtlas.

    Args:
      folder: Made if it is not there.
      images: X-rays that can be read, every other one with a fracture. Six more are in
        some way odd.
      seed: Another seed gives other images and boxes.
    """
    rng = np.random.default_rng(seed)
    root = folder / "FracAtlas"
    rows, found = [_HEADER], {}
    for index in range(images):
        boxes: Boxes = []
        if index % 2:
            boxes = [dummy_images.box(rng, HEIGHT, WIDTH)]
        if index == 3:
            boxes += [(50, 30, 80, 44), (5, 5, 5, 20)]
        name = f"IMG{index:07d}.jpg"
        _write_picture(root, name, rng, boxes, is_colour=index % 3 == 0)
        rows.append(_row(name, index, bool(boxes)))
        if boxes:
            found[name] = boxes
    rows.append(_row("IMG0009000.jpg", 1, True))  # no box
    _write_picture(root, "IMG0009000.jpg", rng, [], folder="Fractured")
    rows.append(_row("IMG0009001.jpg", 0, False))  # in the folder of the others
    _write_picture(root, "IMG0009001.jpg", rng, [], folder="Fractured")
    for number in (9002, 9003):
        name = f"IMG000{number}.jpg"
        path = _write_picture(root, name, rng, [])
        path.write_bytes(path.read_bytes()[:-300])
        rows.append(_row(name, 2, False))
    rows.append(_row("IMG0009004.jpg", 2, False))
    _write_picture(root, "IMG0009005.jpg", rng, [])
    _write(root / "images" / "Fractured" / "._IMG0000001.jpg", b"leftover")
    _write(root / "dataset.csv", ("\ufeff" + "\r\n".join(rows)).encode())
    _write_annotations(root, found)
    names = list(found)
    for split, part in (
        ("train", names[2:]),
        ("valid", names[:1]),
        ("test", names[1:2]),
    ):
        path = root / "Utilities" / "Fracture Split" / f"{split}.csv"
        _write(path, "\n".join(["image_id", *part]).encode())


def _row(name: str, index: int, is_fractured: bool) -> str:
    parts = [int(index % 4 == place) for place in range(4)]
    views = [1, int(index % 3 == 1), 0]
    count = int(is_fractured)
    cells = [*parts, 0, int(index == 4), 0, int(is_fractured), count, *views]
    return ",".join([name, *map(str, cells)])


def _write_annotations(root: epath.Path, found: Mapping[str, Boxes]) -> None:
    data: dict[str, list[object]] = {
        "categories": [{"id": 1, "name": "fractured"}],
        "images": [],
        "annotations": [],
    }
    folder = root / "Annotations"
    for number, (name, boxes) in enumerate(found.items()):
        size = {"width": WIDTH, "height": HEIGHT}
        data["images"].append({"id": number, "file_name": name, **size})
        lines, parts = [], []
        for x0, y0, x1, y1 in boxes:
            outline = [x0, y0, x1, y0, x1, y1, x0, y1]
            data["annotations"].append(
                {
                    "id": len(data["annotations"]),
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": [outline],
                }
            )
            sides = [(WIDTH, HEIGHT)[place % 2] for place in range(8)]
            shares = zip(outline, sides, strict=True)
            lines.append(" ".join(["0", *(f"{v / side:.6f}" for v, side in shares)]))
            parts.append(_xml_object((x0, y0, x1, y1)))
        stem = name.removesuffix(".jpg")
        told = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        xml = f"<annotation>{told}{''.join(parts)}</annotation>"
        _write(folder / "YOLO" / f"{stem}.txt", "\n".join(lines).encode())
        _write(folder / "PASCAL VOC" / f"{stem}.xml", xml.encode())
    path = folder / "COCO JSON" / "COCO_fracture_masks.json"
    _write(path, json.dumps(data).encode())


def _xml_object(box: Box) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    cells = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    return f"<object><name>fractured</name><bndbox>{cells}</bndbox></object>"


def _write_picture(
    root: epath.Path,
    name: str,
    rng: np.random.Generator,
    boxes: Boxes,
    *,
    folder: str = "",
    is_colour: bool = False,
) -> epath.Path:
    picture = dummy_images.draw(rng, HEIGHT, WIDTH)
    for box in boxes[:1]:
        picture = dummy_images.fill(picture, box)
    folder = folder or ("Fractured" if boxes else "Non_fractured")
    path = root / "images" / folder / name
    _write(path, dummy_images.encode(picture, ".jpg", "RGB" if is_colour else ""))
    return path
