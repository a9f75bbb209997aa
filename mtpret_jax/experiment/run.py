"""One run: its start, its training, its test, and what it leaves on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from mtpret_jax import models, stages, types
from mtpret_jax.config import rules
from mtpret_jax.data import pipeline
from mtpret_jax.experiment import (
    batch_norm,
    feed,
    frozen,
    handover,
    monitor,
    prediction_files,
    recorder,
    start,
    validation,
    workshop,
)
from mtpret_jax.metrics import segmentation
from mtpret_jax.stages import supervised
from mtpret_jax.training import checkpoint, evaluation, loop, preemption, sharding

_LOG = logging.getLogger(__name__)


class Run:
    """A run of a work folder.

    Attributes:
      shop: What all runs share.
      name: Name of the run.
      row: Its row of `config.runs`.
      folder: Folder of all that it writes.
      stage: Its stage, which does the steps.
      mesh: Devices that share its batches.
      feed: What it reads.
    """

    def __init__(self, shop: workshop.Workshop, name: str) -> None:
        """Builds the stage; reads and writes nothing."""
        self.name, self.row = name, shop.config.runs[name]
        self.shop = shop = shop.of(self.row)
        self.folder = shop.run_folder(name)
        self.mesh, shard = _share(shop, name)
        self.feed = feed.Feed(shop, self.row, shard)
        self.stage = stages.build(shop.config, self.row, shop.tasks)
        self._shapes = stages.shape_batches(shop.config, self.row)

    @functools.cached_property
    def checkpoints(self) -> checkpoint.RunCheckpoints:
        """The states of the run on disk, opened when they are first asked for."""
        return checkpoint.RunCheckpoints(self.folder / "checkpoints")

    @functools.cached_property
    def _learner(self) -> supervised.Learner:
        return supervised.build_learner(self.shop.config, self.row, self.shop.tasks)

    @functools.cached_property
    def _predict(self) -> Callable:
        return sharding.compile_predict(self._learner.predict, self.mesh)

    @functools.cached_property
    def _estimator(self) -> batch_norm.Estimator:
        batches = self.row.options.batch_norm_batches
        still = functools.partial(self.feed.stream, still=True)
        return batch_norm.Estimator(self._learner, self.mesh, still, batches)

    def do(self) -> None:
        """Takes the run from its start, or its newest checkpoint, to `run.json`.

        Raises:
          preemption.Preempted: If asked to stop; the next call resumes the run.
        """
        with contextlib.closing(self.checkpoints):
            state, done = self.start()
            state, facts = self.fit(state, done)
            if self.row.options.is_tested:
                state, found = self.test()
                facts |= found
            if self.row.options.validates_all:
                state = self._estimator.settle(state, self.row.tasks)
            self.end(state, facts)
        give_back(self.shop, self.name)

    def start(self) -> tuple[types.TrainState, int]:
        """The state to resume from, and the steps that it has done."""
        done = self.checkpoints.latest()
        if done is None:
            state, done = self._begin(), 0
        else:
            _LOG.info("Run '%s' resumes from step %d.", self.name, done)
            state = self.checkpoints.restore(done, self._template())
        if self.row.options.frozen and frozen.read(self._predictions) is None:
            # The start is measured, however far the run is.
            self._measure_features(self._begin() if done else state)
        return state, done

    def _begin(self) -> types.TrainState:
        """The state before the first step."""
        init = sharding.compile_init(
            lambda key: self.stage.init(key, self._shapes), self.mesh
        )
        state = init(jax.random.key(self.shop.config.seed_of(self.row)))
        if self.row.init_from:
            state = start.carry(
                self.shop.config,
                self.name,
                state,
                runs=self.shop.workdir / "runs",
                weights=self.shop.weights,
            )
        if self.row.options.is_tested:
            # Statistics of the new images, the same for every arm.
            state = self._estimator.settle(state, self.row.tasks)
        return state

    def _template(self) -> types.TrainState:
        """Shapes and shardings of a state."""
        everywhere = sharding.replicated(self.mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=everywhere
            ),
            stages.state_shapes(self.stage, self._shapes),
        )

    def _measure_features(self, state: types.TrainState) -> None:
        """Measures the features of a state's backbone; see `frozen`."""
        (name,) = self.row.tasks
        task = self.shop.tasks[name]
        exclusive = self.shop.config.tasks[name].exclusive
        metric = frozen.Features(task.metric().class_names, exclusive)
        backbone = models.build_backbone(self.shop.config.backbone)
        predict = frozen.extractor(backbone, output_stride=task.output_stride)
        compiled = sharding.compile_predict(predict, self.mesh)
        records = {
            split: self.evaluate(name, split, state, predict=compiled, metric=metric)[0]
            for split in ("train", "validation", "test")
        }
        batches = self.row.options.batch_norm_batches
        frozen.write(self._predictions, metric, records, batches)

    def fit(
        self, state: types.TrainState, done: int
    ) -> tuple[types.TrainState, dict[str, Any]]:
        """Does the steps that are left.

        Args:
          state: State after `done` steps; donated.
          done: Steps done already.

        Returns:
          The state after the last step, and what `run.json` says of the time it took.
        """
        segments = self.stage.segments()
        begin, step = sharding.compile_stage(self.stage, self.mesh)
        parts = self.shop.config.batches_of(self.row).values()
        with contextlib.ExitStack() as stack:
            streams = self.feed.streams(loop.batches_before(segments, done))
            for stream in streams.values():
                stack.callback(stream.close)
            hook = recorder.Recorder(
                self.folder,
                self.row,
                self.stage,
                self.mesh,
                self.checkpoints,
                start=done,
                images_per_step=float(np.mean([part.batch_size for part in parts])),
                validate=validation.Validator(
                    self.feed,
                    self.folder,
                    segments,
                    self.evaluate,
                    self._estimator.settle,
                ),
                look=monitor.Monitor(
                    self.feed,
                    self.mesh,
                    sum(segment.steps for segment in segments),
                    functools.partial(handover.keep, self.feed, self.name, self.stage),
                ),
                profile=self.shop.profile,
                track=self.shop.track,
            )
            stack.callback(hook.close)
            hook.begin(state)
            timed, step = hook.watch(streams, step)
            began = time.monotonic()
            with preemption.held(), jax.transfer_guard("disallow"):
                state = loop.fit(
                    segments,
                    state,
                    timed,
                    start=done,
                    begin=begin,
                    step=step,
                    put=lambda batch: sharding.put(batch, self.mesh),
                    hook=hook,
                )
            facts = {"seconds": time.monotonic() - began, "resumed_at": done}
            return state, facts | hook.facts()

    def evaluate(
        self,
        task: str,
        split: str,
        state: types.TrainState,
        *,
        samples: int = 0,
        worst: evaluation.Worst | None = None,
        whole: bool = False,
        predict: Callable | None = None,
        metric: types.Metric | None = None,
    ) -> tuple[evaluation.Records, evaluation.Records]:
        """Runs the state's model over a split; see `evaluation.evaluate`.

        `predict` (compiled) and `metric` are the task's own unless given.
        """
        compiled = predict or self._predict
        with self.feed.split(task, split, whole=whole) as batches:
            return evaluation.evaluate(
                lambda batch: compiled(state.params, state.model_state, batch),
                batches,
                metric or self.shop.tasks[task].metric(),
                put=lambda batch: sharding.put(batch, self.mesh),
                samples=samples,
                worst=worst,
            )

    @property
    def _predictions(self) -> epath.Path:
        return prediction_files.folder(self.folder, self.row)

    def test(self) -> tuple[types.TrainState, dict[str, Any]]:
        """Predicts validation, by which thresholds are chosen, and test, once.

        Returns:
          The state that validation likes best, or the last one; and what `run.json`
          says of the choice and of what was found.
        """
        (task,) = self.row.tasks
        metric = self.shop.tasks[task].metric()
        state, facts = self.choose()
        facts |= {"metric": metric.primary, "higher_is_better": metric.sign > 0}
        if facts["best_value"] is not None:  # States are ranked by it with its sign.
            facts["best_value"] *= metric.sign
        samples = {"validation": 0, "test": self.shop.config.report.samples}
        for split, count in samples.items():
            worst = evaluation.Worst(metric, count) if count else None
            records, kept = self.evaluate(
                task, split, state, samples=count, worst=worst
            )
            folder, source = self._predictions, self.feed.source(task, split)
            prediction_files.write_predictions(folder, source, records)
            if kept:
                prediction_files.write_arrays(folder / f"{split}.samples.npz", kept)
            if worst is not None:
                path = folder / f"{split}.worst.npz"
                prediction_files.write_arrays(path, worst.arrays)
        if isinstance(metric, segmentation.SegmentationMetric):
            facts["best_dice_of_grid"] = self._best_dice_of_grid(task, metric)
        if self.row.options.frozen:
            facts["frozen"] = frozen.read(self._predictions)
        return state, facts

    def choose(self) -> tuple[types.TrainState, dict[str, Any]]:
        """The state that validation likes best, or the last one, and which it is."""
        selection = self.row.options.selection
        if selection == "auto":
            _, value = self.checkpoints.best()
            selection = "last" if value is None else "validation"
        is_best = selection == "validation"
        step, value = self.checkpoints.best() if is_best else self.checkpoints.newest()
        state = self.checkpoints.restore(step, self._template())
        return state, {"selection": selection, "best_step": step, "best_value": value}

    def _best_dice_of_grid(
        self, task: str, metric: segmentation.SegmentationMetric
    ) -> float:
        """About the best Dice that the output grid can reach on the test split."""
        for name, other in self.shop.config.runs.items():  # The same for every arm.
            record = self.shop.record(name) if other.tasks == (task,) else None
            if record is not None and record.best_dice_of_grid is not None:
                return record.best_dice_of_grid
        everything = dataclasses.replace(self.feed, shard=pipeline.Shard())
        truth, known = [], []
        with everything.split(task, "test") as batches:
            for batch in batches:
                valid = batch.arrays["example_valid"]
                truth.append(batch.arrays["segmentation"][valid])
                known.append(batch.arrays["pixel_known"][valid])
        drawn: Any = self.shop.tasks[task]  # Of the kind that has a grid.
        backbone = models.build_backbone(self.shop.config.backbone)
        return segmentation.best_dice(
            np.concatenate(truth),
            np.concatenate(known),
            output_stride=drawn.grid_stride(backbone.output_strides),
            num_classes=len(metric.class_names),
        )

    def end(self, state: types.TrainState, facts: dict[str, Any]) -> None:
        """Writes the backbone with its description, then marks the run as ended."""
        handover.write(self.feed, self.name, self.stage, state, facts)


def give_back(shop: workshop.Workshop, name: str) -> None:
    """Removes the checkpoints of a run that has ended: its backbone is what stays."""
    folder = shop.run_folder(name) / "checkpoints"
    if jax.process_index() == 0 and folder.exists():
        folder.rmtree()


def _share(shop: workshop.Workshop, name: str) -> tuple[Mesh, pipeline.Shard]:
    """The devices that a run can use, said where not all; and this process's part.

    One state serves all tasks of stage 2, and so does one mesh. If it is of one
    process, every other does the same on its own devices: whole batches, no exchange.
    """
    parts = rules.shares(shop.config, name)
    mesh, every = sharding.fit_mesh(parts.values()), jax.device_count()
    if mesh.size == every:
        return mesh, shop.shard
    odd = {path: size for path, size in parts.items() if size % every}
    told = ", ".join(f"{path}: {size}" for path, size in odd.items())
    _LOG.warning(
        "Run '%s' uses %d of %d devices, which share its batches evenly; "
        "multiples of %d would use all (%s).",
        *(name, mesh.size, every, every, told),
    )
    return mesh, pipeline.Shard()
