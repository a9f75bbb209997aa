"""Folds: no image of the test split, and no group in two splits of a fold."""

import collections
import csv
import json
import pathlib

import pytest

from benchmarks import folds


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Forty images of twenty groups, of which two are the test split."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    rows = []
    for number in range(40):
        name, group = f"{number}.png", number // 2
        (source / "images" / name).write_bytes(b"image")
        split = "test" if group < 2 else "train"
        rows.append({"file": f"images/{name}", "group": f"g{group}", "split": split})
    with (source / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(40)],
        "annotations": [{"image_id": n, "bbox": [1, 1, 2, 2]} for n in range(40)],
        "categories": [],
    }
    (source / "boxes.json").write_text(json.dumps(coco))
    return source


def test_each_group_is_tested_once_and_the_test_split_never(folder, tmp_path):
    out = tmp_path / "out"

    folds.lay_out(folder, out, folds=5)

    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert "split" not in rows[0]
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(
        f"{n}.png" for n in range(4, 40)
    )
    tested = collections.Counter()
    for fold in range(5):
        splits = collections.defaultdict(set)
        for row in rows:
            splits[row["group"]].add(row[f"fold_{fold}"])
        assert {len(found) for found in splits.values()} == {1}
        assert set.union(*splits.values()) == {"train", "val", "test"}
        tested.update(group for group, found in splits.items() if found == {"test"})
    assert set(tested.values()) == {1}
    assert len(tested) == 18
    content = json.loads((out / "boxes.json").read_text())
    assert {image["id"] for image in content["images"]} == set(range(4, 40))
    assert len(content["annotations"]) == 36


def test_a_test_image_of_the_name_of_another_is_left_out(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    rows = ["file,group,split"]
    for split, names in {"train": "123", "Test": "12"}.items():
        for part in ("images", "masks"):
            (source / part / split).mkdir(parents=True)
            for name in names:
                (source / part / split / f"{name}.png").write_bytes(b"image")
        rows += [f"images/{split}/{name}.png,{split}{name},{split}" for name in names]
    (source / "labels.csv").write_text("\n".join(rows))
    coco = {
        "images": [
            {"id": 1, "file_name": "train/1.png"},
            {"id": 2, "file_name": "Test/1.png"},
        ],
        "annotations": [{"image_id": 1}, {"image_id": 2}],
    }
    (source / "boxes.json").write_text(json.dumps(coco))

    folds.lay_out(source, out, folds=2)

    for part in ("images", "masks"):
        linked = {p.relative_to(out / part) for p in (out / part).rglob("*.png")}
        assert linked == {pathlib.Path("train", f"{n}.png") for n in "123"}
    assert "Test" not in (out / "labels.csv").read_text()
    content = json.loads((out / "boxes.json").read_text())
    assert [image["id"] for image in content["images"]] == [1]
    assert content["annotations"] == [{"image_id": 1}]


def test_what_is_there_is_not_written_over(folder, tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(FileExistsError):
        folds.lay_out(folder, tmp_path / "out", folds=5)
    with pytest.raises(ValueError, match="at least 2"):
        folds.lay_out(folder, tmp_path / "new", folds=1)


def coco(folder, images, boxes):
    """Images of a folder with a table, and `boxes` as (image, category) by number."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for name, split in images.items():
        (folder / "images" / name).write_bytes(b"image")
        rows.append({"file": f"images/{name}", "group": f"of {name}", "split": split})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ids = {name: 1 + number for number, name in enumerate(images)}
    classes = list(dict.fromkeys(category for _, category in boxes))
    content = {
        "images": [{"id": ids[name], "file_name": name} for name in images],
        "categories": [{"id": 7 + n, "name": name} for n, name in enumerate(classes)],
        "annotations": [
            {
                "id": 1 + number,
                "image_id": ids[name],
                "category_id": 7 + classes.index(category),
                "bbox": [1, 1, 2, 2],
            }
            for number, (name, category) in enumerate(boxes)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content))


def test_boxes_of_another_folder_are_trained_on_alone(tmp_path):
    ours = {f"a{number}.png": "train" for number in range(10)}
    coco(tmp_path / "ours", ours, [(name, "line") for name in ours])
    theirs = {"b.png": "train", "none.png": "train", "held.png": "test"}
    boxes = [("b.png", "fracture"), ("b.png", "line"), ("held.png", "fracture")]
    coco(tmp_path / "theirs", theirs, boxes)
    out = tmp_path / "out"

    folds.main([str(tmp_path / "ours"), str(out), f"--boxes_of={tmp_path / 'theirs'}"])

    with (out / "labels.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {*(f"images/{name}" for name in ours), "images/b.png"}
    added = rows["images/b.png"]
    assert {added[f"fold_{fold}"] for fold in range(5)} == {"train"}
    assert (out / "images" / "b.png").exists()
    content = json.loads((out / "annotations.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    (image,) = (one for one in content["images"] if one["file_name"] == "b.png")
    found = [x for x in content["annotations"] if x["image_id"] == image["id"]]
    assert [names[box["category_id"]] for box in found] == ["fracture", "line"]
    assert len({box["id"] for box in content["annotations"]}) == 12
    assert len({one["id"] for one in content["images"]}) == 11
