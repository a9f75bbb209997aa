"""What is due after a step, and what a run with few labels says it used."""

import importlib.util
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import subsets
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.stages import continual

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (3, 0, [3, 6, 9, 12]),  # the end of every segment
        (3, 1, [3, 6, 9, 12]),
        (3, 4, [6, 9, 12]),  # 4, 8 and 12 were passed
        (1, 3, [3, 4]),  # and the last
        (3, 100, [12]),
    ],
)
def test_short_segments_are_measured_now_and_then(steps, every, expected):
    options = schema.ContinualConfig(tasks=("a", "b"), rounds=2)
    unused: Any = None
    stage = continual.ContinualStage(unused, options, unused, steps, {}, seed=0)

    found = [n for n in range(1, 4 * steps + 1) if stage.is_validated(n, every)]

    assert found == expected


def few_labels() -> Any:
    """Interleaved tasks, then one task three times on a third of the labels."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_labels", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    joint = config.runs.continual.to_dict()
    kept = config.runs.scratch_missing_tooth.to_dict()
    with config.unlocked():
        for name in list(config.runs):
            del config.runs[name]
        few = {"label_fraction": 0.3, "seed": 5}
        joint |= {"init_from": "", "steps": 1, "evaluate_every": 3, **few}
        joint["continual"] |= {"tasks": ("missing_tooth", "mandible"), "cyclic": False}
        config.runs.joint = schema.run(**joint)
        kept |= {"steps": 4, "evaluate_every": 1, **few}
        for selection in ("validation", "last", "auto"):
            row = kept | {"arm": selection, "init_from": "joint"}
            row["finetune"] = row["finetune"] | {"selection": selection}
            config.runs[selection] = schema.run(**row)
        other = kept | {"arm": "other", "seed": 6, "checkpoint_every": 4}
        other["optimizer"] |= {"name": "lars", "learning_rate_batch": 2}
        config.runs.other = schema.run(**other)
        for row in config.runs.values():
            row.finetune.batch_norm_batches = 0
    config.report.update(baseline="last", bootstrap=5, samples=1)
    return schema.parse(config)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The config, its work folder, its report and the prepared folders."""
    config = few_labels()
    root = tmp_path_factory.mktemp("labels")
    folders = preparation.prepare(config.datasets, root / "data")
    result = workfolder.run(config, root / "work", folders)
    ended = (root / "work" / "runs").glob("*/run.json")
    runs = {path.parent.name: json.loads(path.read_text()) for path in ended}
    return config, root / "work", {**result, "runs": runs}, folders


@pytest.mark.slow
def test_a_run_with_few_labels_says_which_it_used(done):
    config, _, result, folders = done
    labels = {name: run["labels"] for name, run in result["runs"].items()}

    used = labels["last"]["missing_tooth"]
    task = config.tasks["missing_tooth"]
    source = subsets.sources.open_prepared(folders[task.dataset], "train")
    part = subsets.Subset(5, 0.3)

    assert used["train"] == subsets.describe(source, task, part)
    assert used["train"]["records"] < len(source) == 24
    assert used["validation"]["fraction"] == 0.3
    assert used["test"]["fraction"] == 1.0
    assert used["test"]["records"] == 12
    for name in ("validation", "auto"):
        assert labels[name]["missing_tooth"] == used
    joint = labels["joint"]["missing_tooth"]
    assert joint == {name: used[name] for name in ("train", "validation")}
    other = labels["other"]["missing_tooth"]
    assert other["train"]["sha256"] != used["train"]["sha256"]
    assert other["test"] == used["test"]
    seeds = {name: run["seed"] for name, run in result["runs"].items()}
    assert seeds == dict.fromkeys(("joint", "validation", "last", "auto"), 5) | {
        "other": 6
    }


@pytest.mark.slow
def test_a_run_records_the_rate_that_its_batch_came_to(done):
    config, work, result, _ = done
    task, row = config.tasks["missing_tooth"], config.runs["other"]

    found = {name: run["learning_rate"] for name, run in result["runs"].items()}

    peak = row.optimizer.learning_rate * task.learning_rate_scale
    assert found["last"] == {"missing_tooth": peak}
    assert found["other"] == {"missing_tooth": peak * task.batch_size / 2}
    lines = (work / "runs/other/metrics.jsonl").read_text().splitlines()
    first = json.loads(lines[0])["train/learning_rate"]
    assert first <= found["other"]["missing_tooth"]
    assert first > peak


@pytest.mark.slow
def test_the_last_step_is_tested_where_validation_is_small(done):
    _, work, result, _ = done
    runs = result["runs"]

    chosen = {name: runs[name]["selection"] for name in ("validation", "last", "auto")}
    lines = (work / "runs/validation/metrics.jsonl").read_text().splitlines()
    values = [json.loads(line).get("validation/auroc") for line in lines]

    assert chosen == {"validation": "validation", "last": "last", "auto": "last"}
    assert runs["auto"]["best_step"] == runs["last"]["best_step"] == 4
    best = max(values)
    assert runs["validation"]["best_value"] == best
    assert values[runs["validation"]["best_step"] - 1] == best


@pytest.mark.slow
def test_predictions_of_the_labels_used_for_validation_are_kept(done):
    config, work, result, folders = done
    used = result["runs"]["last"]["labels"]["missing_tooth"]["validation"]
    folder = work / "runs/last/predictions/missing_tooth"

    with np.load(folder / "validation.npz") as held:
        records, probability = held["record"], held["probability"]
    lines = (folder / "validation.csv").read_text().splitlines()

    task = config.tasks["missing_tooth"]
    source = subsets.sources.open_prepared(folders[task.dataset], "validation")
    part = subsets.usable_records(source, task, subsets.Subset(5, 0.3))
    assert records.tolist() == part.tolist()
    assert len(probability) == used["records"] < len(source)
    assert lines[0] == "record,image_id,group"
    rows = [source.index[record] for record in part]
    assert [line.split(",")[1] for line in lines[1:]] == [r["image_id"] for r in rows]
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS",
        "draws",
        "test.csv",
        "test.npz",
        "test.samples.npz",
        "test.worst.npz",
        "validation.csv",
        "validation.npz",
    ]


@pytest.mark.slow
def test_interleaved_tasks_are_measured_and_saved_now_and_then(done):
    _, _, result, _ = done

    segments = result["forgetting"]["joint"]["segments"]

    assert [row["steps"] for row in segments] == [3, 4]
    assert set(segments[-1]["values"]) == {"missing_tooth", "mandible"}


@pytest.mark.slow
def test_the_seed_of_a_run_draws_its_weights_and_its_order(done):
    """`other` differs in its seed (and start); `auto` and `last` in nothing."""
    _, work, _, _ = done

    def records(name):
        lines = (work / "runs" / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["train/records"] for line in lines]

    def predicted(name):
        with np.load(work / f"runs/{name}/predictions/missing_tooth/test.npz") as held:
            return held["probability"]

    assert records("auto") == records("last")
    assert records("other") != records("last")
    np.testing.assert_array_equal(predicted("auto"), predicted("last"))
