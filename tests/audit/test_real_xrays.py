"""Real X-rays: every documented copy is found, every reported one is documented.

The pictures are not part of the repository.
"""

from __future__ import annotations

import csv
import itertools
import pathlib
from collections.abc import Mapping

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import copies, exclusions, overlaps, signatures
from mtpret_jax.data import pipeline, sources
from tfds_builders import xray_folder

SETS = ("chest_cls", "chest_det", "lung_seg", "bone_cls", "bone_det", "dental_teeth")
SAME_IMAGE = "same_image_in_other_bone_set"
# Found by the audit and looked at; the notes of the sets miss this one.
UNDOCUMENTED = {"frac_0210_9.jpg"}
# One picture and its mirror image, each in both sets of bones, under two groups.
MIRRORED = {"bone_0044", "bone_0171"}


def _rows(folder: pathlib.Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(xray: pathlib.Path) -> list[tuple[str, Mapping[str, str]]]:
    """Every image with the name of its set."""
    return [(name, row) for name in SETS for row in _rows(xray / name)]


@pytest.fixture(scope="module")
def found(
    xray: pathlib.Path, table: list[tuple[str, Mapping[str, str]]]
) -> list[tuple[int, int]]:
    """All pairs of copies, at a quarter of the size, which decodes quickly."""
    pictures = [
        cv2.imread(str(xray / name / row["file"]), cv2.IMREAD_REDUCED_GRAYSCALE_4)
        for name, row in table
    ]
    twins = copies.find(signatures.of_pictures([np.asarray(p) for p in pictures]))
    members: dict[int, list[int]] = {}
    for image, number in enumerate(twins.same.tolist()):
        members.setdefault(number, []).append(image)
    pairs = [p for m in members.values() for p in itertools.combinations(m, 2)]
    for one, other in twins.near.tolist():
        pairs += [(i, j) for i in members[one] for j in members[other]]
    return pairs


def _found_between(
    table: list[tuple[str, Mapping[str, str]]],
    pairs: list[tuple[int, int]],
    one: str,
    other: str,
) -> set[tuple[str, str]]:
    """Names of the files of the pairs between two sets."""
    names = [(name, pathlib.Path(row["file"]).name) for name, row in table]
    joined = [sorted((names[i], names[j])) for i, j in pairs]
    return {(a[1], b[1]) for a, b in joined if (a[0], b[0]) == (one, other)}


def test_the_359_documented_copies_of_chests_are_found(
    table: list[tuple[str, Mapping[str, str]]], found: list[tuple[int, int]]
):
    pairs = _found_between(table, found, "chest_cls", "chest_det")

    same_name = {(one, other) for one, other in pairs if one == other}
    assert len(same_name) == 359
    # The exact pair that the notes name meets the copy of its twin.
    assert pairs - same_name == {("nih_00002658_002.jpg", "nih_00002658_001.jpg")}


def test_the_169_documented_copies_of_bones_are_found(
    table: list[tuple[str, Mapping[str, str]]], found: list[tuple[int, int]]
):
    pairs = _found_between(table, found, "bone_cls", "bone_det")

    documented = {
        pathlib.Path(row["file"]).name
        for name, row in table
        if name == "bone_cls" and row[SAME_IMAGE]
    }
    assert len(documented) == 169
    assert {one for one, _ in pairs} == documented | UNDOCUMENTED


def test_every_reported_pair_is_of_one_documented_group(
    table: list[tuple[str, Mapping[str, str]]], found: list[tuple[int, int]]
):
    """The groups, of patients or near copies, were made by other means (SIFT)."""
    apart = [
        {table[i][1]["group"], table[j][1]["group"]}
        for i, j in found
        if table[i][1]["group"] != table[j][1]["group"]
        or table[i][0].split("_")[0] != table[j][0].split("_")[0]
    ]

    assert apart == [MIRRORED] * 4
    assert len(found) > 359 + 169


def test_stage_1_never_reads_a_real_xray_that_another_set_tests_on(
    xray: pathlib.Path, tmp_path: pathlib.Path
):
    """The split of chest_det is drawn anew, so that chest_cls trains on its test."""
    detected = {row["file"] for row in _rows(xray / "chest_det")}
    both = [row for row in _rows(xray / "chest_cls") if row["file"] in detected][:60]
    tables = {
        "chest_cls": [(r["file"], "train", r["group"]) for r in both],
        "chest_det": [
            (r["file"], ("train", "val", "test")[i % 3], f"x{i}")
            for i, r in enumerate(both)
        ],
    }
    folders = {}
    for name, rows in tables.items():
        source = tmp_path / name
        source.mkdir()
        (source / "images").symlink_to(xray / name / "images")
        with (source / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file", "split", "group"), *rows])
        size = 128 if name == "chest_cls" else 96
        config = xray_folder.Config(name=name, folder=str(source), image_size=size)
        builder = xray_folder.Builder(data_dir=tmp_path / "data", config=config)
        builder.download_and_prepare()
        folders[name] = epath.Path(builder.data_dir)

    sets = {name: overlaps.Set(folder) for name, folder in folders.items()}
    excluded = exclusions.by_dataset(overlaps.audit(sets).excluded)

    tested = {row[0].removeprefix("images/") for row in tables["chest_det"][1::3]}
    tested |= {row[0].removeprefix("images/") for row in tables["chest_det"][2::3]}
    # Beside the copies themselves: twins of a tested picture, in either set.
    assert tested <= excluded["chest_cls"]
    settings = schema.ContrastiveConfig(
        datasets={"chest_cls": 1.0}, image_size=16, batch_size=4
    )
    index = sources.open_prepared(folders["chest_cls"], "train").index
    left = len(index) - len(excluded["chest_cls"])
    stream = pipeline.contrastive_stream(
        "pairs",
        settings,
        schema.InputConfig(),
        {
            name: sources.open_prepared(folder, "train")
            for name, folder in folders.items()
        },
        seed=0,
        excluded=excluded,
    )
    with stream:
        read = [next(stream).arrays["record"] for _ in range(left)]
    seen = {index[record]["image_id"] for record in np.concatenate(read)}
    assert len(seen) == left
    assert not seen & (excluded["chest_cls"] | tested)
