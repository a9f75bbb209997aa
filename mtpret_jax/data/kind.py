"""What a kind of task needs of a prepared set: the contract of a class for each."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import sources

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types

Row = Mapping[str, str]


class Kind(abc.ABC):
    """A kind of task, as its records are concerned.

    Attributes:
      wanted: What a record must have, in words.
      has_studies: Whether predictions of one study are also measured together.
      has_scale: Whether what is learnt are numbers; see `scale`.
    """

    wanted: str
    has_studies = False
    has_scale = False

    @abc.abstractmethod
    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        """What the classes are classes of, in words, and their names in the set."""

    @abc.abstractmethod
    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        """The names of classes where `sources.Metadata` has them."""

    @abc.abstractmethod
    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        """What a set lacks for the task, as the end of a sentence; "" for nothing."""

    @abc.abstractmethod
    def is_usable(self, row: Row, task: config.TaskConfig) -> bool:
        """Whether a record can be learnt from."""

    @abc.abstractmethod
    def labels(self, row: Row, task: config.TaskConfig) -> Iterable[str]:
        """By what usable records are counted, to draw a part of them, or all alike."""

    def strata(self, rows: Sequence[Row], task: config.TaskConfig) -> list[set[str]]:
        """What each of some usable records is counted by; see `labels`."""
        return [set(self.labels(row, task)) for row in rows]

    def scale(self, source: sources.Source, task: config.TaskConfig) -> dict[str, Any]:
        """What numbers are worth, by the train split: fields of `regression.Scale`."""
        raise NotImplementedError(f"{type(self).__name__} learns no numbers.")

    def second(
        self, source: sources.Source, task: config.TaskConfig
    ) -> np.ndarray | None:
        """What is told beside each image, as `second` of a batch; None for nothing."""
        del source, task
        return None

    def positives(
        self, rows: Sequence[Row], task: config.TaskConfig, names: Sequence[str]
    ) -> int:
        """How many of some usable records there are of what is rarest."""
        del task, names
        return len(rows)

    def refuse(self, rows: Sequence[Row], task: config.TaskConfig, split: str) -> str:
        """Why they can't be used, to follow the name of the task; "" if they can."""
        del rows, task, split
        return ""

    def boxes(self, example: types.Example) -> np.ndarray | None:
        """Boxes around which a view may be put, float32 [N, 4], or None."""
        del example
        return None

    @abc.abstractmethod
    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        """The targets of an example.

        Args:
          example: As `sources.Source` gives it.
          task: Its options.
          matrix: Stored picture to square, [3, 3].
          shape: Height and width of the stored picture.
          whole: Whether all of the picture counts, and not the view alone.
        """

    @abc.abstractmethod
    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        """Targets of a whole batch, in the shapes of `mtpret_jax.types`."""


def lack_of_column(column: str, option: str, what: str, known: Iterable[str]) -> str:
    """What a set lacks without a column that a task names; "" if it has it.

    Args:
      column: Its name.
      option: The task's option that names it.
      what: What the column holds.
      known: The columns of the set that hold as much.
    """
    names = sorted(known)
    if column in names:
        return ""
    near = difflib.get_close_matches(column, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"has no {what} column {column!r} (a task's `{option}`); it has {names}.{hint}"
    )
