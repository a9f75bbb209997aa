"""TBX11K from its stand-in: splits, labels, boxes and every quirk."""

from __future__ import annotations

import functools
import json
import shutil
from typing import Any

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import tbx11k

_builder = functools.partial(release_check.builder, tbx11k)
_items = functools.partial(release_check.items, tbx11k)


@pytest.fixture
def changed(dummy: epath.Path, tmp_path) -> epath.Path:
    """A copy that a test may change: the folder TBX11K."""
    shutil.copytree(dummy / "TBX11K", tmp_path / "TBX11K")
    return epath.Path(tmp_path / "TBX11K")


def test_everything_is_read_as_released(prepared: release_check.Prepared):
    examples, splits = prepared.examples, list(prepared.split_of.values())
    kinds = [name.split("/")[0] for name in examples]

    assert [splits.count(s) for s in ("train", "validation", "test")] == [17, 5, 2]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "extra": 5,
        "health": 4,
        "sick": 4,
        "tb": 10,
        "test": 1,
    }
    labels = {n: list(e["labels"]["label"]) for n, e in examples.items()}
    assert labels["health/h0001.png"] == [1, 0, 0]
    assert labels["sick/s0001.png"] == [0, 1, 0]
    assert labels["tb/tb0001.png"] == [0, 0, 1]
    assert list(examples["tb/tb0001.png"]["labels"]["tuberculosis"]) == [0, 1]
    active, obsolete = (
        examples[n]["objects"]["label"] for n in ("tb/tb0001.png", "tb/tb0002.png")
    )
    assert (list(active), list(obsolete)) == ([0], [1])


def test_pictures_have_one_channel(
    examples: dict[str, dict[str, Any]], dummy: epath.Path
):
    paths = {name: dummy / "TBX11K" / "imgs" / name for name in examples}

    assert release_check.kinds_of(examples, paths) == {"RGB"}


def test_boxes_lie_on_what_they_show(examples: dict[str, dict[str, Any]]):
    example = examples["tb/tb0001.png"]
    y0, x0, y1, x1 = (example["objects"]["bbox"][0] * 48).round().astype(int)

    image = example["image"][..., 0].astype(float)
    middle = image[y0:y1, x0:x1][(y1 - y0) // 2, (x1 - x0) // 2]

    assert middle > np.median(image) + 40


def test_objects_are_known_where_somebody_looked(examples: dict[str, dict[str, Any]]):
    known = {name: bool(e["objects_known"]) for name, e in examples.items()}

    assert all(
        v for n, v in known.items() if n.startswith(("health", "sick", "tb/tb0"))
    )
    assert not any(v for n, v in known.items() if n.startswith(("test", "extra")))
    assert not known["tb/tb1199.png"]  # without a box
    assert not known["tb/tb1200.png"]  # one of its boxes is of an uncertain kind
    assert len(examples["health/h0001.png"]["objects"]["bbox"]) == 0


def test_what_is_withheld_is_unknown(examples: dict[str, dict[str, Any]]):
    labels = examples["test/0001.png"]["labels"]

    assert list(labels["label"]) == [-1, -1, -1]
    assert list(labels["tuberculosis"]) == [-1, -1]


def test_extra_keeps_its_patients(examples: dict[str, dict[str, Any]]):
    extra = {
        name.split("/")[-1]: (
            example["patient_id"].decode(),
            list(example["labels"]["tuberculosis"]),
            list(example["labels"]["label"]),
        )
        for name, example in examples.items()
        if name.startswith("extra")
    }

    unknown = [-1, -1, -1]
    alone = "image:extra/da+db"
    assert extra == {
        "MCUCXR_0001_0.png": ("montgomery:1", [1, 0], unknown),
        "MCUCXR_0104_1.png": ("montgomery:104", [0, 1], unknown),
        "CHNCXR_0327_1.png": ("shenzhen:327", [0, 1], unknown),
        "p1.jpg": (f"{alone}/train/p1.jpg", [0, 1], unknown),
        "n2.jpg": (f"{alone}/test/n2.jpg", [1, 0], unknown),
    }


def test_what_is_left_out_is_told(prepared: release_check.Prepared):
    reasons = dict(prepared.left_out)

    damaged = reasons.pop("health/h9999.png")
    assert reasons == {
        "imgs/health/h9998.png": "in a list but not there",
        "imgs/sick/s9998.png": "in no list of a split",
    }
    assert "damaged" in damaged


def test_lists_are_matched_by_their_whole_name(dummy: epath.Path):
    items = _items(dummy)

    validation = [name for name, item in items.items() if item.split == "validation"]
    assert validation == [
        "extra/mc+shenzhen/val/MCUCXR_0104_1.png",
        "health/h0004.png",
        "sick/s0004.png",
        "tb/tb0007.png",
        "tb/tb0008.png",
    ]


def test_json_serves_where_there_are_no_lists(changed: epath.Path, dummy: epath.Path):
    (changed / "lists").rmtree()

    found, expected = _items(changed), _items(dummy)

    assert {n: i.split for n, i in found.items()} == {
        n: i.split for n, i in expected.items()
    }


def test_boxes_come_from_xml_without_json(changed: epath.Path, dummy: epath.Path):
    (changed / "annotations" / "json").rmtree()

    found, expected = _items(changed), _items(dummy)

    own, other = found["tb/tb0002.png"], expected["tb/tb0002.png"]
    np.testing.assert_allclose(
        own.objects.corners / own.objects.frame[0], other.objects.corners / 48
    )
    np.testing.assert_array_equal(own.objects.labels, other.objects.labels)
    assert found["tb/tb1199.png"].objects is None
    assert found["sick/s0001.png"].objects.corners.shape == (0, 4)


def test_categories_are_matched_by_name(changed: epath.Path):
    path = changed / "annotations" / "json" / "TBX11K_train.json"
    data = json.loads(path.read_text())
    first, second = data["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    path.write_text(json.dumps(data))

    assert list(_items(changed)["tb/tb0001.png"].objects.labels) == [1]


def test_only_tb_keeps_what_can_carry_boxes(dummy: epath.Path):
    found = _items(dummy, only_tb=True)

    assert len(found) == 10
    assert {item.stratum for item in found.values()} == {"tb"}


def test_muscle_splits_the_published_images_as_published(tmp_path):
    names = {
        "train": [f"tb/tb{i:04d}.png" for i in range(600)] + ["health/h0001.png"],
        "val": [f"tb/tb{i:04d}.png" for i in range(600, 800)],
    }
    for folder in ("imgs/tb", "imgs/health", "annotations/xml", "lists"):
        (tmp_path / folder).mkdir(parents=True)
    for split, found in names.items():
        (tmp_path / "lists" / f"TBX11K_{split}.txt").write_text("\n".join(found))
        for name in found:
            (tmp_path / "imgs" / name).touch()
    for stem in ("tb0000", "tb0600"):
        path = tmp_path / "annotations" / "xml" / f"{stem}.xml"
        path.write_text("<annotation/>")

    manifests = _builder(tmp_path).manifests()

    assert list(manifests["muscle"].counts().values()) == [640, 80, 80]
    assert set(manifests) == {"muscle", "grouped"}


def test_what_is_not_the_release_is_refused(changed: epath.Path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tbx11k: not found.*mmcheng\.net"):
        _items(tmp_path / "nowhere")
    simplified = tmp_path / "simplified"
    (simplified / "images").mkdir(parents=True)
    (simplified / "data.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"tbx11k-simplified.*is not read"):
        _items(simplified)
    (changed / "lists").rmtree()
    (changed / "annotations" / "json").rmtree()
    (changed / "lists").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected some of TBX11K_train\.txt"):
        _items(changed)


@pytest.mark.parametrize("lost", ["annotations", "annotations/json|annotations/xml"])
def test_boxes_that_are_missing_as_a_whole_are_an_error(lost: str, changed: epath.Path):
    for folder in lost.split("|"):
        (changed / folder).rmtree()

    for only_tb in (False, True):
        with pytest.raises(
            FileNotFoundError, match=r"no file tells.*train.*Unpack TBX11K\.zip anew"
        ):
            _items(changed, only_tb=only_tb)


def test_boxes_of_a_split_that_are_missing_are_an_error(changed: epath.Path):
    (changed / "annotations" / "xml").rmtree()
    for path in (changed / "annotations" / "json").glob("*_*val*.json"):
        path.unlink()

    with pytest.raises(FileNotFoundError, match="TB images of validation"):
        _items(changed)


def test_the_case_of_folders_does_not_matter(changed: epath.Path, dummy: epath.Path):
    for name in ("imgs/tb", "imgs", "annotations/json", "annotations", "lists"):
        path = changed / name
        path.rename(path.parent / path.name.upper())

    found, expected = _items(changed), _items(dummy)

    assert found.keys() == expected.keys()
    assert found["tb/tb0001.png"].image == "IMGS/TB/tb0001.png"
    np.testing.assert_array_equal(
        found["tb/tb0001.png"].objects.corners,
        expected["tb/tb0001.png"].objects.corners,
    )


@pytest.mark.parametrize(
    ("lost", "needed"),
    [("sick", False), ("tb", True), ("test", False), ("extra", False)],
)
def test_a_folder_that_is_missing_as_a_whole_is_an_error(
    lost: str, needed: bool, changed: epath.Path
):
    (changed / "imgs" / lost).rmtree()

    with pytest.raises(FileNotFoundError, match=rf"imgs/{lost}, .*mmcheng\.net"):
        _items(changed)
    if not needed:
        assert len(_items(changed, only_tb=True)) == 10


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("lists/all_val.txt", "tb/tb0001.png", "lists/all_val.txt lists 'tb/tb0001"),
        ("lists/all_val.txt", "", "all_val.txt is empty"),
        ("annotations/json/all_train.json", "{", "all_train.json is not JSON"),
    ],
)
def test_a_damaged_table_is_refused(
    file: str, content: str, message: str, changed: epath.Path
):
    (changed / file).write_text(content)

    with pytest.raises(ValueError, match=message):
        _items(changed)
