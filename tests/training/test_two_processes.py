"""Two processes that share every batch train and evaluate as one process does.

Run as a command, this file is one of the two processes, or the one alone.
"""

import argparse
import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.experiment import workshop
from mtpret_jax.metrics import segmentation
from mtpret_jax.stages import contrastive
from mtpret_jax.training import evaluation, sharding

REPOSITORY = pathlib.Path(__file__).parents[2]
NAMES = {
    "head": {
        "label_names": {"finding": ["complete", "missing_tooth"]},
        "mask_names": ["background", "mandible"],
    },
    "chest": {"object_names": ["opacity"]},
}
# A supervised stage and the one that is not.
RUNS = ("continual", "contrastive")
STEPS = 2  # of each task
SECONDS = 240  # for all processes together


def tiny_config() -> schema.ExperimentConfig:
    """The demo shrunk to 64 pixels, its stage 2 with one task."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_two", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    config.runs.continual.continual.tasks = ("mandible",)
    return schema.parse(config)


def host_batch(
    config: schema.ExperimentConfig, run: str, step: int, *, index: int, count: int
) -> types.Batch:
    """A process's consecutive rows of the same noise for all, as the streams cut it."""
    row = config.runs[run]
    rng = np.random.default_rng(step)
    if row.stage == "contrastive":
        name, rows, size = contrastive.TASK, *_sizes(row.contrastive)
        image = rng.normal(size=(2, rows, size, size, 1)).astype(np.float32)
        arrays = {"query": image[0], "positive": image[1]}
        # Partners lie on the other process.
        arrays["partner"] = np.roll(np.arange(rows, dtype=np.int32), rows // 2)
        arrays["query_owner"] = np.arange(rows, dtype=np.int32)
        arrays["positive_owner"] = np.roll(arrays["query_owner"], rows // 2)
    else:
        (name,) = row.tasks
        rows, size = _sizes(config.tasks[name])
        arrays = {
            "image": rng.normal(size=(rows, size, size, 1)).astype(np.float32),
            "segmentation": rng.integers(0, 2, (rows, size, size)).astype(np.int32),
            "pixel_known": rng.random((rows, size, size)) < 0.9,
        }
    arrays["record"] = np.arange(rows, dtype=np.int32)
    # The last row is padding: a mean must count over both processes.
    arrays["example_valid"] = np.arange(rows) < rows - (name != contrastive.TASK)
    part = slice(rows * index // count, rows * (index + 1) // count)
    return types.Batch({key: value[part] for key, value in arrays.items()}, name)


def _sizes(row: schema.TaskConfig | schema.ContrastiveConfig) -> tuple[int, int]:
    return row.batch_size, row.image_size


def train(mesh: jax.sharding.Mesh, *, index: int, count: int) -> dict[str, np.ndarray]:
    """Losses of each step and, for each run, what the first did to the parameters."""
    config = tiny_config()
    found = {}
    for run in RUNS:
        row = config.runs[run]
        stage = stages.build(config, row, workshop.build_tasks(config, NAMES))
        shapes = stages.shape_batches(config, row)
        init = jax.tree_util.Partial(stage.init, batches=shapes)
        state = sharding.compile_init(init, mesh)(jax.random.key(0))
        begin, step = sharding.compile_stage(stage, mesh)
        before = sharding.fetch(state.params)
        for number in range(STEPS):
            batch = host_batch(config, run, number, index=index, count=count)
            with jax.transfer_guard("disallow"):
                state = begin(state, batch.task)
                state, scalars = step(state, sharding.put(batch, mesh))
            found[f"{run}/loss/{number}"] = sharding.fetch(scalars["loss"])
            if number == 0:
                after = sharding.fetch(state.params)
                moved = jax.tree.map(
                    lambda new, old: (new - old).ravel(), after, before
                )
                found[f"{run}/update"] = np.concatenate(jax.tree.leaves(moved))
        leaves = jax.tree.leaves(sharding.fetch(state.params))
        found[f"{run}/params"] = np.concatenate([leaf.ravel() for leaf in leaves])
    return found


def evaluate(
    mesh: jax.sharding.Mesh, *, index: int, count: int
) -> dict[str, np.ndarray]:
    """Records, first and worst examples of three batches, and bytes of a prediction.

    The network is a threshold, which no order of sums can move.
    """
    config = tiny_config()
    batches = []
    for number in range(3):
        batch = host_batch(config, "continual", number, index=index, count=count)
        first = number * count * len(batch.arrays["record"])
        arrays = batch.arrays | {"record": batch.arrays["record"] + np.int32(first)}
        batches.append(batch.replace(arrays=arrays))
    predict = sharding.compile_predict(
        lambda params, model_state, batch: {
            "segmentation": (batch.arrays["image"][..., 0] > params).astype("int32")
        },
        mesh,
    )
    threshold = jax.device_put(np.float32(0), sharding.replicated(mesh))
    metric = segmentation.SegmentationMetric(("background", "mandible"))
    worst = evaluation.Worst(metric, 5)
    held = []

    def predict_one(batch: types.Batch) -> types.Tree:
        outputs = predict(threshold, {}, batch)
        held.append(sharding.fetch_rows(outputs)["segmentation"].nbytes)
        return outputs

    with jax.transfer_guard("disallow"):
        records, kept = evaluation.evaluate(
            predict_one,
            batches,
            metric,
            put=lambda batch: sharding.put(batch, mesh),
            samples=5,
            worst=worst,
        )
    parts = {"records": records, "samples": kept, "worst": worst.arrays}
    found = {
        f"evaluation/{part}/{name}": value
        for part, arrays in parts.items()
        for name, value in arrays.items()
    }
    return found | {"held": np.array(held)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_in_processes(folder: pathlib.Path) -> list[dict[str, np.ndarray]]:
    """What `train` gives on each of two processes that share a batch, and on one.

    All three run at once, with one CPU device each.
    """
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "PYTHONPATH": str(REPOSITORY),
    }
    port = free_port()
    processes, files = [], []
    try:
        for number, (index, count) in enumerate(((0, 2), (1, 2), (0, 1))):
            files.append(folder / f"{number}.npz")
            command = [sys.executable, __file__, f"--index={index}"]
            command += [f"--count={count}", f"--port={port}"]
            with (folder / f"{number}.log").open("w") as log:
                process = subprocess.Popen(
                    [*command, f"--output={files[-1]}"],
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            processes.append(process)
        deadline = time.monotonic() + SECONDS
        # One that fails leaves the other waiting for it.
        while any(process.poll() is None for process in processes):
            failed = any(process.poll() for process in processes)
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = [(folder / f"{number}.log").read_text()[-2000:] for number in range(3)]
    codes = [process.returncode for process in processes]
    assert codes == [0, 0, 0], "\n".join([f"exit codes {codes}", *logs])
    return [dict(np.load(file)) for file in files]


@pytest.mark.slow
def test_two_processes_train_and_evaluate_like_one(tmp_path):
    first, second, one = train_in_processes(tmp_path)

    assert first.keys() == second.keys() == one.keys()
    # Neither process is given what the other predicts.
    assert (2 * first["held"] == one["held"]).all()
    evaluated = [name for name in one if name.startswith("evaluation/")]
    assert len(one["evaluation/samples/record"]) == 5
    for name in evaluated:
        np.testing.assert_array_equal(first[name], one[name], err_msg=name)
        assert first[name].dtype == one[name].dtype
    for name, value in first.items():
        # Copies of the state must not drift apart by a single bit.
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    for run in RUNS:
        for number in range(STEPS):
            name = f"{run}/loss/{number}"
            np.testing.assert_allclose(first[name], one[name], rtol=1e-4, err_msg=name)
        # Sums taken in another order move values by 1e-7; where that carries one
        # across the kink of a ReLU, the layers below move by a few hundredths.
        change = one[f"{run}/update"]
        error = np.linalg.norm(first[f"{run}/update"] - change)
        assert error <= 0.05 * np.linalg.norm(change), run
        assert np.linalg.norm(change) > 0, run


def main() -> None:
    """Joins the other process if there is one, trains and writes what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--output", required=True)
    given = parser.parse_args()
    if given.count > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{given.port}", given.count, process_id=given.index
        )
    mesh, part = sharding.make_mesh(), {"index": given.index, "count": given.count}
    np.savez(given.output, **train(mesh, **part), **evaluate(mesh, **part))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
