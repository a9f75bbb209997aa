"""Builders of released sets on real files, where these can be found.

The pictures are not part of the repository.
"""

import csv
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.tfds_builders import release_check
from tfds_builders import nih_chest_xray14, tbx11k


def test_tbx11k_reads_the_makers_own_files(xray: pathlib.Path, tmp_path):
    folder = xray / "tbx11k_sample"
    config = tbx11k.Config(name="real", folder=str(folder))
    builder = tbx11k.Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()

    found = tfds.builder_from_directory(str(builder.data_path)).as_data_source("train")
    examples = {example["image_id"].decode(): example for example in found}

    assert list(examples) == ["health/h0001.png", "tb/tb0005.png", "tb/tb0007.png"]
    for name, example in examples.items():
        stored = cv2.imread(str(folder / "imgs" / name), cv2.IMREAD_UNCHANGED)
        assert stored.shape == (512, 512, 3)
        np.testing.assert_allclose(example["image"], stored[..., :1], atol=1)
        assert example["objects_known"]
    labels = [list(example["labels"]["label"]) for example in examples.values()]
    assert labels == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    kinds = [list(example["objects"]["label"]) for example in examples.values()]
    assert kinds == [[], [0], [1, 1]]
    # The JSON's x, y, width and height of the one box, in pixels of 512.
    x, y, w, h = 381.8337, 126.8734, 40.2369, 44.5658
    np.testing.assert_allclose(
        np.array(examples["tb/tb0005.png"]["objects"]["bbox"]) * 512,
        [[y, x, y + h, x + w]],
        atol=0.001,
    )
    assert not (builder.data_path / "quarantine.csv").read_text().splitlines()[1:]


@pytest.mark.slow
def test_nih_chest_xray14_reads_real_images(xray: pathlib.Path, tmp_path: pathlib.Path):
    """Real images, findings and patients; the makers' columns, without their boxes."""
    with (xray / "chest_cls" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["nih_findings"]]
    folder = tmp_path / "download"
    _nih_release(folder, xray / "chest_cls", rows)

    made = release_check.prepare(
        nih_chest_xray14.Builder, folder, tmp_path / "data", image_size=128
    )

    names = {row["file"][-16:-4]: row for row in rows}
    assert len(names) == 680
    assert set(made.examples) == set(names)
    assert made.left_out == {}
    official = made.report["manifests"]["official"]["images"]
    assert official == {"train": 476, "validation": 69, "test": 135}
    findings = made.report["label_counts"]["finding"]
    for name, row in names.items():
        example = made.examples[name]
        label = example["labels"]["finding"]
        present = {f for f, v in zip(findings, label, strict=True) if v}
        assert (present or {"No Finding"}) == set(row["nih_findings"].split("|"))
        assert example["patient_id"].decode() == row["group"].replace("_", ":")
        told = (row["view"], float(row["age"]), row["sex"])
        assert made.about(name, "view", "age", "sex") == told
        assert made.split_of[name] == ("test" if row["split"] == "test" else "train")
    for name in sorted(names)[::40]:
        small = _shrunk(_shrunk(xray / "chest_cls" / names[name]["file"], 256), 128)
        stored = made.examples[name]["image"][..., 0].astype(int)
        np.testing.assert_allclose(stored, small.astype(int), atol=1)


def _shrunk(picture: pathlib.Path | np.ndarray, side: int) -> np.ndarray:
    """A square picture, or that of a file, made smaller: uint8 [side, side]."""
    if isinstance(picture, pathlib.Path):
        content = np.frombuffer(picture.read_bytes(), np.uint8)
        picture = np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE))
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def _nih_release(
    folder: pathlib.Path, source: pathlib.Path, rows: list[dict[str, str]]
) -> None:
    """Lays real images out as Kaggle's mirror of NIH ChestX-ray14 does."""
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    table, lists = [header], {"test_list.txt": [], "train_val_list.txt": []}
    for number, row in enumerate(rows):
        name = f"{row['file'][-16:-4]}.png"
        patient, follow_up = int(name[:8]), int(name[9:12])
        place = folder / f"images_{number % 12 + 1:03}" / "images"
        place.mkdir(parents=True, exist_ok=True)
        picture = _shrunk(source / row["file"], 256)
        if number % 100 == 0:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGRA)
        cv2.imwrite(str(place / name), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        cells = [name, row["nih_findings"], follow_up, patient, row["age"], row["sex"]]
        table.append(",".join(map(str, [*cells, row["view"], "2500,2048,0.17,0.17,"])))
        is_test = row["split"] == "test"
        lists["test_list.txt" if is_test else "train_val_list.txt"].append(name)
    (folder / "Data_Entry_2017.csv").write_text("\n".join(table))
    for file, names in lists.items():
        (folder / file).write_text("\n".join(names))
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    first = next(row for row in rows if "Infiltration" in row["nih_findings"])
    boxes += f"{first['file'][-16:-4]}.png,Infiltrate,225.08,547.02,86.78,79.19"
    (folder / "BBox_List_2017.csv").write_text(boxes)
