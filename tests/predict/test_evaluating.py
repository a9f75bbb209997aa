"""`evaluate` on a small simulated set: which class is taken for which."""

import json
import pathlib
import types
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation
from mtpret_jax.inference import evaluation
from mtpret_jax.metrics import regression


def test_classes_are_counted_by_truth_and_prediction(model_folder, tmp_path, capsys):
    row = schema.DatasetConfig(
        "phantom_xray",
        {"body": "chest", "image_size": 96, "train": 4, "validation": 4, "test": 12},
    )
    folder = preparation.prepare({"chest": row}, tmp_path / "data")["chest"]
    out = tmp_path / "measured.json"
    run = model_folder("classification")

    with pytest.raises(SystemExit) as ended:
        main.run(
            ["evaluate", f"--model={run}", f"--set={folder}", f"--out={out}"]
            + ["--resamples=10", "--batch_size=8"]
        )

    assert ended.value.code == 0
    found = json.loads(out.read_text())
    counts = np.array(found["confusion"])
    assert counts.shape == (2, 2)
    assert counts.sum() == found["images"] == 12
    assert counts.trace() / 12 == pytest.approx(found["values"]["accuracy"]["value"])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["true", "\\", "predicted", "normal", "opacity"] in said
    assert ["opacity", *map(str, counts[1])] in said


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        ({"age": "years"}, {"side": ("l", "r")}, "'age' is in 'years', .* 'months'"),
        ({"age": "months"}, {}, r"'side' has the classes \[\], the model was told"),
        ({"age": "months"}, {"side": ("r", "l")}, "in the same order"),
        ({"age": ""}, {"side": ("l", "r")}, ""),
    ],
)
def test_a_set_of_another_unit_or_second_input_is_refused(
    values, labels, said, monkeypatch
):
    known = sources.Metadata(labels, (), (), values)
    monkeypatch.setattr(sources, "read_metadata", lambda folder: known)
    scale = regression.Scale(unit="months", second=("l", "r"))
    model: Any = types.SimpleNamespace(
        classes=["age"], second=scale.second, answers=types.SimpleNamespace(scale=scale)
    )
    task = schema.TaskConfig(kind="regression", target="age", second_input="side")

    if not said:
        evaluation._check_classes(model, task, pathlib.Path("set"))
        return
    with pytest.raises(ValueError, match=said):
        evaluation._check_classes(model, task, pathlib.Path("set"))
