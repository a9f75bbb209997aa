"""Running statistics of BatchNorm, taken anew for a task or for several alike.

Training leaves those of the last batches: of another task than the one that is to be
measured, or of one alone in a backbone that is handed over. Here they are of still
training images, equally many batches of each task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mtpret_jax import types
from mtpret_jax.data import pipeline
from mtpret_jax.models import normalisation
from mtpret_jax.stages import supervised
from mtpret_jax.training import preemption, sharding


class Estimator:
    """Takes the statistics of a run's states; the states stay as they are."""

    def __init__(
        self,
        learner: supervised.Learner,
        mesh: Mesh,
        stream: Callable[[str], pipeline.Stream],
        batches: int,
    ) -> None:
        """Compiles nothing yet.

        Args:
          learner: Backbone with the heads of the run's tasks.
          mesh: Devices of the run.
          stream: Opens the still training images of a task.
          batches: Batches of each task that are looked at; 0: statistics stay.
        """
        self._mesh, self._stream, self._batches = mesh, stream, batches
        self._read = sharding.compile_statistics(learner.statistics, mesh)

    def settle(self, state: types.TrainState, tasks: Sequence[str]) -> types.TrainState:
        """The state with those of all `tasks` in its backbone, in each head its own."""
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
        found = []
        with self._stream(task) as stream:
            for _ in range(self._batches):
                preemption.check()
                batch = sharding.put(next(stream), self._mesh)
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
