"""Tests of prepared folders."""

import json
import pickle
import shutil

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import kinds, sources, transforms

CLASSIFICATION = config.TaskConfig(kind="classification", dataset="tiny")


@pytest.mark.smoke
def test_record_holds_what_was_written(tiny):
    source = tiny.open("train")
    assert len(source) == len(source.index) == tiny.counts["train"]
    for record in range(len(source)):
        example = source[record]
        image, mask = tiny.draw("train", record)
        known = tiny.annotate("train", record)
        assert example["record"] == record
        assert source.index[record]["image_id"] == f"train-{record}"
        np.testing.assert_array_equal(example["image"], image)
        if known["has_mask"]:
            np.testing.assert_array_equal(transforms.decode(example["mask"]), mask)
        np.testing.assert_array_equal(example["labels/finding"], known["finding"])
        assert example["box_known"] == known["box_known"]
        expected = [tiny.bright] if known["box_known"] else np.zeros((0, 4))
        np.testing.assert_allclose(example["box"], expected, rtol=1e-6)
        assert example["box"].dtype == np.float32
        assert example["box_class"].shape == (len(expected),)


def test_sixteen_bits_are_read_as_stored(tiny_16_bit):
    image = tiny_16_bit.open("train")[1]["image"]
    assert image.dtype == np.uint16
    expected, _ = tiny_16_bit.draw("train", 1, depth=np.uint16)
    np.testing.assert_array_equal(image, expected)


def test_sets_from_before_pixels_were_stored_bare_are_still_read(tiny, tiny_png):
    old, new = (made.open("train") for made in (tiny_png, tiny))
    for record in range(len(new)):
        np.testing.assert_array_equal(old[record]["image"], new[record]["image"])


def test_source_knows_its_names_and_can_be_pickled(tiny):
    source = tiny.open("test")
    assert source.metadata.label_names["label"] == ("normal", "ill")
    assert source.metadata.mask_names == ("background", "lung")
    assert source.metadata.object_names == ("lesion",)
    assert source.pixel_statistics() == (0.25, 0.3)
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == len(source)
    assert not hasattr(copy, "index")
    np.testing.assert_array_equal(copy[2]["image"], source[2]["image"])


def test_unknown_split_names_those_there_are(tiny):
    with pytest.raises(ValueError, match=r"no split 'val'; it has \['test', 'train'"):
        tiny.open("val")


@pytest.mark.parametrize("file", ["index.csv", "preparation.json", "metadata.json"])
def test_missing_file_is_named(tiny, tmp_path, file):
    folder = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        sources.open_prepared(folder, "train")


def test_index_that_does_not_fit_is_refused(tiny, tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    lines = (folder / "index.csv").read_text().splitlines()
    train = [line for line in lines if line.startswith("train,")]
    (folder / "index.csv").write_text("\n".join([lines[0], *train[:-1]]))
    with pytest.raises(ValueError, match="lists 11 records"):
        sources.open_prepared(folder, "train")
    (folder / "index.csv").write_text("\n".join([lines[0], *train[1:]]))
    with pytest.raises(ValueError, match="do not count up"):
        sources.open_prepared(folder, "train")


def test_missing_statistics_are_an_error(tiny, tmp_path):
    folder = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    (folder / "preparation.json").write_text(json.dumps({"pixel_mean": None}))
    with pytest.raises(ValueError, match="'pixel_mean', got None"):
        sources.open_prepared(folder, "train").pixel_statistics()


def test_locate_finds_the_newest_version(tmp_path):
    row = config.DatasetConfig(builder="xray_folder")
    with pytest.raises(FileNotFoundError, match="'mine' is not prepared"):
        sources.locate(tmp_path, "mine", row)
    parent = tmp_path / "xray_folder" / "mine"
    for version in ["1.9.0", "1.10.0", "2.0.0", "incomplete.ABC_3.0.0"]:
        (parent / version).mkdir(parents=True)
    for version in ["1.9.0", "1.10.0", "incomplete.ABC_3.0.0"]:
        (parent / version / "dataset_info.json").touch()
    assert sources.locate(tmp_path, "mine", row).name == "1.10.0"


def test_records_without_annotation_are_left_out(tiny):
    def usable(**task):
        records = kinds.usable_records(tiny.open("train"), config.TaskConfig(**task))
        assert records.dtype == np.int32
        return records.tolist()

    everything = range(tiny.counts["train"])
    assert usable(kind="classification") == [i for i in everything if i % 4 != 1]
    finding = usable(kind="classification", target="finding")
    assert finding == list(everything)
    assert usable(kind="segmentation") == [i for i in everything if i % 4 != 2]
    assert usable(kind="detection") == [i for i in everything if i % 4 != 3]


def test_split_with_nothing_to_learn_is_an_error(tiny):
    task = config.TaskConfig(kind="segmentation")
    with pytest.raises(ValueError, match="'test' of dataset 'tiny_xray' has no exam"):
        kinds.usable_records(tiny.open("test"), task)


def test_unknown_target_suggests_the_nearest(tiny):
    task = config.TaskConfig(kind="classification", target="findings")
    with pytest.raises(ValueError, match="Did you mean 'finding'"):
        kinds.usable_records(tiny.open("train"), task)


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_set_without_this_annotation_is_an_error(tiny, tmp_path, kind):
    folder = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    (folder / "metadata.json").write_text(json.dumps({"label_names": {"label": ["a"]}}))
    with pytest.raises(ValueError, match=r"has no (masks|boxes)"):
        kinds.usable_records(
            sources.open_prepared(folder, "train"), config.TaskConfig(kind=kind)
        )
