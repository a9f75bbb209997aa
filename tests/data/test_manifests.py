"""Tests of splits as data: a set read in another split than the one it is stored in."""

import hashlib
import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from etils import epath

from mtpret_jax import config
from mtpret_jax.data import kinds, pipeline, sources
from tfds_builders import prepared

# Stored: train-0 to train-11, validation-0 to -6, test-0 to -3.
PLAN = {
    "train": ["train-0", "train-2", "validation-1", "validation-3", "test-0", "test-2"],
    "validation": ["train-5", "validation-6", "test-3"],
    "test": ["train-11", "validation-0"],
}
MIXED = prepared.Manifest.of_lists("mixed", 2, PLAN)
STORED = prepared.Manifest(
    "official",
    1,
    {
        f"{split}-{i}": split
        for split, count in {"train": 12, "validation": 7, "test": 4}.items()
        for i in range(count)
    },
)


def _write(folder: pathlib.Path, *manifests: prepared.Manifest) -> None:
    (folder / "splits").mkdir()
    for manifest in manifests:
        (folder / "splits" / f"{manifest.name}.csv").write_text(manifest.text())
    path = folder / "preparation.json"
    report = json.loads(path.read_text())
    report["default_manifest"] = manifests[0].name
    report["manifests"] = {
        manifest.name: {
            "version": manifest.version,
            "sha256": manifest.sha256,
            "images": manifest.counts(),
        }
        for manifest in manifests
    }
    path.write_text(json.dumps(report))


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the tiny set; PLAN is its default, "official" its stored split."""
    copy = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, copy)
    _write(copy, MIXED, STORED)
    return copy


def _ids(source: sources.Source) -> list[str]:
    return [row["image_id"] for row in source.index]


@pytest.mark.smoke
def test_the_default_manifest_says_what_is_in_a_split(folder):
    for split, ids in PLAN.items():
        source = sources.open_prepared(folder, split)

        assert _ids(source) == ids
        assert len(source) == len(ids)


def test_records_are_those_of_the_index(tiny, folder):
    opened = sources.open_prepared(folder, "train")
    source = pickle.loads(pickle.dumps(opened))  # As a worker gets it.

    for record, row in enumerate(opened.index):
        example = source[record]
        picture, _ = tiny.draw(row["split"], int(row["record"]))
        assert example["record"] == record
        np.testing.assert_array_equal(example["image"], picture)


def test_a_manifest_of_the_stored_splits_is_the_set_as_stored(tiny, folder):
    for split in tiny.counts:
        stored = tiny.open(split)

        same = sources.open_prepared(folder, split, "official")

        assert same.index == stored.index
        np.testing.assert_array_equal(same[1]["image"], stored[1]["image"])


def test_both_readers_of_manifests_agree(folder):
    found = prepared.data_sources(folder, "mixed")

    for split, part in found.items():
        source = sources.open_prepared(folder, split, "mixed")
        assert [e["image_id"].decode() for e in part] == _ids(source)


def test_images_set_aside_in_preparation_are_absent(tiny, tmp_path):
    copy = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, copy)
    more = prepared.Manifest.of_lists(
        "more", 1, {**PLAN, "test": ["unreadable", "train-11"]}
    )
    _write(copy, more)

    assert _ids(sources.open_prepared(copy, "test")) == ["train-11"]


def test_rows_keep_what_is_told_about_an_image(folder):
    lines = (folder / "index.csv").read_text().splitlines()
    told = [f"{line},PA,41.5,F,study{i // 2}" for i, line in enumerate(lines[1:])]
    text = "\n".join([f"{lines[0]},view,age,sex,study_id", *told])
    (folder / "index.csv").write_text(text)

    row = sources.open_prepared(folder, "train").index[1]

    about = {name: row[name] for name in ("view", "age", "sex", "study_id")}
    assert about == {"view": "PA", "age": "41.5", "sex": "F", "study_id": "study1"}


def test_unknown_manifests_and_splits_name_those_there_are(tiny, folder):
    with pytest.raises(ValueError, match=r"no splits 'grouped'.*'mixed', 'official'"):
        sources.open_prepared(folder, "train", "grouped")
    with pytest.raises(ValueError, match=r"one split only.*prepare the set again"):
        tiny.open("train", "grouped")
    with pytest.raises(ValueError, match=r"no split 'val' in its splits 'mixed'"):
        sources.open_prepared(folder, "val")


def test_a_manifest_that_was_changed_or_lost_is_refused(folder):
    path = folder / "splits" / "mixed.csv"
    path.write_text(path.read_text().replace("test-0,train", "test-0,test"))
    with pytest.raises(ValueError, match=r"mixed\.csv was changed.*--rebuild"):
        sources.open_prepared(folder, "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"No mixed\.csv.*--rebuild"):
        sources.open_prepared(folder, "train")


def test_the_description_tells_the_manifest_in_use_and_who_crosses(folder):
    path = folder / "index.csv"
    text = path.read_text()
    # train-0 and train-11 now show one patient.
    path.write_text(text.replace("train-11,train-11", "train-11,train-0"))

    found = sources.describe(folder)

    assert found["pixel_mean"] == 0.25
    assert found.get("splits_in_use") == {
        "name": "mixed",
        "version": 2,
        "sha256": MIXED.sha256,
        "images": {"train": 6, "validation": 3, "test": 2},
        "groups_in_several_splits": 1,
    }
    official = sources.describe(folder, "official").get("splits_in_use", {})
    assert official.get("version") == 1


def test_streams_read_the_split_that_is_asked_for(folder):
    task = config.TaskConfig(kind="segmentation", image_size=16, batch_size=2)
    settings = config.InputConfig(threads=1, buffer=1)
    usable = {"": [0, 2, 3], "official": [i for i in range(12) if i % 4 != 2]}

    for manifest, expected in usable.items():
        records = kinds.usable_records(
            sources.open_prepared(folder, "train", manifest), task
        )
        with pipeline.eval_batches(
            "x", task, settings, sources.open_prepared(folder, "train", manifest)
        ) as stream:
            seen = np.concatenate([batch.arrays["record"] for batch in stream])
        assert records.tolist() == expected
        assert seen[seen >= 0].tolist() == expected


def test_evaluation_tells_the_study_of_an_image_and_training_does_not(folder):
    lines = (folder / "index.csv").read_text().splitlines()
    studies = {"train-0": "b", "validation-1": "a", "validation-3": "b"}
    told = [f"{line},{studies.get(line.split(',')[2], '')}" for line in lines[1:]]
    (folder / "index.csv").write_text("\n".join([f"{lines[0]},study_id", *told]))
    task = config.TaskConfig(target="finding", image_size=16, batch_size=3)
    settings = config.InputConfig(threads=1, buffer=1)

    with pipeline.eval_batches(
        "x", task, settings, sources.open_prepared(folder, "train")
    ) as stream:
        found = np.concatenate([batch.arrays["study"] for batch in stream])
    with pipeline.eval_batches(
        "x", task, settings, sources.open_prepared(folder, "test")
    ) as stream:
        test_arrays = next(stream).arrays
    with pipeline.train_stream(
        "x", task, settings, sources.open_prepared(folder, "train"), seed=0
    ) as stream:
        train_arrays = next(stream).arrays

    # train-0, train-2, validation-1, validation-3, test-0, test-2 are the train split.
    assert found[0] == found[3] != found[2]
    assert (found[[1, 4, 5]] == -1).all()
    assert "study" not in test_arrays
    assert "study" not in train_arrays


def test_pre_training_reads_the_train_split_that_is_asked_for(folder):
    settings = config.ContrastiveConfig(
        datasets={"tiny": 1.0}, image_size=16, batch_size=4
    )
    options = config.InputConfig(threads=1, buffer=1)
    for manifest, count in (("mixed", 6), ("official", 12)):
        with pipeline.contrastive_stream(
            "pairs",
            settings,
            options,
            {"tiny": sources.open_prepared(folder, "train", manifest)},
            seed=0,
        ) as stream:
            batches = [next(stream).arrays["record"] for _ in range(count // 2)]
        assert set(np.concatenate(batches).tolist()) == set(range(count))


def test_an_index_that_was_changed_is_refused(folder):
    path = folder / "preparation.json"
    index = folder / "index.csv"
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    content = json.loads(path.read_text()) | {"index_sha256": digest}
    path.write_text(json.dumps(content))
    sources.open_prepared(folder, "train")  # Nothing is wrong.
    index.write_text(index.read_text().replace("normal", "ill", 1))

    with pytest.raises(ValueError, match=r"index.csv was changed .*--rebuild"):
        sources.open_prepared(folder, "train")


def test_a_table_is_read_once_for_all_that_open_it_and_again_when_changed(
    tiny, tmp_path
):
    folder = tmp_path / "tiny" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    first, again = (prepared.read_index(epath.Path(folder)) for _ in range(2))
    assert first is not again
    assert all(one is other for one, other in zip(first, again, strict=True))
    path = folder / "index.csv"
    path.write_text(path.read_text().replace("train-3", "train-three"))
    changed = prepared.read_index(epath.Path(folder))
    assert [row["image_id"] for row in changed if row not in first] == ["train-three"]
