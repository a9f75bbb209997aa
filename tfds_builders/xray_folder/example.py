"""Writes a folder as `xray_folder` reads it, of simulated chests: an example to copy.

    python -m tfds_builders.xray_folder.example FOLDER [--images N] [--size PIXELS]

It holds `images/`, `labels.csv`, `masks/` and `boxes.json`. Two entries are wrong on
purpose, to show what preparation does with such: an image that is cut short, and a row
of the table without an image.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2

from tfds_builders.phantom_xray import simulator

_CUT_SHORT, _MISSING = "cut_short.png", "missing.png"
_FINDINGS = simulator.BODIES["chest"].classes  # normal, opacity
_COLUMNS = ("file", "finding", "patient")


def write(
    folder: pathlib.Path, *, images: int = 300, size: int = 128, seed: int = 0
) -> None:
    """Writes the folder.

    Args:
      folder: Must be empty or not there.
      images: Good images; every second patient has two.
      size: Longest side of an image, pixels.
      seed: Another seed simulates other patients.

    Raises:
      FileExistsError: If something lies in the folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty; name another folder.")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows: list[tuple[str, str, str]] = []
    coco: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "opacity"}],
    }
    for index in range(images):
        shot = simulator.simulate(
            "chest", size=size, seed=seed, split_index=0, index=index
        )
        name = f"{index:05d}.png"
        _save(folder / "images" / name, shot.image)
        _save(folder / "masks" / name, shot.mask)  # 0 background, 1 lung
        patient = f"p{simulator.patient_of(index):05d}"
        rows.append((name, _FINDINGS[shot.finding], patient))
        _add_boxes(coco, name, shot)
    whole = (folder / "images" / "00000.png").read_bytes()
    (folder / "images" / _CUT_SHORT).write_bytes(whole[: len(whole) // 2])
    rows += [(name, _FINDINGS[0], name) for name in (_CUT_SHORT, _MISSING)]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([_COLUMNS, *rows])
    (folder / "boxes.json").write_text(json.dumps(coco))


def _save(path: pathlib.Path, pixels: Any) -> None:
    _, code = cv2.imencode(".png", pixels)
    path.write_bytes(code.tobytes())


def _add_boxes(
    coco: dict[str, list[Any]], name: str, shot: simulator.Radiograph
) -> None:
    """Adds an image and its boxes, x, y, width, height in pixels, as COCO has them."""
    height, width = shot.image.shape
    number = len(coco["images"])
    coco["images"].append(
        {"id": number, "file_name": name, "height": height, "width": width}
    )
    for y0, x0, y1, x1 in () if shot.boxes is None else shot.boxes.tolist():
        box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]),
                "image_id": number,
                "category_id": 1,
                "bbox": [round(value, 2) for value in box],
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
            }
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the folder that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.xray_folder.example",
        description="Writes a folder of simulated chests, as xray_folder reads it.",
    )
    parser.add_argument("folder", type=pathlib.Path, help="empty, or not there")
    parser.add_argument("--images", type=int, default=300, help="how many")
    parser.add_argument("--size", type=int, default=128, help="longest side, pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the patients")
    flags = parser.parse_args(arguments)
    try:
        write(flags.folder, images=flags.images, size=flags.size, seed=flags.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
