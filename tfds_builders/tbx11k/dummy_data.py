"""A stand-in for TBX11K: its tree, names and quirks, with images of nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

SIDE = 48  # pixels; 512 in the release
_LARGE = 6  # how many times larger the images were when the XML was written


_CATEGORIES = [
    {"id": 1, "name": "ActiveTuberculosis", "supercategory": "Tuberculosis"},
    {"id": 2, "name": "ObsoletePulmonaryTuberculosis", "supercategory": "Tuberculosis"},
    {"id": 3, "name": "PulmonaryTuberculosis", "supercategory": "Tuberculosis"},
]
_EXTRA = {
    "train": (
        "extra/mc+shenzhen/train/MCUCXR_0001_0.png",
        "extra/mc+shenzhen/train/CHNCXR_0327_1.png",
        "extra/da+db/train/p1.jpg",
    ),
    "val": ("extra/mc+shenzhen/val/MCUCXR_0104_1.png",),
    "test": ("extra/da+db/test/n2.jpg",),
}
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, pixels
Boxes = list[tuple[Box, int]]


def write(folder: epath.Path, *, images: int = 16, seed: int = 0) -> None:
    """Writes the tree below `folder`/TBX11K.

    Args:
      folder: Made if it is not there.
      images: Healthy, sick and TB images of train and val that can be read; half of
        them have TB. Nine more are test, `extra/` or in some way odd.
      seed: Another seed gives other images and boxes.
    """
    rng = np.random.default_rng(seed)
    root = folder / "TBX11K"
    found: dict[str, dict[str, Boxes]] = {"train": {}, "val": {}, "test": {}}
    for index in range(images):
        kind, place = ("tb", "health", "tb", "sick")[index % 4], index // 4
        number = 2 * place + index % 4 // 2 + 1 if kind == "tb" else place + 1
        name = {"tb": "tb{:04d}", "health": "h{:04d}", "sick": "s{:04d}"}[kind]
        spots: Boxes = []
        if kind == "tb":
            spots = [(dummy_images.box(rng, SIDE, SIDE), 1 + index % 4 // 2)]
        split = "val" if place % 4 == 3 else "train"
        found[split][f"{kind}/{name.format(number)}.png"] = spots
    spot = dummy_images.box(rng, SIDE, SIDE)
    found["train"]["tb/tb1199.png"] = []
    found["train"]["tb/tb1200.png"] = [(spot, 1), (spot, 3)]
    found["test"]["test/0001.png"] = [(spot, 1)]
    for split, names in _EXTRA.items():
        found[split].update((name, []) for name in names)

    for name, spots in (pair for part in found.values() for pair in part.items()):
        _write_picture(root / "imgs" / name, rng, [box for box, _ in spots])
    odd = root / "imgs" / "sick" / "s9998.png"
    _write_picture(odd, rng, [])
    damaged = root / "imgs" / "health" / "h9999.png"
    _write_picture(damaged, rng, [])
    damaged.write_bytes(damaged.read_bytes()[:200])
    found["train"]["health/h9999.png"] = []
    found["train"]["health/h9998.png"] = []  # in the lists, nowhere else
    _write(root / "imgs" / "tb" / "._tb0001.png", "leftover")
    _write(folder / "__MACOSX" / "._TBX11K", "leftover")
    _write_lists(root, found)
    _write_json(root, found)
    for name, spots in {**found["train"], **found["val"]}.items():
        if spots:
            stem = name.split("/")[1].removesuffix(".png")
            _write(root / "annotations" / "xml" / f"{stem}.xml", _xml(spots))


def _write_lists(root: epath.Path, found: Mapping[str, Iterable[str]]) -> None:
    for split, names in _with_trainval(found).items():
        own = [name for name in names if not name.startswith("extra/")]
        _write(root / "lists" / f"all_{split}.txt", "\n".join(names))
        if split != "test":
            _write(root / "lists" / f"TBX11K_{split}.txt", "\n".join(own))


def _write_json(root: epath.Path, found: Mapping[str, Mapping[str, Boxes]]) -> None:
    every = {name: spots for part in found.values() for name, spots in part.items()}
    for split, names in _with_trainval(found).items():
        own = [name for name in names if not name.startswith("extra/")]
        lists = {f"all_{split}": names, f"TBX11K_{split}": own}
        if split == "test":
            del lists["TBX11K_test"]
        else:
            lists[f"TBX11K_{split}_only_tb"] = [n for n in own if n.startswith("tb/")]
        for stem, listed in lists.items():
            text = _coco({name: every[name] for name in listed}, split != "test")
            _write(root / "annotations" / "json" / f"{stem}.json", text)


def _with_trainval(found: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    lists = {split: sorted(names) for split, names in found.items()}
    return {"trainval": lists["train"] + lists["val"], **lists}


def _coco(found: Mapping[str, Boxes], with_boxes: bool) -> str:
    """COCO's JSON; the ids of its images start anew in each file."""
    images, boxes = [], []
    for number, (name, spots) in enumerate(found.items(), start=1):
        size = {"width": SIDE, "height": SIDE}
        images.append({"id": number, "file_name": name, **size})
        for (x0, y0, x1, y1), category in spots if with_boxes else []:
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": category,
                    "iscrowd": 0,
                    "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                }
            )
    data = {"categories": _CATEGORIES, "images": images}
    return json.dumps(data | ({"annotations": boxes} if with_boxes else {}))


def _xml(spots: Boxes) -> str:
    side = SIDE * _LARGE
    parts = [f"<size><width>{side}</width><height>{side}</height></size>"]
    for box, category in spots:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        cells = "".join(f"<{n}>{v * _LARGE}</{n}>" for n, v in corners)
        name = _CATEGORIES[category - 1]["name"]
        parts.append(f"<object><name>{name}</name><bndbox>{cells}</bndbox></object>")
    return f"<annotation>{''.join(parts)}</annotation>"


def _write_picture(
    path: epath.Path, rng: np.random.Generator, spots: list[Box]
) -> None:
    picture = dummy_images.draw(rng, SIDE, SIDE)
    for box in spots:
        picture = dummy_images.fill(picture, box)
    _write(path, dummy_images.encode(picture, path.suffix, "RGB"))
