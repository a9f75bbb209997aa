"""What all runs of a config share, checked, and the streams of each."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from mtpret_jax import config as schema
from mtpret_jax import tasks, types
from mtpret_jax.audit import exclusions, overlaps
from mtpret_jax.config import rules
from mtpret_jax.data import kinds, pipeline, sources, subsets
from mtpret_jax.experiment import assembly, origin, pool, precision
from mtpret_jax.stages import contrastive
from mtpret_jax.training import sharding

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Workshop:
    """What all runs of a config share.

    Attributes:
      config: The whole config, its `compute_dtype` settled.
      workdir: Folder that everything is written to.
      folders: Prepared folder of each set.
      mesh: Of all devices; within a run, of those that it uses.
      tasks: Every task of the config.
      shard: This process's part of every batch.
      weights: Files of weights that runs start from; see `origin.check`.
      findings: What the audit found, if a run asks for a clean pool.
      profile: Which steps of a run are traced; see `tracing.Trace`.
    """

    config: schema.ExperimentConfig
    workdir: epath.Path
    folders: Mapping[str, epath.PathLike]
    mesh: Mesh
    tasks: Mapping[str, types.Task]
    shard: pipeline.Shard
    weights: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    findings: overlaps.Findings | None = None
    profile: range = range(0)

    @property
    def input(self) -> schema.InputConfig:
        """How pictures are read, settled for these devices."""
        is_accelerator = self.mesh.devices.flat[0].platform != "cpu"
        return pipeline.choose_workers(self.config.input, is_accelerator=is_accelerator)

    def run_folder(self, name: str) -> epath.Path:
        """Where a run keeps its files."""
        return self.workdir / "runs" / name

    def open_set(self, name: str, split: str) -> sources.Source:
        """A split of a set, by the splits that the config asks for."""
        splits = self.config.datasets[name].splits
        return sources.open_prepared(self.folders[name], split, splits)

    def subset(
        self, row: schema.RunConfig, task: str, split: str, *, whole: bool = False
    ) -> subsets.Subset:
        """The part of a split whose labels a run may use; all of the test split.

        Of validation, stage 2 uses no more than it trains with meanwhile, or the
        `whole`, unless the config has a bound.
        """
        if split == "test":
            return subsets.ALL
        used = subsets.Subset(self.config.seed_of(row), row.label_fraction)
        if split == "train" and self.config.exclude_copies and self.findings:
            leaves = exclusions.by_dataset(self.findings.excluded)
            excluded = leaves.get(self.config.tasks[task].dataset, frozenset())
            used = dataclasses.replace(used, excluded=excluded)
        if row.stage != "continual" or split != "validation":
            return used
        if whole and not row.continual.validation_batches:
            return used
        batches = rules.validation_batches(row)
        most = batches * self.config.tasks[task].batch_size
        return dataclasses.replace(used, most=most)

    def labels(self, row: schema.RunConfig, task: str, split: str) -> dict[str, Any]:
        """What a run uses of a task's split; see `subsets.describe`."""
        settings = self.config.tasks[task]
        source = self.open_set(settings.dataset, split)
        return subsets.describe(source, settings, self.subset(row, task, split))


def open_workshop(
    config: schema.ExperimentConfig,
    workdir: epath.PathLike,
    folders: Mapping[str, epath.PathLike],
    findings: overlaps.Findings | None = None,
) -> Workshop:
    """Reads the names in the prepared sets and builds every task.

    `findings` are those of `pool.find`, which stage 1 obeys.

    Raises:
      FileNotFoundError: If a set is not prepared.
      ValueError: If a task asks of its set what it has not, or several processes can't
        share stage 1.
    """
    mesh = sharding.make_mesh()
    config = precision.settle(config, precision.platform(mesh), epath.Path(workdir))
    for name, row in config.runs.items():
        if row.stage == "contrastive" and jax.process_count() > 1:
            mesh, of = sharding.make_mesh(), "examples"
            if row.contrastive.microbatches > 1:
                of = "groups"
            for path, size in rules.shares(config, name).items():
                sharding.check_batch_size(size, mesh, path, of=of)
    names: dict[str, dict[str, Any]] = {}
    for row in config.tasks.values():
        if row.dataset not in names:
            names[row.dataset] = dataclasses.asdict(
                sources.read_metadata(folders[row.dataset])
            )
    shop = Workshop(
        config=config,
        workdir=epath.Path(workdir),
        folders=folders,
        mesh=sharding.make_mesh(),
        tasks=build_tasks(config, names),
        shard=pipeline.Shard(jax.process_index(), jax.process_count()),
        weights=origin.check(config),
        findings=findings,
    )
    for name, row in config.runs.items():
        stage = assembly.build_stage(config, row, shop.tasks)
        if not origin.carries_head(row):
            continue
        if rules.is_weights(row.init_from):
            batches = assembly.shape_batches(config, row)
            shapes = jax.eval_shape(stage.init, jax.random.key(0), batches)
            origin.check_head(config, name, shapes)
        elif "/" in row.init_from:
            classes = shop.tasks[row.finetune.task].metric().class_names
            origin.check_classes(config, name, classes)
    _check_data(shop)
    return shop


def fit(shop: Workshop, name: str) -> Workshop:
    """The same with the mesh that a run can use, said where that is not all devices.

    One state serves all tasks of stage 2, and so does one mesh. If it is of one
    process, every other does the same on its own devices: whole batches, no exchange.
    """
    parts = rules.shares(shop.config, name)
    mesh, every = sharding.fit_mesh(parts.values()), jax.device_count()
    if mesh.size < every:
        odd = {path: size for path, size in parts.items() if size % every}
        told = ", ".join(f"{path}: {size}" for path, size in odd.items())
        _LOG.warning(
            "Run '%s' uses %d of %d devices, which share its batches evenly; "
            "multiples of %d would use all (%s).",
            *(name, mesh.size, every, every, told),
        )
    shard = shop.shard if mesh.size == every else pipeline.Shard()
    return dataclasses.replace(shop, mesh=mesh, shard=shard)


def _check_data(shop: Workshop) -> None:
    """Refuses, before anything runs, data that a later run could not use."""
    checked = set()  # Runs share tasks; opening a large set takes seconds.
    for row in shop.config.runs.values():
        if row.stage == "contrastive":
            _check_pool(shop, row)
        tests = ("test",) if row.stage == "finetune" else ()
        for name in row.tasks:
            for split in ("train", "validation", *tests):
                if (name, split) not in checked:
                    _check_split(shop, name, split)
                    checked.add((name, split))


def _check_pool(shop: Workshop, row: schema.RunConfig) -> None:
    """Refuses an empty set and more negatives than images; warns of a quarter."""
    excluded, size = pool.excluded(row, shop.findings), 0
    for name in row.contrastive.datasets:
        source = shop.open_set(name, "train")
        size += len(pipeline.pool_records(source, excluded.get(name, ())))
    if row.contrastive.queue_size > size:
        raise ValueError(
            f"contrastive.queue_size: {row.contrastive.queue_size} negatives from "
            f"a pool of {size} images would hold every image's own copies; use at "
            f"most {size}, better a quarter of it."
        )
    if row.contrastive.queue_size > size // 4:
        told = (
            "contrastive.queue_size: %d is more than a quarter of a pool of %d images."
        )
        _LOG.warning(told, row.contrastive.queue_size, size)


def _check_split(shop: Workshop, name: str, split: str) -> None:
    """Refuses a split that is empty, has one class to learn, or too many boxes."""
    task = shop.config.tasks[name]
    source = shop.open_set(task.dataset, split)
    rows = [source.index[record] for record in kinds.usable_records(source, task)]
    if refused := kinds.KINDS[task.kind].refuse(rows, task, split):
        raise ValueError(f"config.tasks.{name}{refused}")


def build_tasks(
    config: schema.ExperimentConfig, names: Mapping[str, Mapping[str, Any]]
) -> dict[str, types.Task]:
    """Every task of the config; `names` as `tasks.build_tasks` takes them."""
    dtype = jnp.dtype(config.backbone.dtype)
    return tasks.build_tasks(config.tasks, names, dtype=dtype)


def open_streams(
    shop: Workshop, row: schema.RunConfig, first_batch: Mapping[str, int]
) -> dict[str, pipeline.Stream]:
    """Training streams of a run, each from where its task stands."""
    config = shop.config
    if row.stage == "contrastive":
        stream = pipeline.contrastive_stream(
            contrastive.TASK,
            row.contrastive,
            shop.input,
            {name: shop.open_set(name, "train") for name in row.contrastive.datasets},
            seed=config.seed_of(row),
            excluded=pool.excluded(row, shop.findings),
            first_batch=first_batch[contrastive.TASK],
            shard=shop.shard,
        )
        return {contrastive.TASK: stream}
    return {
        name: pipeline.train_stream(
            name,
            config.tasks[name],
            shop.input,
            shop.open_set(config.tasks[name].dataset, "train"),
            seed=config.seed_of(row),
            subset=shop.subset(row, name, "train"),
            first_batch=first_batch[name],
            shard=shop.shard,
        )
        for name in row.tasks
    }


def open_split(
    shop: Workshop,
    row: schema.RunConfig,
    task: str,
    split: str,
    *,
    whole: bool = False,
) -> pipeline.Stream:
    """The evaluation batches of a run's task; `whole` as for `Workshop.subset`."""
    settings = shop.config.tasks[task]
    return pipeline.eval_batches(
        task,
        settings,
        shop.input,
        shop.open_set(settings.dataset, split),
        subset=shop.subset(row, task, split, whole=whole),
        shard=shop.shard,
    )
