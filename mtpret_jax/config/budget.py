"""What a run costs: its updates and the pictures that it trains on."""

from __future__ import annotations

import dataclasses

from mtpret_jax.config import schema


@dataclasses.dataclass(frozen=True)
class Compute:
    """Of a run and of all that it descends from; of weights from elsewhere nothing.

    Attributes:
      updates: Optimiser steps.
      images: Pictures that went through the network in training: in stage 1, all views
        of each.
    """

    updates: int
    images: int


def _steps_of_each(row: schema.RunConfig) -> int:
    """Optimiser steps that each task of the run gets."""
    return row.steps * row.options.rounds


def count_steps(row: schema.RunConfig) -> int:
    """Optimiser steps of the whole run, without those of its start."""
    return _steps_of_each(row) * max(len(row.tasks), 1)


def compute(config: schema.ExperimentConfig, name: str) -> Compute:
    """Of a run of the config, with the runs of the config that it starts from."""
    row = config.runs[name]
    batch = sum(config.tasks[task].batch_size for task in row.tasks)
    views = 2 + row.contrastive.local_views
    batch = batch or views * row.contrastive.batch_size
    own = Compute(count_steps(row), _steps_of_each(row) * batch)
    if row.init_from not in config.runs:
        return own
    start = compute(config, row.init_from)
    return Compute(start.updates + own.updates, start.images + own.images)
