"""Pictures as evaluation sees them, with the labels of any number of tasks, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import elements, kinds, sources, transforms

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types


class Still(elements.TaskElement):
    """Elements of evaluation, whose targets are those of some tasks of a set."""

    def __init__(
        self,
        source: sources.Source,
        tasks: Mapping[str, config.TaskConfig],
        settings: config.InputConfig,
        *,
        image_size: int,
    ) -> None:
        """Reads nothing yet.

        Args:
          source: A split of the set.
          tasks: Tasks of it by name; their targets get `<name>/` before their names.
          settings: Fit, resampling and normalisation.
          image_size: Side of the square input, pixels, whatever that of the tasks.
        """
        super().__init__(source, config.TaskConfig(image_size=image_size), settings)
        self._tasks = tasks

    def _assemble(
        self,
        example: types.Example,
        shape: tuple[int, int],
        view: transforms.View,
        *,
        whole: bool,
    ) -> types.Example:
        image, statistics = transforms.to_input(view, statistics=self._statistics)
        element = {"image": image, "image_statistics": statistics}
        for name, task in self._tasks.items():
            found = kinds.KINDS[task.kind].targets(
                example, task, view.matrix, shape, whole=whole
            )
            element |= {f"{name}/{key}": value for key, value in found.items()}
        return element


def read(element: Still, records: np.ndarray) -> dict[str, np.ndarray]:
    """The elements of some records, int [N], one after the other."""
    found = [element(record) for record in records.tolist()]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}
