"""The splits that a config asks for, from the config to the work folder."""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import pipeline
from mtpret_jax.experiment import feed, preparation, workfolder, workshop
from tfds_builders import prepared as tables
from tfds_builders import whole

# Stored: chests 0 to 15 in train, 16 to 19 in validation, 20 to 23 in test.
STORED = {"train": 16, "validation": 4, "test": 4}


def small(**options: Any) -> Any:
    """One set of simulated chests, stages 1 and 3."""
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.input.update(threads=1, buffer=1)
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=32, **STORED, **options
    )
    config.tasks.mask = schema.task(
        kind="segmentation", dataset="chest", image_size=32, batch_size=8
    )
    config.runs.pretrain = schema.run(
        stage="contrastive",
        steps=2,
        contrastive=dict(datasets={"chest": 1.0}, batch_size=8, queue_size=8),
    )
    config.runs.scratch = schema.run(
        stage="finetune", steps=2, finetune={"task": "mask"}
    )
    return config


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The set of `small`."""
    data_dir = tmp_path_factory.mktemp("splits")
    made = preparation.prepare(schema.parse(small()).datasets, data_dir)
    return pathlib.Path(made["chest"])


@pytest.fixture
def folders(prepared: pathlib.Path, tmp_path: pathlib.Path) -> Mapping[str, Any]:
    """A copy of the set with a second manifest, "turned": train and test swapped."""
    folder = tmp_path / "chest" / "1.0.0"
    shutil.copytree(prepared, folder)
    _add(folder, {"train": "test", "test": "train", "validation": "validation"})
    return {"chest": folder}


def _add(folder: pathlib.Path, becomes: Mapping[str, str]) -> None:
    lines = (folder / "index.csv").read_text().splitlines()[1:]
    cells = [line.split(",") for line in lines]
    made = tables.Manifest("turned", 1, {c[2]: becomes[c[0]] for c in cells})
    (folder / "splits" / "turned.csv").write_text(made.text())
    path = folder / "preparation.json"
    report = json.loads(path.read_text())
    facts = {"version": 1, "sha256": made.sha256, "images": made.counts()}
    report["manifests"]["turned"] = facts
    whole.write_json(path, report)


@pytest.mark.smoke
def test_every_part_of_a_run_reads_the_splits_of_the_config(folders, tmp_path):
    config = small(splits="turned")
    config.runs.pretrain.contrastive.update(batch_size=8, queue_size=8)
    config = schema.parse(config)

    with pytest.raises(ValueError, match=r"queue_size: 8 .* pool of 4 images"):
        workshop.open_workshop(config, tmp_path, folders)
    config = schema.parse({**schema.as_dict(config), "runs": _finetune(config)})
    shop = workshop.open_workshop(config, tmp_path, folders)

    assert len(shop.open_set("chest", "train")) == STORED["test"]
    row = config.runs["scratch"]
    reading = feed.Feed(shop, row, shop.shard)
    with reading.split("mask", "test") as stream:
        rows = sum(int(batch.arrays["example_valid"].sum()) for batch in stream)
    assert rows == STORED["train"]
    with reading.stream("mask") as stream:
        batch: pipeline.types.Batch = next(stream)
    assert set(batch.arrays["record"].tolist()) == set(range(STORED["test"]))


def _finetune(config: schema.ExperimentConfig) -> dict[str, Any]:
    return {"scratch": schema.as_dict(config.runs["scratch"])}


def test_a_set_without_the_splits_asked_for_stops_before_anything_runs(
    folders, tmp_path
):
    config = schema.parse(small(splits="grouped"))

    with pytest.raises(ValueError, match=r"'chest' has no splits 'grouped'; it has"):
        workshop.open_workshop(config, tmp_path, folders)


def test_the_work_folder_keeps_the_splits_and_refuses_others(folders, tmp_path):
    work, config = tmp_path / "work", schema.parse(small(splits="turned"))
    workfolder.claim_workdir(config, work, folders)
    workfolder.claim_workdir(config, work, folders)  # The same goes on.

    facts = json.loads((work / "datasets.json").read_text())["chest"]["splits_in_use"]
    assert facts["name"] == "turned"
    assert facts["images"] == {"train": 4, "validation": 4, "test": 16}
    assert facts["groups_in_several_splits"] == 0

    other = schema.parse(small())
    with pytest.raises(ValueError, match=r"chest\.splits: was 'turned', now ''"):
        workfolder.claim_workdir(other, work, folders)
    _add(
        folders["chest"], {"train": "test", "test": "validation", "validation": "test"}
    )
    with pytest.raises(ValueError, match=r"splits_in_use\.sha256: was '.*', now '"):
        workfolder.claim_workdir(config, work, folders)
