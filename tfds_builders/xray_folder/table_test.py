"""Images without a split are shared out by the folder's content alone."""

import json
import pathlib
from typing import Any

import pytest

from tfds_builders import splits, xray_folder
from tfds_builders.xray_folder import table

OPTIONS: list[dict[str, Any]] = [
    {"name": "first"},
    {"name": "second", "labels": {"label": ["well", "sick"]}},
    {"name": "third", "labels": {"side": ["L", "R"]}, "image_size": 8},
    {"name": "fourth", "annotations": "boxes.json", "box_classes": ["crack"]},
]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Sixty files, two of each patient, one in five sick; none is ever opened."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    rows = ["file,patient,label,side"]
    for i in range(60):
        (source / "images" / f"a{i}.png").touch()
        label, side = ("well", "sick")[i % 5 == 0], ("L", "R")[i % 3 == 0]
        rows.append(f"a{i}.png,p{i // 2},{label},{side}")
    (source / "labels.csv").write_text("\n".join(rows))
    images = [
        {"id": i, "file_name": f"a{i}.png", "width": 9, "height": 9} for i in range(20)
    ]
    boxes = [{"image_id": i, "category_id": 7, "bbox": [1, 1, 5, 5]} for i in range(9)]
    content = {
        "images": images,
        "annotations": boxes,
        "categories": [{"id": 7, "name": "crack"}],
    }
    (source / "boxes.json").write_text(json.dumps(content))
    return source


def _places(folder: pathlib.Path, **options: Any) -> dict[str, str]:
    config = xray_folder.Config(folder=str(folder), **options)
    builder = xray_folder.Builder(data_dir=folder.parent / "data", config=config)
    records = builder.records()
    return {r.image_id: split for split, found in records.items() for r in found}


def test_two_sets_of_one_folder_share_it_out_alike(folder: pathlib.Path):
    found = [_places(folder, **options) for options in OPTIONS]

    assert all(places == found[0] for places in found)
    counts = {split: list(found[0].values()).count(split) for split in splits.SPLITS}
    assert counts == {"train": 48, "validation": 6, "test": 6}


def test_the_way_to_the_folder_does_not_matter(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    expected = _places(folder, name="x")
    (folder.parent / "link").symlink_to(folder)
    monkeypatch.chdir(folder)

    for way in (folder.parent / "link", pathlib.Path()):
        assert _places(way, name="x") == expected


def test_another_seed_shares_out_otherwise(folder: pathlib.Path):
    assert _places(folder, name="x") != _places(folder, name="x", split_seed=1)


def test_columns_of_few_values_are_shared_alike_and_others_play_no_part():
    rows = [
        {"file": f"a{i}", "age": str(i % 60), "label": ("well", "sick")[i % 5 == 0]}
        for i in range(200)
    ]

    found = table.strata(["file", "age", "label"], rows)

    assert found == [row["label"] for row in rows]
    assert table.strata([], [{}, {}]) == ["", ""]
