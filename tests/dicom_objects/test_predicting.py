"""`predict --dicom`: files on the disk, told reasons, going on after a stop."""

import json
import pathlib

import highdicom
import numpy as np
import pydicom
import pytest

from mtpret_jax import main
from mtpret_jax.dicom_objects import writer
from mtpret_jax.inference import answers, loader, predictions, results
from tests.dicom_objects import phantoms
from tests.predict import conftest as models
from tfds_builders.images import reader

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of odd headers


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector with random weights."""
    return loader.load(models.make(tmp_path_factory.mktemp("model"), "detection"))


@pytest.fixture
def scans(tmp_path):
    """Two DICOM files, one of three frames, and a PNG."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in (0, 1):
        (folder / f"{seed}.dcm").write_bytes(phantoms.draw(seed).content)
    data = phantoms.draw(6).header
    data.NumberOfFrames, data.PixelData = 3, 3 * data.PixelData
    data.save_as(folder / "film.dcm")
    picture = np.uint8(200) * phantoms.draw(3).bright
    (folder / "z.png").write_bytes(reader.encode_png(picture))
    return folder


def files_of(scans, *names):
    return [str(scans / name) for name in names or ("0.dcm", "1.dcm", "z.png")]


def rows(out):
    lines = (out / results.LINES).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return {pathlib.Path(row["file"]).name: row for row in found}


def test_objects_lie_beside_the_answers_and_hold_them(model, scans, tmp_path):
    out = tmp_path / "out"

    outcome = predictions.predict(
        model,
        files_of(scans),
        out,
        batch_size=2,
        objects=writer.Writer(model, ["sr", "sc", "gsps"]),
    )

    assert (outcome.done, outcome.skipped, outcome.bare) == (3, 0, 1)
    found = rows(out)
    assert found["z.png"]["boxes"]
    assert found["z.png"]["no_dicom"].startswith("not a DICOM file")
    for name in ("0.dcm", "1.dcm"):
        row = found[name]
        report = highdicom.sr.srread(out / row["sr"])
        regions = report.content.get_planar_roi_measurement_groups()
        places = [region.roi.value for region in regions]
        corners = [[*p.min(0).tolist(), *p.max(0).tolist()] for p in places]
        assert corners == [pytest.approx(box["box"]) for box in row["boxes"]]
        picture = pydicom.dcmread(out / row["sc"])
        assert (picture.Rows, picture.Columns) == (row["height"], row["width"])
        assert pydicom.dcmread(out / row["gsps"]).Modality == "PR"
    header = (out / results.TABLE).read_text().splitlines()[0]
    assert header.endswith("overlay,gradcam,sr,gsps,sc,no_dicom")


def test_objects_are_not_written_over_and_kinds_stay(model, scans, tmp_path):
    out = tmp_path / "out"

    def predict(names, kinds):
        objects = writer.Writer(model, kinds)
        files = files_of(scans, *names)
        return predictions.predict(model, files, out, batch_size=2, objects=objects)

    predict(["0.dcm", "z.png"], ["sr"])
    (first,) = (out / "sr").glob("*.dcm")
    before = first.read_bytes(), first.stat().st_mtime_ns

    outcome = predict(["0.dcm", "1.dcm", "z.png"], ["sr"])

    assert (outcome.before, outcome.done, outcome.bare) == (2, 1, 1)
    assert (first.read_bytes(), first.stat().st_mtime_ns) == before
    assert len(list((out / "sr").glob("*.dcm"))) == 2
    with pytest.raises(
        FileExistsError, match=r"dicom was \['sr'\], now \['sr', 'sc'\]"
    ):
        predict(["0.dcm"], ["sr", "sc"])


def end(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main.run([str(argument) for argument in arguments])
    return ended.value.code


def test_the_command_tells_of_files_without_objects(
    model, scans, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(loader, "load", lambda *_: model)
    out = tmp_path / "out"

    assert end("predict", "--model=m", f"--out={out}", "--dicom=sr", scans) == 3

    told = capsys.readouterr()
    said = f"3 done, 1 skipped, 1 lack DICOM objects: {out}"
    assert said in told.out.splitlines()
    assert "film.dcm': expected one grey frame" in told.err
    assert f"No DICOM object of '{scans / 'z.png'}': not a DICOM file, so" in told.err
    only = scans / "0.dcm"
    assert (
        end("predict", "--model=m", f"--out={tmp_path / 'b'}", "--dicom=sr", only) == 0
    )


def test_kinds_that_make_no_sense_are_refused_before_any_file_is_read(
    scans, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        loader, "load", lambda *_: phantoms.stub(answers.Classification)
    )
    out = tmp_path / "out"

    assert end("predict", "--model=m", f"--out={out}", "--dicom=sr,seg", scans) == 1

    said = "--dicom: of classification there is no seg; there is sr."
    assert said in capsys.readouterr().err
    assert not out.exists()
