"""What a model is, as files tell it: those of earlier versions, and there and back."""

import json
import pathlib

import pytest

from mtpret_jax.inference import description, preprocessing

# `backbone.json` of four runs, as version f1c1c16 wrote them.
OLDER = json.loads(pathlib.Path(__file__).with_name("descriptions.json").read_text())


def holds(whole, part):
    """Whether a table, or another value, has all of an older one."""
    if not isinstance(part, dict):
        return whole == part
    return all(name in whole and holds(whole[name], part[name]) for name in part)


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
    for name in ("network", "tasks", "prepared"):
        assert holds(said[name], older[name]), name


@pytest.mark.parametrize("kind", OLDER)
def test_a_description_comes_back_from_its_file(kind):
    found = description.from_json(OLDER[kind], "backbone.json")

    again = json.loads(json.dumps(found.to_json()))

    assert description.from_json(again, "backbone.json") == found
