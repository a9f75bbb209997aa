"""What all runs of a config share, checked before any of them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from mtpret_jax import config as schema
from mtpret_jax import stages, tasks, types
from mtpret_jax.audit import exclusions, overlaps
from mtpret_jax.config import rules
from mtpret_jax.data import kinds, pipeline, sources
from mtpret_jax.experiment import precision, start
from mtpret_jax.metrics import regression
from mtpret_jax.study import run_record
from mtpret_jax.training import sharding
from tfds_builders import whole

RECORD = "run.json"  # written last: where it is, the run has ended
CLEAN = "clean"  # the pool without images that validation or test holds again
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Workshop:
    """What all runs of a config share.

    Attributes:
      config: The whole config, its `compute_dtype` settled.
      workdir: Folder that everything is written to.
      folders: Prepared folder of each set.
      mesh: All devices.
      tasks: Every task of the config.
      shard: This process's part of every batch.
      weights: Files of weights that runs start from; see `start.check`.
      findings: What the audit found, if a run asks for a clean pool.
      profile: Which steps of a run are traced; see `tracing.Trace`.
      track: Trackers that are told of the steps; see `trackers.TRACKERS`.
      scales: What numbers are worth of each task that learns some.
    """

    config: schema.ExperimentConfig
    workdir: epath.Path
    folders: Mapping[str, epath.PathLike]
    mesh: Mesh
    tasks: Mapping[str, types.Task]
    shard: pipeline.Shard
    weights: Mapping[str, start.Weights] = dataclasses.field(default_factory=dict)
    findings: overlaps.Findings | None = None
    profile: range = range(0)
    track: Sequence[str] = ()
    scales: Mapping[str, regression.Scale] = dataclasses.field(default_factory=dict)
    _opened: dict[tuple[str, str], sources.Source] = dataclasses.field(
        default_factory=dict
    )

    def of(self, row: schema.RunConfig) -> Workshop:
        """What a run sees of it: backbone and input are those of its encoder."""
        return dataclasses.replace(self, config=self.config.of(row))

    @property
    def input(self) -> schema.InputConfig:
        """How images are read, settled for these devices."""
        is_accelerator = self.mesh.devices.flat[0].platform != "cpu"
        return pipeline.choose_workers(self.config.input, is_accelerator=is_accelerator)

    def run_folder(self, name: str) -> epath.Path:
        """Where a run keeps its files."""
        return self.workdir / "runs" / name

    def record(self, name: str) -> run_record.RunRecord | None:
        """What a run that has ended says of itself; None of one that has not."""
        path = self.run_folder(name) / RECORD
        if not path.exists():
            return None
        return run_record.RunRecord.from_json(whole.read_json(path), str(path))

    def open_set(self, name: str, split: str) -> sources.Source:
        """A split of a set, by the splits that the config asks for; opened once."""
        if (name, split) not in self._opened:
            splits = self.config.datasets[name].splits
            source = sources.open_prepared(self.folders[name], split, splits)
            self._opened[name, split] = source
        return self._opened[name, split]

    def excluded(self, row: schema.RunConfig) -> Mapping[str, frozenset[str]]:
        """Identifiers, by set, of the images that a run of stage 1 must not read."""
        if row.options.pool != CLEAN or self.findings is None:
            return {}
        return exclusions.by_dataset(self.findings.excluded)


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
        if row.options.datasets and jax.process_count() > 1:
            of = "groups" if row.contrastive.microbatches > 1 else "examples"
            for path, size in rules.shares(config, name).items():
                sharding.check_batch_size(size, mesh, path, of=of)
    names: dict[str, types.Names] = {}
    for row in config.tasks.values():
        if row.dataset not in names:
            names[row.dataset] = names_of(folders[row.dataset])
    opened: dict[tuple[str, str], sources.Source] = {}
    scales = _scales(config, folders, opened)
    for name, scale in scales.items():
        names[config.tasks[name].dataset].setdefault("scales", {})[name] = scale
    shop = Workshop(
        config=config,
        workdir=epath.Path(workdir),
        folders=folders,
        mesh=mesh,
        tasks=build_tasks(config, names),
        shard=pipeline.Shard(jax.process_index(), jax.process_count()),
        weights=start.check(config),
        findings=findings,
        scales=scales,
        _opened=opened,
    )
    for name, row in config.runs.items():
        stage = stages.build(config.of(row), row, shop.tasks)
        if not row.options.carries_head:
            continue
        if rules.is_weights(row.init_from):
            batches = stages.shape_batches(config, row)
            start.check_head(config, name, stages.state_shapes(stage, batches))
        elif "/" in row.init_from:
            (task,) = row.tasks
            classes = shop.tasks[task].metric().class_names
            start.check_classes(config, name, classes, scales.get(task))
    _check_data(shop)
    return shop


def _scales(
    config: schema.ExperimentConfig,
    folders: Mapping[str, epath.PathLike],
    opened: dict[tuple[str, str], sources.Source],
) -> dict[str, regression.Scale]:
    """What the numbers of each task that learns some are worth.

    That is told by all of its training split, which is added to `opened`.
    """
    found = {}
    for name, row in config.tasks.items():
        kind, place = kinds.KINDS[row.kind], (row.dataset, "train")
        if not kind.has_scale:
            continue
        if place not in opened:
            splits = config.datasets[row.dataset].splits
            opened[place] = sources.open_prepared(folders[row.dataset], "train", splits)
        kinds.usable_records(opened[place], row)  # Or it says what the set lacks.
        found[name] = regression.Scale(**kind.scale(opened[place], row))
    return found


def _check_data(shop: Workshop) -> None:
    """Refuses, before anything runs, data that a later run could not use."""
    checked = set()  # Runs share tasks.
    for row in shop.config.runs.values():
        if row.options.datasets:
            _check_pool(shop, row)
        tests = ("test",) if row.options.is_tested else ()
        for name in row.tasks:
            for split in ("train", "validation", *tests):
                if (name, split) not in checked:
                    _check_split(shop, name, split)
                    checked.add((name, split))


def _check_pool(shop: Workshop, row: schema.RunConfig) -> None:
    """Refuses an empty set and more negatives than images; warns of a quarter."""
    excluded, queue, size = shop.excluded(row), row.contrastive.negatives, 0
    for name in row.options.datasets:
        source = shop.open_set(name, "train")
        size += len(pipeline.pool_records(source, excluded.get(name, ())))
    if queue > size:
        raise ValueError(
            f"contrastive.queue_size: {queue} negatives from a pool of {size} images "
            "would hold every image's own copies; use at most "
            f"{size}, better a quarter of it."
        )
    if queue > size // 4:
        _LOG.warning(
            "contrastive.queue_size: %d is more than a quarter of a pool of %d images.",
            *(queue, size),
        )


def _check_split(shop: Workshop, name: str, split: str) -> None:
    """Refuses a split that is empty, has one class to learn, or too many boxes."""
    task = shop.config.tasks[name]
    source = shop.open_set(task.dataset, split)
    rows = [source.index[record] for record in kinds.usable_records(source, task)]
    if refused := kinds.KINDS[task.kind].refuse(rows, task, split):
        raise ValueError(f"config.tasks.{name}{refused}")


def names_of(folder: sources.PathLike) -> types.Names:
    """What the classes of a prepared set are called."""
    return types.Names(**dataclasses.asdict(sources.read_metadata(folder)))


def build_tasks(
    config: schema.ExperimentConfig, names: Mapping[str, types.Names]
) -> dict[str, types.Task]:
    """Every task of the config; `names` as `tasks.build_tasks` takes them."""
    dtype = jnp.dtype(config.backbone.dtype)
    return tasks.build_tasks(config.tasks, names, dtype=dtype)
