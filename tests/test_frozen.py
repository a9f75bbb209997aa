"""A run whose start is measured as it is: what it writes, and going on after a stop."""

import importlib.util
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.experiment import frozen, preparation, run, workfolder, workshop
from mtpret_jax.metrics import operating_points, probes

REPOSITORY = pathlib.Path(__file__).parents[1]
TASK = "missing_tooth"
FILES = ("test.linear.npz", "test.knn.npz", "frozen.json")


def measured() -> Any:
    """Half of the labels, from scratch and from a run, at two learning rates."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_frozen", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    row = config.runs[f"scratch_{TASK}"].to_dict()
    row |= {"steps": 2, "checkpoint_every": 1, "label_fraction": 0.5}
    row["finetune"] |= {"frozen": True, "selection": "auto"}
    with config.unlocked():
        for name in list(config.runs):
            del config.runs[name]
        config.runs.slow = schema.run(**row | {"arm": "slow"})
        fast = row | {"arm": "fast", "optimizer": {"learning_rate": 0.5}}
        config.runs.fast = schema.run(**fast)
        later = row | {"arm": "later", "init_from": "fast"}
        config.runs.later = schema.run(**later)
    config.report.update(baseline="slow", bootstrap=5, samples=1)
    return schema.parse(config)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The config, its work folder and the prepared folders."""
    config = measured()
    root = tmp_path_factory.mktemp("frozen")
    folders = preparation.prepare(config.datasets, root / "data")
    with pytest.MonkeyPatch.context() as patch:
        # So that a run that has ended can be taken for one that was stopped.
        patch.setattr(run, "give_back", lambda shop, name: None)
        workfolder.run(config, root / "work", folders)
        yield config, root / "work", folders


def _folder(work: pathlib.Path, run: str) -> pathlib.Path:
    return work / "runs" / run / "predictions" / TASK


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return dict(held)


@pytest.mark.slow
def test_predictions_have_the_form_of_the_tasks_own(done):
    _, work, _ = done
    own = _arrays(_folder(work, "slow") / "test.npz")

    for method in frozen.METHODS:
        found = _arrays(_folder(work, "slow") / f"test.{method}.npz")
        assert list(found) == list(own)
        for name in set(own) - {"probability"}:
            np.testing.assert_array_equal(found[name], own[name], err_msg=name)
        assert found["probability"].shape == own["probability"].shape
        np.testing.assert_allclose(found["probability"].sum(1), 1.0, rtol=1e-6)
        assert len(np.unique(found["probability"])) > 2


@pytest.mark.slow
def test_a_run_says_what_was_learnt_from(done):
    config, work, _ = done
    told = json.loads((work / "runs/slow/run.json").read_text())

    images = told["labels"][TASK]["train"]["records"]
    assert images < 24
    assert told["frozen"] == {
        "images": images,
        "batch_norm": config.runs["slow"].finetune.batch_norm_batches,
        "features": 64,  # eight times the width of a ResNet-18
        "strength": probes.STRENGTH,  # Ten validation images choose nothing.
        "strength_from": "fixed",
        "neighbours": images,
    }


@pytest.mark.slow
def test_it_is_the_start_that_is_measured(done):
    """`slow` and `fast` begin alike; `later` begins where `fast` ended."""
    _, work, _ = done

    for method in frozen.METHODS:
        file = f"test.{method}.npz"
        slow, fast, later = (
            _arrays(_folder(work, run) / file)["probability"]
            for run in ("slow", "fast", "later")
        )
        np.testing.assert_array_equal(slow, fast)
        assert np.abs(later - fast).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("lost", [FILES, ()])
def test_a_run_that_goes_on_measures_its_start_once(done, lost):
    """Its state has moved on; what a stop left unfinished is made from the start."""
    config, work, folders = done
    folder = _folder(work, "later")
    before = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    held = {method: _arrays(folder / f"test.{method}.npz") for method in frozen.METHODS}
    facts = json.loads((folder / "frozen.json").read_text())
    (work / "runs/later/run.json").unlink()
    for name in lost:
        (folder / name).unlink()

    run.Run(workshop.open_workshop(config, work, folders), "later").do()

    told = json.loads((work / "runs/later/run.json").read_text())
    assert told["resumed_at"] == 2
    assert told["frozen"] == json.loads((folder / "frozen.json").read_text()) == facts
    for method, arrays in held.items():
        found = _arrays(folder / f"test.{method}.npz")
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
    after = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    assert (after == before) == (not lost)


@pytest.mark.smoke
def test_of_penalties_that_validation_likes_alike_the_largest_is_taken(monkeypatch):
    label = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    records = {
        "feature": np.zeros((4, 1), np.float32),
        "label": label,
        "label_known": np.ones((4, 2), bool),
        "record": np.arange(4, dtype=np.int32),
    }
    # Probability of the second class: right, right, wrong.
    said = {0.01: [0, 0, 1, 1], 0.1: [0.4, 0.4, 0.6, 0.6], 1.0: [1, 1, 0, 0]}

    def fit(train: Any, feature: Any, *, strength: float) -> np.ndarray:
        second = np.asarray(said[strength], np.float32)
        return np.stack([1 - second, second], axis=1)

    monkeypatch.setattr(probes, "linear", fit)
    monkeypatch.setattr(probes, "STRENGTHS", tuple(said))
    metric = frozen.Features(("no", "yes"), exclusive=True)
    train: Any = None  # What is fitted on it is said above.

    monkeypatch.setattr(operating_points, "FEWEST", 1)
    assert probes.choose(metric, train, records) == (0.1, "validation")
    monkeypatch.setattr(operating_points, "FEWEST", 3)
    assert probes.choose(metric, train, records) == (probes.STRENGTH, "fixed")


@pytest.mark.slow
def test_enough_of_validation_chooses_the_penalty(done, tmp_path, monkeypatch):
    config, _, folders = done
    monkeypatch.setattr(operating_points, "FEWEST", 1)
    # Of one strength that is not the fixed one, validation can choose no other.
    monkeypatch.setattr(probes, "STRENGTHS", (0.7,))

    run.Run(workshop.open_workshop(config, tmp_path, folders), "slow").do()

    told = json.loads((tmp_path / "runs/slow/run.json").read_text())
    found = told["frozen"]
    assert (found["strength"], found["strength_from"]) == (0.7, "validation")
    assert found["batch_norm"] == config.runs["slow"].finetune.batch_norm_batches
    assert told["selection"] == "validation"
