"""One run: from its start to its backbone, predictions and `run.json`."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import pipeline
from mtpret_jax.experiment import (
    assembly,
    batch_norm,
    frozen,
    origin,
    pool,
    prediction_files,
    recording,
    workshop,
)
from mtpret_jax.inference import description, golden
from mtpret_jax.metrics import classification, operating_points, segmentation
from mtpret_jax.training import (
    checkpoint,
    evaluation,
    files,
    loop,
    preemption,
    sharding,
)
from tfds_builders import prepared, whole

_LOG = logging.getLogger(__name__)


def run_one(shop: workshop.Workshop, name: str) -> None:
    """Takes one run from its start, or its newest checkpoint, to `run.json`.

    Args:
      shop: What all runs share.
      name: Of the run.

    Raises:
      preemption.Preempted: If asked to stop; the next call goes on.
    """
    shop = workshop.fit(shop, name)
    config, row = shop.config, shop.config.runs[name]
    stage = assembly.build_stage(config, row, shop.tasks)
    batches = assembly.shape_batches(config, row)
    checkpoints = checkpoint.RunCheckpoints(shop.run_folder(name) / "checkpoints")
    recorder = streams = None
    try:
        state, start = _start(shop, name, stage, batches, checkpoints)
        if row.stage == "finetune" and row.finetune.frozen:
            _measure_start(shop, name, stage, batches, None if start else state)
        segments = stage.segments()
        consumed = loop.batches_before(segments, start)
        streams = workshop.open_streams(shop, row, consumed)
        recorder = recording.Recorder(shop, name, segments, checkpoints, start)

        begin, step = sharding.compile_stage(stage, shop.mesh)
        timed, step = recorder.watch(streams, step)
        began = time.monotonic()
        with preemption.held(), jax.transfer_guard("disallow"):
            state = loop.fit(
                segments,
                state,
                timed,
                start=start,
                begin=begin,
                step=step,
                put=lambda batch: sharding.put(batch, shop.mesh),
                hook=recorder,
            )
        facts = {"seconds": time.monotonic() - began, "resumed_at": start}
        facts |= recorder.speed()
        if row.stage == "finetune":
            state, choice = _chosen(shop, row, stage, batches, checkpoints)
            facts |= choice | _test(shop, name, recorder, state)
            if row.finetune.frozen:
                facts["frozen"] = frozen.read(_predictions(shop, name))
        if row.stage == "continual":
            state = recorder.estimator.of_all(state)
        _end(shop, name, stage, state, facts)
    finally:
        if recorder is not None:
            recorder.close()
        for stream in (streams or {}).values():
            stream.close()
        checkpoints.close()
    give_back(shop, name)


def give_back(shop: workshop.Workshop, name: str) -> None:
    """Removes the checkpoints of a run that has ended: its backbone is what stays."""
    folder = shop.run_folder(name) / "checkpoints"
    if jax.process_index() == 0 and folder.exists():
        folder.rmtree()


def _template(
    shop: workshop.Workshop, stage: types.Stage, batches: Mapping[str, types.Batch]
) -> types.TrainState:
    """Shapes and shardings of a state."""
    shapes = jax.eval_shape(lambda key: stage.init(key, batches), jax.random.key(0))
    everywhere = sharding.replicated(shop.mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        shapes,
    )


def _start(
    shop: workshop.Workshop,
    name: str,
    stage: types.Stage,
    batches: Mapping[str, types.Batch],
    checkpoints: checkpoint.RunCheckpoints,
) -> tuple[types.TrainState, int]:
    """The state to go on from, and the steps it has done."""
    # 1. This run's own newest checkpoint.
    latest = checkpoints.latest()
    if latest is not None:
        _LOG.info("Run '%s' goes on from step %d.", name, latest)
        return checkpoints.restore(latest, _template(shop, stage, batches)), latest
    return _begin(shop, name, stage, batches), 0


def _begin(
    shop: workshop.Workshop,
    name: str,
    stage: types.Stage,
    batches: Mapping[str, types.Batch],
) -> types.TrainState:
    """The state before the first step."""
    config, row = shop.config, shop.config.runs[name]
    # 2. Fresh, and 3. another run's weights in place of the fresh ones.
    init = sharding.compile_init(lambda key: stage.init(key, batches), shop.mesh)
    state = init(jax.random.key(config.seed_of(row)))
    if row.init_from:
        state = origin.carry(
            config, name, state, runs=shop.workdir / "runs", weights=shop.weights
        )
    # 4. Statistics of the new images, the same for every arm.
    if row.stage == "finetune":
        looked_at = row.finetune.batch_norm_batches
        state = batch_norm.Estimator(shop, row, looked_at).of_all(state)
    return state


def _measure_start(
    shop: workshop.Workshop,
    name: str,
    stage: types.Stage,
    batches: Mapping[str, types.Batch],
    state: types.TrainState | None,
) -> None:
    """Measures the run's start as it is; see `frozen`. Once, however often it stops.

    `state` is the start; None where the run is past it, which then is made anew.
    """
    row = shop.config.runs[name]
    folder = _predictions(shop, name)
    if frozen.read(folder) is not None:
        return
    if state is None:
        state = _begin(shop, name, stage, batches)
    found, facts = frozen.evaluate(shop, row, state)
    frozen.write(folder, found, facts)


def _predictions(shop: workshop.Workshop, name: str) -> epath.Path:
    """Where what a fine-tuning predicts is kept."""
    task = shop.config.runs[name].finetune.task
    return shop.run_folder(name) / "predictions" / task


def _chosen(
    shop: workshop.Workshop,
    row: schema.RunConfig,
    stage: types.Stage,
    batches: Mapping[str, types.Batch],
    checkpoints: checkpoint.RunCheckpoints,
) -> tuple[types.TrainState, dict[str, Any]]:
    """The state that validation likes best, or the last one."""
    selection = row.finetune.selection
    if selection == "auto":
        _, value = checkpoints.best()
        selection = "last" if value is None else "validation"
    best = checkpoints.best if selection == "validation" else checkpoints.newest
    step, value = best()
    state = checkpoints.restore(step, _template(shop, stage, batches))
    return state, {"selection": selection, "best_step": step, "best_value": value}


def _test(
    shop: workshop.Workshop,
    name: str,
    recorder: recording.Recorder,
    state: types.TrainState,
) -> dict[str, Any]:
    """Predicts validation, by which thresholds are chosen, and test, once."""
    task = shop.config.runs[name].finetune.task
    folder = _predictions(shop, name)
    samples = {"validation": 0, "test": shop.config.report.samples}
    for split, count in samples.items():
        worst = evaluation.Worst(shop.tasks[task].metric(), count) if count else None
        records, kept = recorder.evaluate(
            task, split, state, samples=count, worst=worst
        )
        source = shop.open_set(shop.config.tasks[task].dataset, split)
        prediction_files.write_predictions(folder, source, records)
        if kept:
            prediction_files.write_arrays(folder / f"{split}.samples.npz", kept)
        if worst is not None:
            prediction_files.write_arrays(folder / f"{split}.worst.npz", worst.arrays)
    if shop.config.tasks[task].kind != "segmentation":
        return {}
    return {"best_dice_of_grid": _best_dice_of_grid(shop, shop.config.runs[name])}


def _best_dice_of_grid(shop: workshop.Workshop, row: schema.RunConfig) -> float:
    """About the best Dice that the output grid can reach on the test split."""
    task = row.finetune.task
    for name, other in shop.config.runs.items():  # The same for every arm.
        ended = shop.run_folder(name) / "run.json"
        if other.stage == "finetune" and other.finetune.task == task and ended.exists():
            return whole.read_json(ended)["best_dice_of_grid"]
    truth, known = [], []
    everything = dataclasses.replace(shop, shard=pipeline.Shard())
    with workshop.open_split(everything, row, task, "test") as batches:
        for batch in batches:
            valid = batch.arrays["example_valid"]
            truth.append(batch.arrays["segmentation"][valid])
            known.append(batch.arrays["pixel_known"][valid])
    drawn: Any = shop.tasks[task]  # Of the kind that has a grid.
    return segmentation.best_dice(
        np.concatenate(truth),
        np.concatenate(known),
        output_stride=drawn.grid_stride,
        num_classes=len(drawn.class_names),
    )


def _end(
    shop: workshop.Workshop,
    name: str,
    stage: types.Stage,
    state: types.TrainState,
    facts: Mapping[str, Any],
) -> None:
    """Writes the backbone with its description, then marks the run as ended."""
    config, row = shop.config, shop.config.runs[name]
    folder = shop.run_folder(name)
    names = row.tasks
    steps = int(jax.device_get(state.step))
    pools = pool.lineage(config, name, shop.workdir / "runs", shop.findings)
    sets = [config.tasks[task].dataset for task in names] or row.contrastive.datasets
    made = {each: prepared.read_preparation(shop.folders[each]) for each in sets}
    described = description.make(
        config,
        name,
        made,
        class_names={task: shop.tasks[task].metric().class_names for task in names},
        decisions=_decisions(shop, name),
        parent=origin.parent(row, shop.weights),
        pools=pools,
        steps=steps,
    )
    tree = stage.hand_over(state)
    checkpoint.save_backbone(folder / "backbone", tree, described.to_json())
    if jax.process_index() == 0:
        golden.write_all(folder / "backbone", tree, described)
    body = jax.tree.leaves(state.params["backbone"])
    result = {
        "name": name,
        "stage": row.stage,
        "arm": row.arm,
        "task": names[0] if row.stage == "finetune" else None,
        "tasks": list(names),
        "seed": config.seed_of(row),
        "labels": {
            task: {split: shop.labels(row, task, split) for split in _splits(row)}
            for task in names
        },
        "learning_rate": {
            task: row.optimizer.learning_rate * scale
            for task, scale in assembly.rate_scales(config, row).items()
        },
        "parent": origin.parent_name(row, shop.weights),
        "pools": pools,
        "steps": sum(segment.steps for segment in stage.segments()),
        "parameters": sum(leaf.size for leaf in body),
        "finished": True,
        **facts,
    }
    if jax.process_index() == 0:
        whole.write_json(folder / "run.json", result)
    files.wait_for_all(f"end of {name}")


def _decisions(shop: workshop.Workshop, name: str) -> dict[str, Any]:
    """What validation says of a classifier's probabilities, if it has enough to say."""
    row = shop.config.runs[name]
    task = row.finetune.task
    if row.stage != "finetune":
        return {}
    metric = shop.tasks[task].metric()
    if not isinstance(metric, classification.ClassificationMetric):
        return {}
    records = whole.read_arrays(_predictions(shop, name) / "validation.npz")
    found = operating_points.fit(metric, records)
    if why := operating_points.shortfall(found):
        _LOG.warning("%s: %s", name, why)
    return {task: found}


def _splits(row: schema.RunConfig) -> tuple[str, ...]:
    """Those whose labels a run uses."""
    tested = ("test",) if row.stage == "finetune" else ()
    return ("train", "validation", *tested)
