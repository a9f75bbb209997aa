"""What the command does, from Python: prepare, train, compare, export, load."""

import json
import pathlib

import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax.experiment import listing


def make_config():
    """One class task on phantoms, three steps."""
    config = schema.defaults()
    config.backbone.update(name="resnet10", width=8, in_channels=1)
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=32, train=24, validation=8, test=24
    )
    config.tasks.finding = schema.task(
        kind="classification",
        dataset="chest",
        target="finding",
        image_size=32,
        batch_size=8,
    )
    config.runs.run = schema.run(
        stage="finetune", arm="one", steps=3, finetune=dict(task="finding")
    )
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    report = mtpret_jax.train(make_config(), folder / "work", folder / "data")
    return folder, report


def test_training_gives_the_report_that_lies_in_the_folder(trained):
    folder, report = trained

    assert report == json.loads((folder / "work" / "report.json").read_text())
    assert len((folder / "work/runs/run/metrics.jsonl").read_text().splitlines()) >= 1


def test_the_same_call_again_does_no_step(trained):
    folder, report = trained
    weights = {
        path: path.stat().st_mtime_ns
        for path in (folder / "work/runs/run").rglob("*")
        if path.is_file()
    }

    again = mtpret_jax.train(
        schema.parse(make_config()), folder / "work", folder / "data"
    )

    assert again == report
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


def test_a_list_of_runs_tells_of_it(trained):
    folder, report = trained

    told = listing.tell(folder / "work/runs/run")

    assert (told.row.state, told.row.steps, told.row.metric) == ("done", 3, "auroc")
    assert told.row.value is not None
    assert told.row.higher_is_better
    assert list(told.row.validation) == ["finding"]
    (values,) = report["values"]["finding"]["1"].values()
    assert told.tests["auroc"][0] == values["auroc"]["value"]


def test_another_config_is_refused(trained):
    folder, _ = trained
    config = make_config()
    config.seed = 7

    with pytest.raises(ValueError, match=r"config\.json differs from this call: seed"):
        mtpret_jax.train(config, str(folder / "work"), str(folder / "data"))


def test_preparing_gives_the_folder_of_each_set(trained):
    folder, _ = trained

    found = mtpret_jax.prepare(make_config(), folder / "data")

    assert list(found) == ["chest"]
    assert (pathlib.Path(found["chest"]) / "dataset_info.json").exists()


def test_an_export_loads_and_answers_as_the_run(trained):
    folder, _ = trained

    differences = mtpret_jax.export(
        folder / "work", "run", folder / "exported", data_dir=folder / "data"
    )

    assert max(differences.values()) < 1e-5
    assert (folder / "exported" / "training.csv").exists()
    image = np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)
    of_run = mtpret_jax.load(folder / "work/runs/run").embed(image)
    np.testing.assert_allclose(
        mtpret_jax.load(folder / "exported").embed(image), of_run, rtol=1e-4, atol=1e-5
    )


def test_a_comparison_gives_what_lies_in_its_folder(trained):
    folder, _ = trained
    told: list[str] = []

    found = mtpret_jax.compare(
        make_config(),
        {"one": folder / "work/runs/run", "two": folder / "work/runs/run"},
        folder / "compared",
        folder / "data",
        fractions=[1],
        resamples=50,
        progress=told.append,
    )

    assert found == json.loads((folder / "compared" / "compare.json").read_text())
    assert list(found["encoders"]) == ["one", "two"]
    assert told[-1].endswith("compare.html.")


@pytest.mark.parametrize("fractions", [[], [0.0, 1], [2], [float("nan")]])
def test_wrong_shares_are_refused(trained, fractions):
    folder, _ = trained

    with pytest.raises(ValueError, match="fractions: expected shares above 0"):
        mtpret_jax.compare(
            make_config(),
            {"one": folder / "work/runs/run"},
            folder / "compared",
            folder / "data",
            fractions=fractions,
        )
