"""Lists of training images, held against the splits of a set."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.comparison import lists
from mtpret_jax.data import sources

SETS = ("chest", "hand")


def _task(test: list[str], owners: dict[str, str]) -> Any:
    groups = types.SimpleNamespace(tolist=lambda: [owners[name] for name in test])
    split = types.SimpleNamespace(image_ids=test, groups=groups)
    row = types.SimpleNamespace(dataset="chest")
    return types.SimpleNamespace(row=row, splits={"test": split}, owners=owners)


TASK = _task(["a/1", "b/1.png"], {"a/1": "p", "b/1.png": "q", "c/7": "p", "d": "r"})


@pytest.mark.parametrize(
    ("line", "named", "images", "groups"),
    [
        ("a/1", 1, 1, 1),
        ("chest/a/1", 1, 1, 1),
        ("/data/x/a/1.jpg", 1, 1, 1),
        ("b/1", 1, 1, 1),
        ("1.png", 1, 1, 1),
        ("7.png", 1, 0, 1),  # another image of a patient of the test split
        ("d", 1, 0, 0),
        ("1", 0, 0, 0),  # which of two is not told
        ("hand/a/1", 0, 0, 0),  # of another set
        ("a\\1", 1, 1, 1),
        ("elsewhere", 0, 0, 0),
    ],
)
def test_a_line_is_an_id_or_a_path(line, named, images, groups):
    listed = lists.parse(f"\n{line}\n{line}\n", "list")

    found = lists.against([listed], TASK, SETS)

    assert found == lists.Leak(named, images, groups)
    assert found.found == (groups > 0)


def test_in_a_table_of_ours_sets_must_agree():
    text = "dataset,image_id,for\nhand,a/1,x\nchest,d,x\nchest,b/1,x\n"

    found = lists.against([lists.parse(text, "list")], TASK, SETS)

    assert found == lists.Leak(1, 0, 0)


def test_lists_of_one_encoder_are_joined():
    both = [lists.parse(text, "list") for text in ("a/1\nd\n", "d\nb/1\n")]

    assert lists.against(both, TASK, SETS) == lists.Leak(3, 2, 2)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="list: the list is empty"):
        lists.parse("dataset,image_id\n", "list")


def test_a_run_in_its_work_folder_tells_what_it_read(prepared, tmp_path):
    _, data, config, task = prepared
    folder = tmp_path / "runs" / "run" / "backbone"
    folder.mkdir(parents=True)
    assert lists.of_run(folder, data) is None
    plain = json.dumps(schema.as_dict(config))
    (tmp_path / "config.json").write_text(plain)
    place = sources.locate(data, "chest", config.datasets["chest"])
    made = {"chest": sources.describe(place, "")}
    (tmp_path / "datasets.json").write_text(json.dumps(made))

    found = lists.of_run(folder, data)

    assert found is not None
    assert (found.why, found.updates) == ("", config.runs["run"].steps)
    assert found.listed is not None
    assert len(found.listed.names) == 40
    assert lists.against([found.listed], task, ["chest"]) == lists.Leak(40, 0, 0)

    elsewhere = lists.of_run(folder.parent, tmp_path / "nowhere")

    assert elsewhere is not None
    assert elsewhere.listed is None
    assert "'chest' is not prepared" in elsewhere.why
