"""Can the detector learn its training images: AP50 on the images that it trains on.

    python -m benchmarks.overfit_boxes --config=configs/detection.py:FOLDER \
        --task=chest_det --data_dir=runs/data

Trains the task's run on the first training images that have a box, without
augmentation, in the compiled step of every training, until AP50 on these same images
is above the target or the processor time is spent. A detector that fails here has a
fault, or anchors that do not fit; what it finds on other images is another question.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks import recording
from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import pipeline, sources
from mtpret_jax.experiment import assembly, preparation, workshop
from mtpret_jax.training import evaluation, sharding

_KIND = "detection"
_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_TASK = flags.DEFINE_string("task", None, "A detection task that a run fine-tunes.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    os.path.join("~", "tensorflow_datasets"),
    "Folder of prepared sets; a missing one is prepared there first.",
)
_IMAGES = flags.DEFINE_integer("images", 32, "Training images; a multiple of a batch.")
_TARGET = flags.DEFINE_float("target", 0.9, "AP50 that ends the training.")
_MINUTES = flags.DEFINE_float("minutes", 60.0, "Processor time at most, all threads.")
_EVERY = flags.DEFINE_integer(
    "every", 50, "Steps between two evaluations, rounded up to whole passes."
)
_LINE = "{:4d}  {:5.3f}  {:5.3f}  {:7.3f}  {:11.0f}  {:6.0f}"


def _of_task(config: schema.ExperimentConfig, task: str) -> schema.ExperimentConfig:
    """The config with this task alone, and the first run that fine-tunes it."""
    runs = {
        name: row
        for name, row in config.runs.items()
        if row.stage == "finetune" and row.finetune.task == task
    }
    if not runs:
        known = sorted(name for name, t in config.tasks.items() if t.kind == _KIND)
        raise ValueError(f"--task: no run fine-tunes '{task}'; tasks: {known}.")
    row = config.tasks[task]
    if row.kind != _KIND or _IMAGES.value % row.batch_size:
        raise ValueError(
            f"--task, --images: expected a detection task and a multiple of its batch "
            f"of {row.batch_size}, got {row.kind} and {_IMAGES.value} images."
        )
    first = next(iter(runs))
    return dataclasses.replace(
        config,
        datasets={row.dataset: config.datasets[row.dataset]},
        tasks={task: row},
        runs={first: runs[first]},
    )


def _first_images(stream: Iterator[types.Batch], count: int) -> dict[str, np.ndarray]:
    """The arrays of the first `count` images that have a box."""
    parts, found = [], 0
    for batch in stream:
        chosen = np.asarray(batch.arrays["box_valid"]).any(axis=1)
        parts.append({name: a[chosen] for name, a in batch.arrays.items()})
        found += int(chosen.sum())
        if found >= count:
            return {name: a[:count] for name, a in evaluation.join(parts).items()}
    raise ValueError(f"--images: asked for {count}, only {found} have a box.")


def _train(
    config: schema.ExperimentConfig,
    tasks: dict[str, types.Task],
    arrays: dict[str, np.ndarray],
) -> list[dict[str, float]]:
    """Trains and evaluates on the same images; one row for each evaluation."""
    ((name, task),), (run,) = config.tasks.items(), config.runs.values()
    mesh = sharding.make_mesh()
    stage = assembly.build_stage(config, run, tasks)
    learner = assembly.build_learner(config, tasks, run)
    shapes = assembly.shape_batches(config, run)
    init = sharding.compile_init(lambda key: stage.init(key, shapes), mesh)
    state = init(jax.random.key(config.seed))
    _, step = sharding.compile_stage(stage, mesh)
    predict = sharding.compile_predict(learner.predict, mesh)
    metric = tasks[name].metric()

    def batches(order: np.ndarray) -> list[types.Batch]:
        return [
            types.Batch({key: a[rows] for key, a in arrays.items()}, name)
            for rows in order.reshape(-1, task.batch_size)
        ]

    def put(batch: types.Batch) -> types.Batch:
        return sharding.put(batch, mesh)

    images = len(arrays["record"])
    rng = np.random.default_rng(config.seed)
    start, rows, done, ap50 = time.perf_counter(), [], 0, 0.0
    while ap50 <= _TARGET.value and time.process_time() < 60 * _MINUTES.value:
        losses = []
        while len(losses) < _EVERY.value:
            for batch in batches(rng.permutation(images)):
                state, scalars = step(state, put(batch))
                losses.append(float(scalars["loss"]))
        done += len(losses)
        params, model_state = state.params, state.model_state
        records, _ = evaluation.evaluate(
            lambda batch, p=params, s=model_state: predict(p, s, batch),
            batches(np.arange(images)),
            metric,
            put=put,
        )
        values = evaluation.values(metric, records)
        ap50 = values["ap50"]
        rows.append(
            {
                "step": done,
                "loss": float(np.mean(losses)),
                "ap50": ap50,
                "coco_ap": values["coco_ap"],
                "processor_seconds": time.process_time(),
                "wall_seconds": time.perf_counter() - start,
            }
        )
        recording.show(_LINE.format(*rows[-1].values()))
    return rows


def main(arguments: list[str]) -> None:
    """Trains, evaluating as it goes, and prints AP50 by step."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    name = str(_TASK.value)
    config = _of_task(schema.parse(_CONFIG.value), name)
    task = config.tasks[name]
    data_dir = pathlib.Path(_DATA_DIR.value).expanduser()
    folder = preparation.prepare(config.datasets, data_dir)[task.dataset]
    names = dataclasses.asdict(sources.read_metadata(folder))
    tasks = workshop.build_tasks(config, {task.dataset: names})
    splits = config.datasets[task.dataset].splits
    with pipeline.eval_batches(
        name, task, config.input, sources.open_prepared(folder, "train", splits)
    ) as stream:
        arrays = _first_images(stream, _IMAGES.value)
    recording.show("step   loss   AP50  COCO AP  processor s  wall s")
    rows = _train(config, tasks, arrays)
    device = jax.devices()[0]
    recording.write(
        f"overfit_boxes_{name}",
        {"image_size": task.image_size, "target": _TARGET.value, "rows": rows},
        n=_IMAGES.value,
        device="cpu" if device.platform == "cpu" else device.device_kind,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "task"])
    app.run(main)
