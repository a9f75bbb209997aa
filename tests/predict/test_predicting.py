"""Many files: in order, skipped ones named, gone on with after a stop, streamed."""

import csv
import json
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest
from pyarrow import parquet

from mtpret_jax.inference import embeddings, inputs, predictions, results, stream
from tfds_builders.images import reader
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
    with (out / results.TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_gets_the_answer_it_gets_alone(load, folder, tmp_path):
    model = load("classification")

    outcome = predictions.predict(
        model, files_of(folder), tmp_path / "out", batch_size=4, gradcam=True
    )

    assert (outcome.done, outcome.skipped, outcome.before) == (6, 1, 0)
    rows = table(tmp_path / "out")
    assert [pathlib.Path(r["file"]).name for r in rows] == [
        f"{n}.png" for n in range(7)
    ]
    assert rows[3]["status"] == "skipped"
    assert rows[3]["reason"].startswith("not a PNG, JPEG, TIFF, BMP or DICOM file")
    assert rows[5]["predicted"] == model.predict(rows[5]["file"])["predicted"]
    assert rows[3]["predicted"] == ""
    alone = model.predict(rows[5]["file"])["probability"]["opacity"]
    assert float(rows[5]["probability:opacity"]) == pytest.approx(alone, abs=1e-5)
    drawn = cv2.imread(str(tmp_path / "out" / rows[5]["gradcam"]))
    assert drawn.shape == (int(rows[5]["height"]), int(rows[5]["width"]), 3)


@pytest.mark.parametrize("kind", ["detection", "segmentation", "landmarks"])
def test_overlays_and_masks_lie_on_the_pixels_of_the_file(kind, load, folder, tmp_path):
    model = load(kind)

    predictions.predict(
        model, files_of(folder)[:2], tmp_path / "out", batch_size=2, draw=True
    )

    for row in results.Results(
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
        predictions.predict(model, files, out, batch_size=2, progress=stop)
    lines = out / results.LINES
    before = lines.read_text()
    lines.write_text(before + '{"file": "cut sho')  # as a kill may leave it
    seen = []

    outcome = predictions.predict(
        model, files, out, batch_size=2, progress=lambda item: seen.append(item.file)
    )

    assert before.count("\n") == 5  # One of them skipped.
    assert (outcome.before, outcome.done, outcome.skipped) == (4, 2, 1)
    assert [pathlib.Path(f).name for f in seen] == ["3.png", "5.png", "6.png"]
    whole = predictions.predict(model, files, tmp_path / "whole", batch_size=2)
    assert whole.before == 0
    assert table(tmp_path / "whole") == sorted(table(out), key=lambda row: row["file"])


def test_a_skipped_file_is_tried_again(load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder)[2:5], tmp_path / "out"
    assert predictions.predict(model, files, out, batch_size=2).skipped == 1
    assert predictions.predict(model, files[:1], out, batch_size=2).skipped == 0
    assert [row["status"] for row in table(out)] == ["done", "skipped", "done"]
    bad = pathlib.Path(files[1])
    damaged = bad.read_bytes()

    bad.write_bytes(pathlib.Path(files[0]).read_bytes())
    try:
        outcome = predictions.predict(model, files, out, batch_size=2)
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
        predictions.predict(model, files, tmp_path / "mine", batch_size=1)
    predictions.predict(model, files, tmp_path / "out", batch_size=1)

    with pytest.raises(FileExistsError, match="gradcam was False, now True"):
        predictions.predict(model, files, tmp_path / "out", batch_size=1, gradcam=True)
    with pytest.raises(FileExistsError, match="begun otherwise: model was"):
        predictions.predict(load("detection"), files, tmp_path / "out", batch_size=1)


def test_what_cannot_be_drawn_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match="--gradcam shows where a classifier"):
        predictions.predict(
            load("detection"), [], tmp_path / "out", batch_size=1, gradcam=True
        )
    with pytest.raises(ValueError, match="of classification there are none"):
        predictions.predict(
            load("classification"), [], tmp_path / "out", batch_size=1, draw=True
        )
    assert not (tmp_path / "out").exists()


def test_features_go_on_after_a_stop(load, folder, tmp_path, monkeypatch):
    model, files, out = load("backbone"), files_of(folder), tmp_path / "f.npz"
    monkeypatch.setattr(embeddings, "PART", 3)

    class Stop(Exception):
        pass

    def stop(item):
        if item.file.endswith("5.png"):
            raise Stop

    with pytest.raises(Stop):
        embeddings.embed(model, files, out, batch_size=2, progress=stop)
    assert not out.exists()

    before, skipped, _ = embeddings.embed(model, files, out, batch_size=2)

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
        embeddings.embed(model, files, out, batch_size=2)


def test_features_as_parquet_are_those_of_npz(load, folder, tmp_path):
    model, files = load("backbone"), files_of(folder)
    odd = tmp_path / os.fsdecode(b"\xff.png")  # A name that is no text.
    odd.write_bytes(pathlib.Path(files[0]).read_bytes())

    for suffix in ("npz", "parquet"):
        embeddings.embed(
            model, [*files, str(odd)], tmp_path / f"f.{suffix}", batch_size=4
        )

    table = parquet.read_table(tmp_path / "f.parquet")
    with np.load(tmp_path / "f.npz", allow_pickle=False) as arrays:
        assert table["path"].to_pylist()[:-1] == arrays["path"].tolist()[:-1]
        np.testing.assert_array_equal(
            np.stack(table["embedding"].to_numpy()), arrays["embedding"]
        )
        np.testing.assert_array_equal(table["blank"].to_numpy(), arrays["blank"])
    assert table["path"].to_pylist()[-1].endswith(r"\udcff.png")
    assert json.loads(table.schema.metadata[b"model"])["kind"] == "backbone"
    (skipped,) = json.loads(table.schema.metadata[b"skipped"]).items()
    assert skipped[0].endswith("3.png")
    assert skipped[1].startswith("not a PNG")


def test_files_are_read_only_a_little_ahead(load, folder, monkeypatch):
    """Bounded memory: what waits is at most four batches."""
    model, read = load("backbone"), []
    real = stream.preprocessing.read

    def counted(file, preparation):
        read.append(file)
        return real(file, preparation)

    monkeypatch.setattr(stream.preprocessing, "read", counted)
    files = [str(folder / "0.png")] * 100
    for done, _ in enumerate(stream.run(model, files, batch_size=2)):
        assert len(read) <= done + 4 * 2 + stream.READERS
    assert len(read) == 100


def test_named_files_patterns_and_folders_are_found_once(folder, tmp_path):
    pattern = str(folder / "[0-2].png")

    names = [str(folder / "1.png"), pattern, str(tmp_path / "none*")]
    found = inputs.find(names, "out")

    assert [pathlib.Path(f).name for f in found.files] == ["1.png", "0.png", "2.png"]
    assert found.problems == (
        (str(tmp_path / "none*"), "no such file, folder or match"),
    )


def test_results_are_no_input(folder, tmp_path, monkeypatch):
    """Whole paths tell files of the same name apart, and results from pictures."""
    folder = shutil.copytree(folder, tmp_path / "files")
    monkeypatch.chdir(folder)
    (folder / "out" / "masks").mkdir(parents=True)
    (folder / "out" / "masks" / "0.png").write_bytes((folder / "0.png").read_bytes())

    for named in (".", "**/*.png", "out/masks/0.png"):
        found = inputs.find([named], "out")
        assert not [file for file in found.files if "masks" in file]
    assert inputs.find(["./0.png"], "out").files == (str(folder / "0.png"),)


def test_links_that_lead_in_a_circle_are_not_followed(folder, tmp_path):
    """Two of them make 2^40 paths to each file."""
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "a.png").write_bytes((folder / "0.png").read_bytes())
    for name in ("one", "other"):
        (loop / name).symlink_to(loop)

    for named in (loop, loop / "**" / "*.png", loop / "*"):
        found = inputs.find([str(named)], "out")
        assert {os.path.realpath(f) for f in found.files} == {str(loop / "a.png")}
        assert len(found.files) <= 3
    assert inputs.find([str(loop)], "out").left_alone == 2


def test_a_folder_that_may_not_be_looked_into_is_told(folder, tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)

    found = inputs.find([str(tmp_path)], "out")

    assert found.problems == ((str(tmp_path / "shut"), "Permission denied"),)


def test_one_process_writes_to_a_folder(load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder)[:1], tmp_path / "out"

    with results.alone(out), pytest.raises(FileExistsError, match="another process"):
        predictions.predict(model, files, out, batch_size=1)
    with (
        results.alone(tmp_path / "f.npz.parts"),
        pytest.raises(FileExistsError, match="another process"),
    ):
        embeddings.embed(model, files, tmp_path / "f.npz", batch_size=1)

    assert predictions.predict(model, files, out, batch_size=1).done == 1


@pytest.mark.parametrize("line", ["{}", "null", "[1]", "\0\0", '{"file": 3}', ""])
def test_a_damaged_line_is_named(line, load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder)[:1], tmp_path / "out"
    predictions.predict(model, files, out, batch_size=1)
    with (out / results.LINES).open("a") as file:
        file.write(line + "\n")

    with pytest.raises(ValueError, match=r"predictions\.jsonl, line 2: damaged"):
        predictions.predict(model, files, out, batch_size=1)


@pytest.mark.parametrize("content", ["", "[]", '{"model": '])
def test_damaged_settings_are_named(content, load, folder, tmp_path):
    model, files, out = load("classification"), files_of(folder)[:1], tmp_path / "out"
    predictions.predict(model, files, out, batch_size=1)
    (out / results.SETTINGS).write_text(content)

    with pytest.raises((ValueError, FileExistsError), match=r"out.*another"):
        predictions.predict(model, files, out, batch_size=1)


def test_a_file_that_is_gone_before_it_is_drawn_is_skipped(load, folder, tmp_path):
    model, files = load("detection"), []
    for name in ("a", "b", "c", "d"):
        files.append(str(tmp_path / f"{name}.png"))
        pathlib.Path(files[-1]).write_bytes((folder / "0.png").read_bytes())
    reasons = {}

    def progress(item):
        reasons[item.file] = item.problem
        if item.file == files[0]:
            os.remove(files[1])
            pathlib.Path(files[2]).write_bytes(reader.encode_png(np.eye(9, dtype="u1")))

    outcome = predictions.predict(
        model, files, tmp_path / "out", batch_size=4, draw=True, progress=progress
    )

    assert (outcome.done, outcome.skipped) == (2, 2)
    assert reasons[files[1]] == "No such file or directory"
    assert reasons[files[2]] == "another image than when it was read first"
    statuses = [row["status"] for row in table(tmp_path / "out")]
    assert statuses == ["done", "skipped", "skipped", "done"]


def test_files_that_cannot_be_read_are_told_while_others_are_read(load, tmp_path):
    files = [str(tmp_path / f"{n}.png") for n in range(100)]
    told = stream.run(load("classification"), files, batch_size=2)

    assert next(told).problem == "No such file or directory"
    pathlib.Path(files[-1]).write_bytes(b"now there is something")
    assert list(told)[-1].problem.startswith("not a PNG")


def test_an_odd_error_of_a_decoder_skips_the_file_alone(load, folder, monkeypatch):
    read = stream.preprocessing.read

    def fail(file, preparation):
        if file.endswith("1.png"):
            raise ZeroDivisionError("within a decoder")
        return read(file, preparation)

    monkeypatch.setattr(stream.preprocessing, "read", fail)

    items = list(stream.run(load("classification"), files_of(folder), batch_size=2))

    assert items[1].problem == "ZeroDivisionError: within a decoder"
    assert sum(not item.problem for item in items) == 5


def test_features_try_skipped_files_and_damaged_parts_again(load, folder, tmp_path):
    model, out = load("backbone"), tmp_path / "features.npz"
    files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for _ in range(2):
        with pytest.raises(ValueError, match="None of 2 files could be read"):
            embeddings.embed(model, files, out, batch_size=2)
    for path in files:
        pathlib.Path(path).write_bytes((folder / "0.png").read_bytes())
    part = tmp_path / "features.npz.parts" / "000000.npz"
    assert part.exists()
    part.write_bytes(part.read_bytes()[:100])

    before, skipped, _ = embeddings.embed(model, files, out, batch_size=2)

    assert (before, skipped) == (0, [])
    assert not part.parent.exists()
    with np.load(out) as found:
        assert found["path"].tolist() == files
