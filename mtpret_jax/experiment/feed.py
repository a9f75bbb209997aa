"""What a run reads: its training streams, its splits, and which labels it may use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.audit import exclusions
from mtpret_jax.config import rules
from mtpret_jax.data import pipeline, sources, subsets
from mtpret_jax.experiment import teaching, workshop


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """The prepared sets as one run reads them.

    Attributes:
      shop: What all runs share.
      row: Row of the run.
      shard: This process's part of every batch.
    """

    shop: workshop.Workshop
    row: schema.RunConfig
    shard: pipeline.Shard

    def streams(self, first_batch: Mapping[str, int]) -> dict[str, pipeline.Stream]:
        """Training streams, each from where its task stands."""
        if self.row.tasks:
            return {
                task: self.stream(task, first_batch[task]) for task in self.row.tasks
            }
        options: Any = self.row.options  # With sizes, as the stage has no task.
        (name,) = self.shop.config.batches_of(self.row)
        stream = pipeline.contrastive_stream(
            name,
            options,
            self.shop.input,
            {each: self.shop.open_set(each, "train") for each in options.datasets},
            seed=self.shop.config.seed_of(self.row),
            excluded=self.shop.excluded(self.row),
            taught=teaching.features(self.shop, self.row),
            first_batch=first_batch[name],
            shard=self.shard,
        )
        return {name: stream}

    def stream(
        self, task: str, first_batch: int = 0, *, still: bool = False
    ) -> pipeline.Stream:
        """A task's training stream; `still`: of unchanged images, for a few batches."""
        settings, reading = self.shop.config.tasks[task], self.shop.input
        if still:
            augment = schema.AUGMENT_PRESETS["none"]
            # Nothing weighs anything where there is no loss, so no class is counted.
            settings = dataclasses.replace(settings, augment=augment, class_weights="")
            # Processes that read would take longer to start than these few batches.
            reading = dataclasses.replace(reading, workers=0)
        return pipeline.train_stream(
            task,
            settings,
            reading,
            self.source(task, "train"),
            seed=self.shop.config.seed_of(self.row),
            subset=self.subset(task, "train"),
            first_batch=first_batch,
            shard=self.shard,
        )

    def split(self, task: str, split: str, *, whole: bool = False) -> pipeline.Stream:
        """The evaluation batches of a task; `whole` as for `subset`."""
        return pipeline.eval_batches(
            task,
            self.shop.config.tasks[task],
            self.shop.input,
            self.source(task, split),
            subset=self.subset(task, split, whole=whole),
            shard=self.shard,
        )

    def source(self, task: str, split: str) -> sources.Source:
        """A split of the task's set."""
        return self.shop.open_set(self.shop.config.tasks[task].dataset, split)

    def subset(self, task: str, split: str, *, whole: bool = False) -> subsets.Subset:
        """The part of a split whose labels the run may use; all of the test split.

        Of validation, stage 2 uses no more than it trains with meanwhile, or the
        `whole`, unless the config has a bound.
        """
        if split == "test":
            return subsets.ALL
        config, options = self.shop.config, self.row.options
        used = subsets.Subset(config.seed_of(self.row), self.row.label_fraction)
        if split == "train" and config.exclude_copies and self.shop.findings:
            leaves = exclusions.by_dataset(self.shop.findings.excluded)
            excluded = leaves.get(config.tasks[task].dataset, frozenset())
            return dataclasses.replace(used, excluded=excluded)
        is_bound = options.validates_all and split == "validation"
        if not is_bound or (whole and not options.validation_batches):
            return used
        most = rules.validation_batches(self.row) * config.tasks[task].batch_size
        return dataclasses.replace(used, most=most)

    def labels(self, task: str, split: str) -> dict[str, Any]:
        """What the run uses of a task's split; see `subsets.describe`."""
        settings = self.shop.config.tasks[task]
        used = self.subset(task, split)
        return subsets.describe(self.source(task, split), settings, used)
