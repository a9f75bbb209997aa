"""What a model is, as files tell it: those of earlier versions, and there and back."""

import json
import pathlib

import pytest

from mtpret_jax.inference import description, preprocessing

# `backbone.json` of four runs, as version f1c1c16 wrote them.
OLDER = json.loads(pathlib.Path(__file__).with_name("descriptions.json").read_text())


@pytest.mark.parametrize("kind", OLDER)
def test_an_older_description_is_read_and_keeps_all_it_said(kind):
    older = OLDER[kind]

    found = description.from_json(older, "backbone.json")

    task = next(iter(older["class_names"]), "")
    assert found.kind(task) == kind
    prepared = preprocessing.Preparation.of(found, task)
    assert (prepared.longest_side, prepared.bit_depth) == (96, 16)
    said = found.to_json()
    for name in older.keys() - {"network", "tasks", "prepared"}:
        assert said[name] == older[name], name
    assert older["network"].items() <= said["network"].items()
    for name, row in older["tasks"].items():
        assert row.items() <= said["tasks"][name].items()
    for name, row in older["prepared"].items():
        assert row.items() <= said["prepared"][name].items()


@pytest.mark.parametrize("kind", OLDER)
def test_a_description_comes_back_from_its_file(kind):
    found = description.from_json(OLDER[kind], "backbone.json")

    again = json.loads(json.dumps(found.to_json()))

    assert description.from_json(again, "backbone.json") == found
