"""Running statistics of BatchNorm, taken anew for a task or for several alike.

Training leaves those of the last batches: of another task than the one that is to be
measured, or of one alone in a backbone that is handed over. Here they are of still
training pictures, equally many batches of each task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.experiment import assembly, workshop
from mtpret_jax.models import normalisation
from mtpret_jax.training import preemption, sharding


class Estimator:
    """Takes the statistics of a run's states; the states stay as they are."""

    def __init__(
        self, shop: workshop.Workshop, row: schema.RunConfig, batches: int
    ) -> None:
        """`batches` of each task are looked at; 0: statistics stay."""
        config, still = shop.config, schema.AUGMENT_PRESETS["none"]
        tasks = {
            name: dataclasses.replace(task, augment=still)
            for name, task in config.tasks.items()
        }
        # Processes that read would take longer to start than these few batches.
        settings = dataclasses.replace(config.input, workers=0)
        config = dataclasses.replace(config, tasks=tasks, input=settings)
        self._shop = dataclasses.replace(shop, config=config)
        self._row, self._batches = row, batches
        learner = assembly.build_learner(config, shop.tasks, row)
        self._read = sharding.compile_statistics(learner.statistics, shop.mesh)

    def of_task(self, state: types.TrainState, task: str) -> types.TrainState:
        """The state with the statistics of one task in backbone and head."""
        return self._replaced(state, [task])

    def of_all(self, state: types.TrainState) -> types.TrainState:
        """The state with those of all tasks in its backbone, in each head its own."""
        return self._replaced(state, self._row.tasks)

    def _replaced(
        self, state: types.TrainState, tasks: tuple[str, ...] | list[str]
    ) -> types.TrainState:
        if not self._batches:
            return state
        with jax.transfer_guard("allow"):
            found = {task: self._moments(state, task) for task in tasks}
            bodies = [moments["backbone"] for moments in found.values()]
            heads = {task: _settle(moments["head"]) for task, moments in found.items()}
            body = _settle(_mean(bodies))
        heads = {**state.model_state["heads"], **heads}
        return state.replace(model_state={"backbone": body, "heads": heads})

    def _moments(self, state: types.TrainState, task: str) -> types.Tree:
        """Means over batches of a task of the mean and the mean square."""
        alone = dataclasses.replace(self._row.finetune, task=task)
        row = dataclasses.replace(self._row, stage="finetune", finetune=alone)
        found = []
        with workshop.open_streams(self._shop, row, {task: 0})[task] as stream:
            for _ in range(self._batches):
                preemption.check()
                batch = sharding.put(next(stream), self._shop.mesh)
                read = self._read(state.params, state.model_state, batch)
                found.append(_each(read, _to_moments))
        return _mean(found)


def _mean(trees: list[types.Tree]) -> types.Tree:
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def _to_moments(held: Mapping[str, Any]) -> dict[str, Any]:
    """From what one update of zeros leaves."""
    share = 1 - normalisation.BatchNorm.momentum
    mean, var = held["mean"] / share, held["var"] / share
    return {"mean": mean, "var": var + jnp.square(mean)}


def _settle(moments: types.Tree) -> types.Tree:
    """From mean squares to variances, those between batches and tasks included."""

    def settle(held: Mapping[str, Any]) -> dict[str, Any]:
        var = held["var"] - jnp.square(held["mean"])
        return {"mean": held["mean"], "var": jnp.maximum(var, 0.0)}

    return _each(moments, settle)


def _each(tree: types.Tree, change: Any) -> types.Tree:
    """Changes the `mean` and `var` of every BatchNorm of a tree."""

    def is_norm(part: Any) -> bool:
        return isinstance(part, Mapping) and "var" in part

    return jax.tree.map(change, tree, is_leaf=is_norm)
