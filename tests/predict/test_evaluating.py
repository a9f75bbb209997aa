"""`evaluate` on a small simulated set: which class is taken for which."""

import json

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.experiment import preparation


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
