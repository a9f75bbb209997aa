"""What a run that has ended leaves: its backbone, described, and `run.json`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from mtpret_jax import types
from mtpret_jax.experiment import feed, pool, prediction_files, start, workshop
from mtpret_jax.inference import description, golden
from mtpret_jax.metrics import classification, operating_points
from mtpret_jax.stages import optimizer
from mtpret_jax.study import run_record
from mtpret_jax.training import checkpoint, files
from tfds_builders import prepared, whole

SNAPSHOTS = "snapshots"
_LOG = logging.getLogger(__name__)


def write(
    reading: feed.Feed,
    name: str,
    stage: types.Stage,
    state: types.TrainState,
    facts: Mapping[str, Any],
) -> None:
    """Writes the backbone with its description, then marks the run as ended.

    Args:
      reading: What the run read.
      name: Name of the run.
      stage: Its stage.
      state: State to hand over.
      facts: What the record says of training and test.
    """
    folder = reading.shop.run_folder(name)
    tree = stage.hand_over(state)
    described = _describe(reading, name, state, _decisions(reading.shop, name))
    checkpoint.save_backbone(folder / "backbone", tree, described.to_json())
    kept = files.agree(facts.get("monitor", {}).get("snapshot_step", 0))
    _complete(folder / SNAPSHOTS, kept)
    if jax.process_index() == 0:
        golden.write_all(folder / "backbone", tree, described)
        parameters = sum(
            leaf.size for leaf in jax.tree.leaves(tree["backbone"]["params"])
        )
        record = _record(reading, name, stage, described.pools, parameters, facts)
        whole.write_json(folder / workshop.RECORD, record.to_json())
    files.wait_for_all(f"end of {name}")


def keep(
    reading: feed.Feed, name: str, stage: types.Stage, state: types.TrainState
) -> None:
    """Writes a state in the midst of a run as its snapshot, in place of the last one.

    Backbone and heads, without what the stage goes on with, and without what `write`
    adds, whose arguments are the same.
    """
    tree = {part: stage.hand_over(state)[part] for part in ("backbone", "heads")}
    described = _describe(reading, name, state, {})
    folder = reading.shop.run_folder(name) / SNAPSHOTS
    made = folder / f"step_{described.steps}"
    checkpoint.save_backbone(made, tree, described.to_json())
    _leave(folder, made.name)
    files.wait_for_all(f"snapshot of {name}")


def _leave(folder: epath.Path, name: str) -> None:
    """Takes away all snapshots but one."""
    for path in list(folder.iterdir()) if jax.process_index() == 0 else ():
        if path.name != name:
            path.rmtree()


def _describe(
    reading: feed.Feed,
    name: str,
    state: types.TrainState,
    decisions: Mapping[str, Any],
) -> description.Description:
    """The description of a state of the run."""
    shop, row = reading.shop, reading.row
    config, names = shop.config, row.tasks
    return description.make(
        config,
        name,
        {
            each: prepared.read_preparation(shop.folders[each])
            for each in config.datasets_of(row)
        },
        class_names={task: shop.tasks[task].metric().class_names for task in names},
        scales={task: shop.scales[task] for task in names if task in shop.scales},
        decisions=decisions,
        parent=start.parent(row, shop.weights),
        pools=pool.lineage(config, name, shop.workdir / "runs", shop.findings),
        steps=int(jax.device_get(state.step)),
    )


def _complete(folder: epath.Path, step: int) -> None:
    """Adds to the snapshot of a run that has ended what loading it is checked by."""
    made = folder / f"step_{step}"
    if (made / checkpoint.METADATA).exists():
        tree, told = checkpoint.load_backbone(made, {})
        _leave(folder, made.name)  # A kill may have left others.
        if jax.process_index() == 0:
            golden.write_all(made, tree, description.from_json(told, str(made)))


def _record(
    reading: feed.Feed,
    name: str,
    stage: types.Stage,
    pools: Sequence[Mapping[str, str | None]],
    parameters: int,
    facts: Mapping[str, Any],
) -> run_record.RunRecord:
    """What `run.json` says; arguments as in `write` and `RunRecord`."""
    shop, row = reading.shop, reading.row
    splits = ("train", "validation", *(("test",) if row.options.is_tested else ()))
    scales = optimizer.rate_scales(shop.config, row)
    return run_record.RunRecord(
        name=name,
        stage=row.stage,
        arm=row.arm,
        task=row.tasks[0] if row.options.is_tested else None,
        tasks=row.tasks,
        seed=shop.config.seed_of(row),
        labels={
            task: {split: reading.labels(task, split) for split in splits}
            for task in row.tasks
        },
        learning_rate={
            task: row.optimizer.learning_rate * scale for task, scale in scales.items()
        },
        parent=start.parent_name(row, shop.weights),
        pools=tuple(pools),
        steps=sum(segment.steps for segment in stage.segments()),
        parameters=parameters,
        **facts,
    )


def _decisions(shop: workshop.Workshop, name: str) -> dict[str, Any]:
    """What validation says of a classifier's probabilities, if it has enough to say."""
    row = shop.config.runs[name]
    if not row.options.is_tested:
        return {}
    (task,) = row.tasks
    metric = shop.tasks[task].metric()
    if not isinstance(metric, classification.ClassificationMetric):
        return {}
    folder = prediction_files.folder(shop.run_folder(name), row)
    records = whole.read_arrays(folder / "validation.npz")
    found = operating_points.fit(metric, records)
    if why := operating_points.shortfall(found):
        _LOG.warning("%s: %s", name, why)
    return {task: found}
