"""Many files: in order, skipped ones named, gone on with after a stop, streamed."""

import csv
import json
import os
import pathlib

import cv2
import numpy as np
import pytest
from pyarrow import parquet

from mtpret_jax.predict import embedding, inputs, journal, predicting, streaming
from tfds_builders import reader
from tfds_builders.phantom_xray import simulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven chests, of which the fourth is no picture, and a file left alone."""
    folder = tmp_path_factory.mktemp("files")
    for n in range(7):
        shot = simulator.simulate("chest", size=80, seed=1, split_index=0, index=n)
        (folder / f"{n}.png").write_bytes(reader.encode_png(shot.image))
    (folder / "3.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("none")
    return folder


def files_of(folder):
    found = inputs.find([str(folder)], "out")
    assert found.left_alone == 1
    assert [pathlib.Path(f).name for f in found.files] == [f"{n}.png" for n in range(7)]
    return found.files


def table(out):
    with (out / journal.TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_gets_the_answer_it_gets_alone(load, folder, tmp_path):
    model = load("classification")

    outcome = predicting.predict(
        model, files_of(folder), tmp_path / "out", batch_size=4, gradcam=True
    )

    assert (outcome.done, outcome.skipped, outcome.before) == (6, 1, 0)
    rows = table(tmp_path / "out")
    assert [pathlib.Path(r["file"]).name for r in rows] == [
        f"{n}.png" for n in range(7)
    ]
    assert rows[3]["status"] == "skipped"
    assert rows[3]["reason"].startswith("not a PNG, JPEG, TIFF, BMP or DICOM file")
    alone = model.predict(rows[5]["file"])["probability"]["opacity"]
    assert float(rows[5]["probability:opacity"]) == pytest.approx(alone, abs=1e-5)
    drawn = cv2.imread(str(tmp_path / "out" / rows[5]["gradcam"]))
    assert drawn.shape == (int(rows[5]["height"]), int(rows[5]["width"]), 3)


@pytest.mark.parametrize("kind", ["detection", "segmentation"])
def test_overlays_and_masks_lie_on_the_pixels_of_the_file(kind, load, folder, tmp_path):
    model = load(kind)

    predicting.predict(
        model, files_of(folder)[:2], tmp_path / "out", batch_size=2, draw=True
    )

    for row in journal.Journal(
        tmp_path / "out",
        {"model": model.describe(), "overlays": True, "gradcam": False},
    ).rows():
        original = cv2.imread(row["file"], cv2.IMREAD_GRAYSCALE)
        drawn = cv2.imread(str(tmp_path / "out" / row["overlay"]))
        assert drawn.shape == (*original.shape, 3)
        untouched = (drawn == drawn[..., :1]).all(-1) & (drawn[..., 0] > 0)
        same = drawn[untouched][:, 0] == original[untouched]
        assert same.mean() > 0.9  # The dark rim is softened into its neighbours.
        if kind == "segmentation":
            mask = cv2.imread(str(tmp_path / "out" / row["mask"]), -1)
            assert mask.shape == original.shape
            share = [(mask == c).mean() for c in range(3)]
            np.testing.assert_allclose(list(row["share"].values()), share, atol=1e-6)


def test_a_stop_in_the_middle_loses_and_repeats_nothing(load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder), tmp_path / "out"

    class Stop(Exception):
        pass

    def stop(item):
        if item.file.endswith("4.png"):
            raise Stop

    with pytest.raises(Stop):
        predicting.predict(model, files, out, batch_size=2, progress=stop)
    lines = out / journal.LINES
    before = lines.read_text()
    lines.write_text(before + '{"file": "cut sho')  # as a kill may leave it
    seen = []

    outcome = predicting.predict(
        model, files, out, batch_size=2, progress=lambda item: seen.append(item.file)
    )

    assert before.count("\n") == 5  # One of them skipped.
    assert (outcome.before, outcome.done, outcome.skipped) == (4, 2, 1)
    assert [pathlib.Path(f).name for f in seen] == ["3.png", "5.png", "6.png"]
    whole = predicting.predict(model, files, tmp_path / "whole", batch_size=2)
    assert whole.before == 0
    assert table(tmp_path / "whole") == sorted(table(out), key=lambda row: row["file"])


def test_a_skipped_file_is_tried_again(load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder)[2:5], tmp_path / "out"
    assert predicting.predict(model, files, out, batch_size=2).skipped == 1
    assert predicting.predict(model, files[:1], out, batch_size=2).skipped == 0
    assert [row["status"] for row in table(out)] == ["done", "skipped", "done"]
    bad = pathlib.Path(files[1])
    damaged = bad.read_bytes()

    bad.write_bytes(pathlib.Path(files[0]).read_bytes())
    try:
        outcome = predicting.predict(model, files, out, batch_size=2)
    finally:
        bad.write_bytes(damaged)

    assert (outcome.before, outcome.done, outcome.skipped) == (2, 1, 0)
    assert sorted(row["file"] for row in table(out)) == list(files)
    assert {row["status"] for row in table(out)} == {"done"}


def test_nothing_is_written_over(load, folder, tmp_path):
    model, files = load("classification"), files_of(folder)[:1]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="was not begun by this command"):
        predicting.predict(model, files, tmp_path / "mine", batch_size=1)
    predicting.predict(model, files, tmp_path / "out", batch_size=1)

    with pytest.raises(FileExistsError, match="gradcam was False, now True"):
        predicting.predict(model, files, tmp_path / "out", batch_size=1, gradcam=True)
    with pytest.raises(FileExistsError, match="begun otherwise: model was"):
        predicting.predict(load("detection"), files, tmp_path / "out", batch_size=1)


def test_what_cannot_be_drawn_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match="--gradcam is for classification"):
        predicting.predict(
            load("detection"), [], tmp_path / "out", batch_size=1, gradcam=True
        )
    with pytest.raises(ValueError, match="of classification there are none"):
        predicting.predict(
            load("classification"), [], tmp_path / "out", batch_size=1, draw=True
        )
    assert not (tmp_path / "out").exists()


def test_features_go_on_after_a_stop(load, folder, tmp_path, monkeypatch):
    model, files, out = load("backbone"), files_of(folder), tmp_path / "f.npz"
    monkeypatch.setattr(embedding, "PART", 3)

    class Stop(Exception):
        pass

    def stop(item):
        if item.file.endswith("5.png"):
            raise Stop

    with pytest.raises(Stop):
        embedding.embed(model, files, out, batch_size=2, progress=stop)
    assert not out.exists()

    before, skipped = embedding.embed(model, files, out, batch_size=2)

    assert before == 3
    assert [pathlib.Path(f).name for f, _ in skipped] == ["3.png"]
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["path"].tolist() == [f for f in files if "3.png" not in f]
        assert arrays["embedding"].shape == (6, 64)
        np.testing.assert_allclose(
            arrays["embedding"][4], model.embed(files[5]), atol=1e-5
        )
        assert json.loads(str(arrays["model"]))["kind"] == "backbone"
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(FileExistsError, match="nothing is written over"):
        embedding.embed(model, files, out, batch_size=2)


def test_features_as_parquet_are_those_of_npz(load, folder, tmp_path):
    model, files = load("backbone"), files_of(folder)
    odd = tmp_path / os.fsdecode(b"\xff.png")  # A name that is no text.
    odd.write_bytes(pathlib.Path(files[0]).read_bytes())

    for suffix in ("npz", "parquet"):
        embedding.embed(
            model, [*files, str(odd)], tmp_path / f"f.{suffix}", batch_size=4
        )

    table = parquet.read_table(tmp_path / "f.parquet")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as arrays:
        assert table["path"].to_pylist()[:-1] == arrays["path"].tolist()[:-1]
        np.testing.assert_array_equal(
            np.stack(table["embedding"].to_numpy()), arrays["embedding"]
        )
    assert table["path"].to_pylist()[-1].endswith(r"\udcff.png")
    assert json.loads(table.schema.metadata[b"model"])["kind"] == "backbone"
    (skipped,) = json.loads(table.schema.metadata[b"skipped"]).items()
    assert skipped[0].endswith("3.png")
    assert skipped[1].startswith("not a PNG")


def test_files_are_read_only_a_little_ahead(load, folder, monkeypatch):
    """Bounded memory: what waits is at most four batches."""
    model, read = load("backbone"), []
    real = streaming.reading.read

    def counted(file, preparation):
        read.append(file)
        return real(file, preparation)

    monkeypatch.setattr(streaming.reading, "read", counted)
    files = [str(folder / "0.png")] * 100
    for done, _ in enumerate(streaming.run(model, files, batch_size=2)):
        assert len(read) <= done + 4 * 2 + streaming.READERS
    assert len(read) == 100


def test_named_files_patterns_and_folders_are_found_once(folder, tmp_path):
    pattern = str(folder / "[0-2].png")

    names = [str(folder / "1.png"), pattern, str(tmp_path / "none*")]
    found = inputs.find(names, "out")

    assert [pathlib.Path(f).name for f in found.files] == ["1.png", "0.png", "2.png"]
    assert found.problems == (
        (str(tmp_path / "none*"), "no such file, folder or match"),
    )


def test_results_are_no_input(load, folder, monkeypatch):
    """Whole paths tell files of the same name apart, and results from pictures."""
    monkeypatch.chdir(folder)
    (folder / "out" / "masks").mkdir(parents=True)
    (folder / "out" / "masks" / "0.png").write_bytes((folder / "0.png").read_bytes())

    for named in (".", "**/*.png", "out/masks/0.png"):
        found = inputs.find([named], "out")
        assert not [file for file in found.files if "masks" in file]
    assert inputs.find(["./0.png"], "out").files == (str(folder / "0.png"),)
