"""Runs with a monitor: the same weights as without, what it writes, keeps and tells."""

import importlib.util
import json
import math
import pathlib
import shutil
import types
from typing import Any

import jax
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax.experiment import monitor, preparation, run, workshop
from mtpret_jax.training import checkpoint, sharding

REPOSITORY = pathlib.Path(__file__).parents[1]
RUNS = ("contrastive", "continual")


def _options(every: int) -> Any:
    """Stage 1 with ten steps, stage 2 with two segments of five."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_monitor", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    with config.unlocked():
        for name in list(config.runs):
            if name not in RUNS:
                del config.runs[name]
        del config.tasks["opacity"]
    config.runs.contrastive.update(steps=10, checkpoint_every=5)
    config.runs.continual.update(steps=5, checkpoint_every=5)
    config.runs.continual.continual.update(
        tasks=("missing_tooth",), rounds=2, batch_norm_batches=0
    )
    for row in config.runs.values():
        row.monitor.update(every=every, images=24)
    return config


def _config(every: int) -> schema.ExperimentConfig:
    return schema.parse(_options(every))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Work folders with and without a monitor, and the prepared folders."""
    root = tmp_path_factory.mktemp("monitor")
    folders = preparation.prepare(_config(0).datasets, root / "data")
    with pytest.MonkeyPatch.context() as patch:
        # So that a run that has ended can be taken for one that was stopped.
        patch.setattr(run, "give_back", lambda shop, name: None)
        for name, every in {"with": 5, "without": 0}.items():
            shop = workshop.open_workshop(_config(every), root / name, folders)
            for each in RUNS:
                run.Run(shop, each).do()
        yield root, folders


def _lines(root: pathlib.Path, name: str) -> list[dict[str, Any]]:
    text = (root / "runs" / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _looks(root: pathlib.Path, name: str) -> list[dict[str, Any]]:
    lines = _lines(root, name)
    return [line for line in lines if "monitor/spread" in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_training_is_the_same_with_and_without(done, name):
    root, _ = done

    one, other = (
        checkpoint.load_backbone(root / folder / "runs" / name / "backbone", {})[0]
        for folder in ("with", "without")
    )
    seen = _looks(root / "with", name)
    trained = [line for line in _lines(root / "with", name) if line not in seen]

    assert trained == _lines(root / "without", name)
    assert len(seen) == 5
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_it_looks_at_the_start_and_twice_early(done, name):
    root, _ = done

    seen = _looks(root / "with", name)

    assert [line["step"] for line in seen] == [0, 1, 2, 5, 10]
    labelled = {"knn", "linear", "knn/missing_tooth", "linear/missing_tooth"}
    wanted = {"effective_rank", "spread", *labelled}
    for line in seen:
        found = {key.removeprefix("monitor/") for key in line} - {"step"}
        has_embedding = name == "contrastive" and line["step"] > 0
        assert found == wanted | ({"embedding_spread"} if has_embedding else set())
        assert 0 <= line["monitor/knn"] == line["monitor/knn/missing_tooth"] <= 1
        assert 1 <= line["monitor/effective_rank"] <= 23


@pytest.mark.slow
def test_embeddings_are_told_as_a_share_of_what_fills_the_sphere(done):
    root, _ = done

    lines = _lines(root / "with", "contrastive")

    (seen,) = (x for x in lines if x["step"] == 10 and "monitor/spread" in x)
    (trained,) = (x for x in lines if x["step"] == 10 and "train/loss" in x)
    share = trained["train/embedding_spread"] * math.sqrt(16)
    assert seen["monitor/embedding_spread"] == pytest.approx(share, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_state_that_neighbours_like_best_is_kept_as_a_backbone(done, name):
    root, _ = done
    folder = root / "with" / "runs" / name
    told = json.loads((folder / "run.json").read_text())["monitor"]
    value = {line["step"]: line["monitor/knn"] for line in _looks(root / "with", name)}

    best = max(value, key=lambda step: (value[step], -step))
    kept = [path.name for path in folder.glob("snapshots/*")]

    assert told["snapshot_step"] == best
    assert told["snapshot_knn"] == value[best]
    assert kept == [f"step_{best}"]
    tree, described = checkpoint.load_backbone(folder / "snapshots" / kept[0], {})
    assert described["steps"] == best
    assert set(tree) == {"backbone", "heads"}
    model = mtpret_jax.load(folder / "snapshots" / kept[0])
    assert model.description.steps == best


@pytest.mark.slow
def test_without_a_monitor_nothing_is_written(done):
    root, _ = done

    for name in RUNS:
        folder = root / "without" / "runs" / name
        assert "monitor" not in json.loads((folder / "run.json").read_text())
        assert not (folder / "snapshots").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_writes_the_same_looks(done):
    """As if it had been ended between its two saved states."""
    root, folders = done
    folder = root / "with" / "runs" / "contrastive"
    wanted = (folder / "metrics.jsonl").read_bytes()
    told = json.loads((folder / "run.json").read_text())["monitor"]
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "10")

    run.Run(
        workshop.open_workshop(_config(5), root / "with", folders), "contrastive"
    ).do()

    after = json.loads((folder / "run.json").read_text())
    assert after["resumed_at"] == 5
    assert after["monitor"] == told
    assert (folder / "metrics.jsonl").read_bytes() == wanted


@pytest.fixture
def opened(done, tmp_path) -> Any:
    """Gives a monitor of stage 1 on some devices, and a state; and what it keeps."""
    _, folders = done

    def open_on(devices: int) -> tuple[monitor.Monitor, Any, list[int]]:
        made = run.Run(
            workshop.open_workshop(_config(5), tmp_path, folders), "contrastive"
        )
        made.mesh = sharding.make_mesh(jax.devices()[:devices])
        kept: list[int] = []

        def keep(state: Any) -> None:
            kept.append(int(state.step))

        return monitor.Monitor(made.feed, made.mesh, 10, keep), made._begin(), kept

    return open_on


@pytest.mark.slow
def test_figures_do_not_depend_on_the_number_of_devices(opened):
    one, eight = (
        looker.look(state, 0, {}) for looker, state, _ in (opened(1), opened(8))
    )

    assert one.keys() == eight.keys()
    for name, value in one.items():
        assert eight[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.slow
def test_a_collapse_is_told_once_in_one_line(opened, caplog):
    """Without its weights a backbone says the same of every image."""
    looker, state, kept = opened(8)
    dead = state.replace(params=jax.tree.map(np.zeros_like, state.params))
    looker.look(state, 0, {})

    for step in (1, 2, 3):
        seen = looker.look(dead, step, {"embedding_spread": 0.5})

    told = [each for each in caplog.messages if "collapse" in each]
    assert [each.partition(" 0, ")[0] for each in told[1:]] == [
        "collapse at step 2: spread of features"
    ]
    assert told[0].startswith("collapse at step 2: effective rank of features 1,")
    assert looker.facts()["monitor"]["collapses"] == told
    assert seen["monitor/embedding_spread"] == pytest.approx(2)
    assert seen["monitor/knn"] == 0.5
    assert set(kept) <= {0}  # of random weights, never what collapsed


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (500, 1600, [0, 100, 200, 500, 1000, 1500]),
        (3, 8, [0, 1, 2, 3, 6]),
        (9, 8, []),
        (0, 8, []),
    ],
)
def test_when_it_looks(every, steps, expected):
    row = schema.RunConfig(
        stage="contrastive", monitor=schema.MonitorConfig(every=every)
    )
    unused: Any = None
    reading: Any = types.SimpleNamespace(row=row)

    looker = monitor.Monitor(reading, unused, steps, unused)

    assert [n for n in range(steps + 1) if looker.is_due(n)] == expected


@pytest.mark.smoke
def test_fine_tuning_has_no_monitor():
    config = _options(5)
    row = schema.run(finetune={"task": "missing_tooth"}, monitor={"every": 5})
    with config.unlocked():
        config.runs.tuned = row

    with pytest.raises(ValueError, match=r"tuned\.monitor: means nothing in stage"):
        schema.parse(config)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("mandible", "expected tasks of classification .* of segmentation"),
        ("missing_tooth", "whose set the run reads"),
        ("unknown", "Unknown task in config.runs.contrastive.monitor.tasks"),
    ],
)
def test_a_monitor_has_tasks_of_classification_of_its_sets(task, told):
    config = _options(5)
    config.runs.contrastive.monitor.tasks = (task,)
    del config.runs.contrastive.contrastive.datasets["head"]

    with pytest.raises(ValueError, match=told):
        schema.parse(config)


@pytest.mark.smoke
def test_tasks_of_sets_that_a_run_does_not_read_are_left_out():
    config = _options(5)
    del config.runs.contrastive.contrastive.datasets["head"]
    parsed = schema.parse(config)

    found = {name: parsed.monitored(row) for name, row in parsed.runs.items()}

    assert found == {"contrastive": (), "continual": ("missing_tooth",)}
