"""A loaded model: its answers in the file's pixels, and what loading refuses."""

import dataclasses
import json
import shutil
from typing import Any

import cv2
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax.inference import (
    answers,
    description,
    golden,
    loader,
    overlays,
    preprocessing,
)
from tfds_builders.images import reader, sizes
from tfds_builders.phantom_xray import simulator

KINDS = ("classification", "segmentation", "detection", "landmarks", "backbone")


def test_the_golden_picture_is_a_phantom():
    """But for a pixel here and there, which another processor rounds otherwise."""
    drawn = simulator.simulate("chest", size=224, seed=0, split_index=0, index=0)

    difference = np.abs(golden.chest().astype(int) - drawn.image)

    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.smoke
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_loaded_and_answers(kind, model_folder, chest, tmp_path):
    model = mtpret_jax.load(model_folder(kind))
    path = tmp_path / "chest.png"
    path.write_bytes(reader.encode_png(chest))

    embedding = model.embed(path)

    assert embedding.dtype == np.float32
    assert embedding.shape == (64,)
    if kind == "backbone":
        with pytest.raises(ValueError, match="no head to predict with: use embed"):
            model.predict(path)
        return
    answer = model.predict(path)
    assert answer["kind"] == kind == model.describe()["kind"]
    assert answer["warnings"] == []
    again = model.predict(chest)
    for name in ("probability", "boxes", "share", "landmarks"):
        assert answer.get(name) == again.get(name)


def test_probabilities_are_calibrated_and_decided(load, chest):
    answer = load("classification").predict(chest)

    p = answer["probability"]
    assert sum(p.values()) == pytest.approx(1, abs=1e-5)
    odds = np.log(p["opacity"] / p["normal"])
    softened = answer["calibrated"]
    assert np.log(softened["opacity"] / softened["normal"]) == pytest.approx(
        odds / 2, abs=1e-4
    )
    assert answer["decision"] == {"opacity": p["opacity"] >= 0.25}
    assert answer["predicted"] == max(p, key=p.get)


def test_polarity_is_not_told_of_views_that_the_check_is_not_made_for(load, chest):
    """Of such, too many of the pictures that were trained on looked inverted."""
    preparation = load("classification").preparation
    unlike = dataclasses.replace(preparation, checks_polarity=False)

    told, silent = (
        preprocessing.read(~chest, how).warnings for how in (preparation, unlike)
    )

    assert "look at it" in told[0]
    assert not silent


@pytest.mark.parametrize(("flagged", "checks"), [(10, True), (11, False)])
def test_training_pictures_that_look_inverted_say_what_the_check_is_made_for(
    flagged, checks
):
    made: Any = {"polarity_warnings": flagged, "splits": {"train": 80, "test": 20}}

    assert description.Prepared.of(made).checks_polarity is checks


def test_what_training_does_to_a_picture_is_done_here(load, chest):
    """Shrunk to the stored size, fitted, normalised: by the functions of training."""
    model = load("classification")
    deep = chest.astype(np.uint16) * 257
    stored = sizes.shrink(deep, 96, is_mask=False)

    expected, _ = model.preparation(stored)

    np.testing.assert_array_equal(
        preprocessing.read(deep, model.preparation).image, expected
    )


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_boxes_and_masks_come_back_to_the_pixels_of_the_file(fit):
    """A square drawn into the file is found where it was, from the input alone."""
    picture = np.zeros((300, 200), np.uint8)
    picture[100:160, 60:120] = 200
    preparation = preprocessing.Preparation(64, fit, None, 150, 8)

    radiograph = preprocessing.read(picture, preparation)

    region = (radiograph.image[..., 0] > radiograph.image.mean() + 1).astype(np.uint8)
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / 64
    found = answers.Detection(["square"], None, {}).answer(
        {
            "box": box[None],
            "score": np.ones(1),
            "class": np.zeros(1, int),
            "valid": np.ones(1, bool),
        },
        radiograph,
    )
    pixel = 300 / 64
    np.testing.assert_allclose(
        found["boxes"][0]["box"], [60, 100, 120, 160], atol=pixel
    )
    middle = np.array([[box[0] + box[2], box[1] + box[3]]]) / 2
    point = answers.Landmarks(["square"], None, {}).answer(
        {"landmark": middle, "spread": np.full(1, 0.1)}, radiograph
    )["landmarks"]["square"]
    np.testing.assert_allclose((point["x"], point["y"]), (90, 130), atol=pixel)
    lost = {"x": np.nan, "y": 1.0}
    drawn = overlays.points(picture, {"square": point, "lost": lost})
    np.testing.assert_array_equal(drawn, overlays.points(picture, {"square": point}))
    sides = {"pad": (300, 300), "crop": (200, 200), "stretch": (300, 200)}[fit]
    assert point["spread"] == pytest.approx(0.1 * np.sqrt(np.prod(sides)), rel=0.01)
    mask = answers.Segmentation(["none", "square"], None, {}).answer(
        {"segmentation": region}, radiograph
    )
    inside = np.zeros((300, 200), bool)
    inside[100:160, 60:120] = True
    overlap = (mask["mask"] == 1) & inside
    assert overlap.sum() > 0.85 * max(inside.sum(), (mask["mask"] == 1).sum())
    unseen = (mask["mask"] == answers.NOT_SEEN).mean()
    assert unseen == (pytest.approx(1 / 3, abs=0.02) if fit == "crop" else 0)


def test_a_box_in_the_padding_is_left_out():
    radiograph = preprocessing.read(
        np.eye(200, 100, dtype=np.uint8) * 255,
        preprocessing.Preparation(64, "pad", None, 0, 8),
    )

    found = answers.Detection(["x"], None, {}).answer(
        {
            "box": np.array([[0.1, 0.02, 0.9, 0.2]]),
            "score": np.ones(1),
            "class": np.zeros(1, int),
            "valid": np.ones(1, bool),
        },
        radiograph,
    )

    assert found == {"boxes": []}


def test_cells_of_the_grid_cover_the_file_evenly():
    """Grad-CAM's cells: the brightest lies over what it stands for."""
    radiograph = preprocessing.read(
        np.arange(120 * 80).reshape(120, 80).astype(np.uint16),
        preprocessing.Preparation(64, "stretch", None, 0, 16),
    )
    cells = np.zeros((2, 2), np.float32)
    cells[1, 0] = 1

    found = radiograph.to_file(cells, interpolation=cv2.INTER_NEAREST)

    assert found.shape == (120, 80)
    assert found[61:119, 1:39].min() == 1
    assert found[:59].max() == found[:, 41:].max() == 0


def damage(folder, change):
    path = folder / "backbone" / "backbone.json"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def test_a_forgotten_step_of_preprocessing_is_found(model_folder, tmp_path):
    folder = tmp_path / "run"
    without = shutil.ignore_patterns("SHA256SUMS")
    shutil.copytree(model_folder("classification"), folder, ignore=without)
    damage(folder, lambda described: described.update(fit="stretch"))

    with pytest.raises(ValueError, match="the pre-processing of the golden image"):
        loader.load(folder)


def test_other_weights_are_found(model_folder, tmp_path):
    folder = tmp_path / "run"
    without = shutil.ignore_patterns("SHA256SUMS")
    shutil.copytree(model_folder("classification"), folder, ignore=without)
    path = folder / "backbone" / golden.FILE
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    kept["task/embedding"] = kept["task/embedding"] + 0.1
    np.savez(path, **kept)

    with pytest.raises(ValueError, match="the embedding of the golden image differs"):
        loader.load(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path, model_folder):
    with pytest.raises(FileNotFoundError, match=r"backbone\.json is missing"):
        loader.load(tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'task'"):
        loader.load(model_folder("classification"), "tusk")
    copy = tmp_path / "run"
    shutil.copytree(model_folder("classification"), copy)
    (copy / "backbone" / golden.FILE).write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(ValueError, match="damaged"):
        loader.load(copy)
    (copy / "backbone" / golden.FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"no golden\.npz"):
        loader.load(copy)


def test_arrays_of_another_kind_are_refused(load):
    model = load("classification")
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)):
        with pytest.raises(TypeError, match=r"uint8 or uint16 \[H, W\]"):
            model.predict(wrong)
    with pytest.raises(reader.UnreadableImage, match="no pixels"):
        model.predict(np.zeros((0, 4), np.uint8))
