"""Lays out a folder of X-rays without its test images, with columns of folds by group.

Run:     python -m benchmarks.folds FOLDER OUT [--folds=5] [--boxes_of=OTHER]
         where FOLDER is as `xray_folder` reads it, with columns `file`, `group` and
         `split`; OUT must not be there. Its `labels.csv` has columns `fold_0`, ...:
         each group is once in "test", and a tenth of all in "val". Images of OTHER
         that have boxes, its test images apart, are in "train" of every fold.
Expect:  links to the images and masks of training and validation alone.
Source:  groups in the order of the SHA-256 of their names; ours.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

from etils import epath

from tfds_builders.sources import files, tables


def lay_out(folder: pathlib.Path, out: pathlib.Path, *, folds: int) -> None:
    """Writes the folder; images whose `split` is "test" are left out everywhere.

    Raises:
      FileExistsError: If `out` is there.
      ValueError: If there are fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"--folds: expected at least 2, got {folds}.")
    table = folder / "labels.csv"
    rows = tables.parse(table.read_bytes(), table.name)[1]
    rows = [row for row in rows if row["split"].lower() != "test"]
    out.mkdir(parents=True)
    columns = _folds([row["group"] for row in rows], folds)
    for row, of_folds in zip(rows, columns, strict=True):
        del row["split"]
        row.update({f"fold_{number}": split for number, split in enumerate(of_folds)})
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    images = files.list_files(epath.Path(folder / "images"))
    kept = {path for row in rows if (path := images.find(row["file"]))}
    _link(images, kept, out)
    if (folder / "masks").is_dir():
        masks = files.list_files(epath.Path(folder / "masks"))
        stems = (pathlib.PurePosixPath(name).with_suffix("") for name in kept)
        _link(masks, {x for stem in stems for x in masks.of_stem(str(stem))}, out)
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "images" in content:
            left = _without_test(content, images, kept)
            (out / path.name).write_text(json.dumps(left))


def add_boxes(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Adds images of another folder to "train" of every fold, if they have boxes.

    Boxes are in `annotations.json` of both, and classes are told by their names.

    Raises:
      FileExistsError: If an image of its name is there.
    """
    table = out / "labels.csv"
    rows = tables.parse(table.read_bytes(), table.name)[1]
    theirs = tables.parse((folder / table.name).read_bytes(), table.name)[1]
    images = files.list_files(epath.Path(folder / "images"))
    content = json.loads((folder / "annotations.json").read_text())
    boxed = {box["image_id"] for box in content["annotations"]}
    content["images"] = [one for one in content["images"] if one["id"] in boxed]
    known = {images.find(one["file_name"]) for one in content["images"]}
    theirs = [
        row
        for row in theirs
        if row["split"].lower() != "test" and images.find(row["file"]) in known
    ]
    kept = {path for row in theirs if (path := images.find(row["file"]))}
    _link(images, kept, out)
    training = {name: "train" for name in rows[0] if name.startswith("fold_")}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows + [row | training for row in theirs])
    path = out / "annotations.json"
    both = json.loads(path.read_text())
    _merge(both, _without_test(content, images, kept))
    path.write_text(json.dumps(both))


def _merge(content: dict, other: dict) -> None:
    """Adds images and boxes of one COCO file to those of another."""
    ids = {one["name"]: one["id"] for one in content["categories"]}
    name_of = {one["id"]: one["name"] for one in other["categories"]}
    first = 1 + max(one["id"] for one in content["images"])
    number = {one["id"]: first + place for place, one in enumerate(other["images"])}
    for one in other["categories"]:
        if one["name"] not in ids:
            ids[one["name"]] = 1 + max(ids.values())
            content["categories"].append(one | {"id": ids[one["name"]]})
    content["images"] += [one | {"id": number[one["id"]]} for one in other["images"]]
    first = 1 + max(box["id"] for box in content["annotations"])
    content["annotations"] += [
        box
        | {
            "id": first + place,
            "image_id": number[box["image_id"]],
            "category_id": ids[name_of[box["category_id"]]],
        }
        for place, box in enumerate(other["annotations"])
    ]


def _link(there: files.Listing, names: Iterable[str], out: pathlib.Path) -> None:
    """Links files of a folder in the folder of its name below `out`."""
    for name in sorted(names):
        link = out / there.root.name / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(pathlib.Path(there.root / name).resolve())


def _folds(groups: Sequence[str], folds: int) -> list[list[str]]:
    """The split of each image in each fold, by its group."""
    order = sorted(
        set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest()
    )
    place = {group: number / len(order) for number, group in enumerate(order)}
    return [
        [_split((place[group] - fold / folds) % 1, 1 / folds) for fold in range(folds)]
        for group in groups
    ]


def _split(place: float, share: float) -> str:
    """The split at a place from 0 to 1 of the circle that begins with the test part."""
    if place < share - 1e-9 or place > 1 - 1e-9:
        return "test"
    return "val" if place < share + 0.1 - 1e-9 else "train"


def _without_test(content: dict, there: files.Listing, kept: set[str]) -> dict:
    """COCO's JSON of the kept images alone."""
    images = [x for x in content["images"] if there.find(x["file_name"]) in kept]
    ids = {image["id"] for image in images}
    found = [one for one in content["annotations"] if one["image_id"] in ids]
    return content | {"images": images, "annotations": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Lays out the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folds")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path, help="not there yet")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--boxes_of", type=pathlib.Path, help="a folder to train on")
    flags = parser.parse_args(arguments)
    lay_out(flags.folder, flags.out, folds=flags.folds)
    if flags.boxes_of:
        add_boxes(flags.boxes_of, flags.out)


if __name__ == "__main__":
    main()
