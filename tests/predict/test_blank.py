"""Pictures without content: what `predict` and `embed` say of them."""

import csv

import numpy as np
import pytest

from mtpret_jax import main
from mtpret_jax.training import preemption
from tfds_builders.images import reader


@pytest.fixture
def scans(tmp_path):
    """A black picture, a white one, and one of two halves."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, (left, right) in enumerate([(0, 0), (255, 255), (7, 128)]):
        image = np.full((40, 40), right, np.uint8)
        image[:, :20] = left
        (folder / f"{number}.png").write_bytes(reader.encode_png(image))
    return folder


@pytest.fixture
def run(monkeypatch, capsys, scans):
    """Runs a verb over the pictures and gives what it said."""
    monkeypatch.setattr(preemption, "listen", lambda: None)

    def call(verb, model, out):
        with pytest.raises(SystemExit) as ended:
            main.run([verb, f"--model={model}", f"--out={out}", str(scans)])
        assert ended.value.code == 0
        return capsys.readouterr()

    return call


def _check(said):
    assert said.err.count("no content: one grey level, or almost") == 2
    assert "2 of 3 have no content" in said.out


def test_predict_notes_and_counts_them(run, model_folder, tmp_path):
    said = run("predict", model_folder("classification"), tmp_path / "answers")

    _check(said)
    with (tmp_path / "answers" / "predictions.csv").open(newline="") as file:
        told = [row["warnings"] for row in csv.DictReader(file)]
    assert ["no content" in text for text in told] == [True, True, False]


def test_embed_notes_and_counts_them(run, model_folder, tmp_path):
    said = run("embed", model_folder("backbone"), tmp_path / "f.npz")

    _check(said)
    with np.load(tmp_path / "f.npz") as found:
        assert found["blank"].tolist() == [True, True, False]
