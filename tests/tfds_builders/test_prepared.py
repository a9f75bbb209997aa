"""A prepared folder read in another split than it is stored in, by TFDS alone."""

import json
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from tfds_builders import phantom_xray, prepared, whole

REPOSITORY = pathlib.Path(__file__).parents[2]
# Stored: six images in train, three in validation, two in test.
PLAN = {
    "train": [("test", 1), ("train", 4), ("train", 0)],
    "validation": [("validation", 2)],
    "test": [("train", 5), ("validation", 0)],
}


def _write(folder: epath.Path, *manifests: prepared.Manifest) -> None:
    path = folder / "preparation.json"
    report = json.loads(path.read_text())
    (folder / prepared.MANIFESTS).mkdir(exist_ok=True)
    report |= {"default_manifest": manifests[0].name, "manifests": {}}
    for manifest in manifests:
        (folder / prepared.MANIFESTS / f"{manifest.name}.csv").write_text(
            manifest.text()
        )
        facts = {"version": manifest.version, "sha256": manifest.sha256}
        report["manifests"][manifest.name] = facts
    whole.write_json(path, report)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> epath.Path:
    """A tiny prepared set with two manifests; "mixed" follows PLAN."""
    sizes = {"train": 6, "validation": 3, "test": 2}
    config = phantom_xray.Config(name="x", body="hand", image_size=32, **sizes)
    builder = phantom_xray.Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    mixed = {
        _id(builder, *place): split for split, found in PLAN.items() for place in found
    }
    one = prepared.Manifest(
        "one", 1, {_id(builder, "test", 0): "test", "lost": "train"}
    )
    _write(epath.Path(builder.data_dir), prepared.Manifest("mixed", 1, mixed), one)
    return epath.Path(builder.data_dir)


def _id(builder: phantom_xray.Builder, split: str, record: int) -> str:
    return builder.as_data_source(split)[record]["image_id"].decode()


def _stored(folder: epath.Path) -> dict[tuple[str, int], bytes]:
    rows = (folder / "index.csv").read_text().splitlines()[1:]
    cells = [row.split(",") for row in rows]
    return {(c[0], int(c[1])): c[2].encode() for c in cells}


def test_a_manifest_gathers_records_of_several_stored_splits_in_stored_order(folder):
    at = _stored(folder)

    found = prepared.data_sources(folder)

    ids = {split: [e["image_id"] for e in part] for split, part in found.items()}
    assert ids == {
        "train": [at["train", 0], at["train", 4], at["test", 1]],
        "validation": [at["validation", 2]],
        "test": [at["train", 5], at["validation", 0]],
    }


def test_images_that_are_set_aside_and_splits_without_images_are_absent(folder):
    found = prepared.data_sources(folder, "one")

    assert list(found) == ["test"]
    assert len(found["test"]) == 1


def test_a_part_is_read_at_random_in_batches_and_from_other_processes(folder):
    part = prepared.data_sources(folder)["train"]

    copy = pickle.loads(pickle.dumps(part))

    np.testing.assert_array_equal(copy[-1]["image"], part[2]["image"])
    assert [e["image_id"] for e in part.__getitems__([2, 0])] == [
        part[2]["image_id"],
        part[0]["image_id"],
    ]
    with pytest.raises(IndexError):
        part[3]


def test_a_folder_without_manifests_is_read_as_it_is_stored(folder):
    path = folder / "preparation.json"
    report = json.loads(path.read_text())
    del report["manifests"]
    whole.write_json(path, report)

    found = prepared.data_sources(folder)

    assert {split: len(part) for split, part in found.items()} == {
        "train": 6,
        "validation": 3,
        "test": 2,
    }
    with pytest.raises(ValueError, match=r"no splits 'grouped'; it has one split only"):
        prepared.data_sources(folder, "grouped")


def test_an_unknown_a_changed_and_a_missing_manifest_are_clear_errors(folder):
    with pytest.raises(ValueError, match=r"no splits 'grupd'; .*\['mixed', 'one'\]"):
        prepared.data_sources(folder, "grupd")
    path = folder / prepared.MANIFESTS / "mixed.csv"
    path.write_text(path.read_text().replace(",test", ",train"))
    with pytest.raises(ValueError, match=r"mixed\.csv was changed .*Prepare"):
        prepared.data_sources(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"No mixed\.csv.*[Pp]repare"):
        prepared.data_sources(folder)


def test_reading_needs_neither_the_main_package_nor_jax_nor_tensorflow(folder):
    program = (
        "import sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('jax', 'mtpret_jax'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        "from tfds_builders import prepared\n"
        "found = prepared.data_sources(sys.argv[1], 'mixed')\n"
        "assert found['train'][0]['image'].ndim == 3\n"
        "assert [len(found[split]) for split in found] == [3, 1, 2]\n"
        "assert not {'jax', 'mtpret_jax', 'tensorflow'} & set(sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
