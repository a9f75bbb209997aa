"""In which order records come, and which row holds the second view of which image.

BatchNorm takes its statistics over groups of consecutive rows. Were both views of an
image in groups with the same others, the statistics would tell which key belongs to
which query; so each group of positive views is drawn from many groups of queries.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types


def draw_order(seed: int, batch: int, *, batch_size: int, rows: int) -> np.ndarray:
    """Draws the order of the positive views: a function of its arguments alone.

    With G groups of queries, the R rows of every group of positive views come from
    min(R, G) of them, as evenly as can be. A batch of fewer rows is one group.

    Args:
      seed: Seed of the stream.
      batch: Index of the batch.
      batch_size: Examples of the global batch.
      rows: Examples of a group, R.

    Returns:
      For each row of the positive views, the row of its query, int64 [B].
    """
    rng = np.random.default_rng([seed, batch])
    groups = np.arange(batch_size).reshape(-1, min(rows, batch_size))
    dealt = rng.permuted(groups[rng.permutation(len(groups))], axis=1)
    return dealt.T.ravel()  # Deals out one row of each group in turn.


@functools.lru_cache(maxsize=128)  # At least one for each reading thread.
def _draw_both(
    seed: int, batch: int, batch_size: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """`draw_order`, and for each query the row of its positive view; int32 [B]."""
    order = draw_order(seed, batch, batch_size=batch_size, rows=rows)
    return order.astype(np.int32), np.argsort(order).astype(np.int32)


class Epochs:
    """Records without end, each epoch in an order of its own."""

    def __init__(self, records: np.ndarray, seed: int) -> None:
        """`records` are int [N], the seed that of all orders."""
        self._records, self._seed = records, seed

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(index, len(self._records))
        order = _draw_epoch(self._seed, epoch, len(self._records))
        return int(self._records[order[place]])


class Draws:
    """Records without end, each drawn by itself, with replacement."""

    def __init__(self, records: np.ndarray, weights: np.ndarray, seed: int) -> None:
        """`records` are int [N], their chances in proportion to `weights` [N]."""
        self._records, self._seed = records, seed
        self._upper = np.cumsum(weights)

    def __getitem__(self, index: int) -> int:
        chance = np.random.Generator(np.random.Philox(key=[self._seed, index])).random()
        place = np.searchsorted(self._upper, chance * self._upper[-1], side="right")
        return int(self._records[min(place, len(self._records) - 1)])  # Of rounding.


@functools.lru_cache(maxsize=64)  # A stage 1 of many sets stands in one epoch of each.
def _draw_epoch(seed: int, epoch: int, count: int) -> np.ndarray:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return order.astype(np.int32)


class Examples:
    """Examples of sets in fixed proportions, without end, each with chance of its own.

    Shuffling, mixing and chance in one call, in place of a chain of Grain's
    transformations.
    """

    def __init__(
        self,
        draws: Sequence[Callable[[int, np.random.Generator], types.Example]],
        epochs: Sequence[Epochs | Draws],
        seeds: Sequence[int],
        proportions: Sequence[float] = (1.0,),
    ) -> None:
        """Each sequence has an entry of each set.

        Args:
          draws: A record and a source of chance to an example.
          epochs: The records.
          seeds: Seeds of chance, in [0, 2**64).
          proportions: Above 0; kept to within a hundredth of the smallest.
        """
        self._draws, self._epochs, self._seeds = draws, epochs, seeds
        share = np.asarray(proportions, float)
        self._counts = np.maximum(1, np.rint(100 * share / share.min()).astype(int))
        part = np.repeat(np.arange(len(share)), self._counts)
        # Of each set, how many of its own come before in a period; evenly spread.
        before = np.concatenate([np.arange(count) for count in self._counts])
        order = np.lexsort((part, (before + 0.5) / self._counts[part]))
        self._part, self._before = part[order], before[order]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> types.Example:
        period, place = divmod(index, len(self._part))
        part = int(self._part[place])
        own = period * int(self._counts[part]) + int(self._before[place])
        chance = np.random.Generator(np.random.Philox(key=[self._seeds[part], own]))
        return self._draws[part](self._epochs[part][own], chance)


class Batches:
    """Examples stacked to batches, a source for `grain.MapDataset.source`.

    Grain's own batching times and measures each example, at a tenth of a view's cost.
    """

    def __init__(self, examples: Examples | Pairs, rows: int) -> None:
        """Every batch has `rows` examples."""
        self._examples, self._rows = examples, rows

    def __len__(self) -> int:
        return len(self._examples) // self._rows

    def __getitem__(self, index: int) -> types.Example:
        first = index * self._rows
        found = [self._examples[i] for i in range(first, first + self._rows)]
        return {key: np.stack([one[key] for one in found]) for key in found[0]}


class Pairs:
    """Two streams of views as one: positive views take the rows that chance gives them.

    Every process reads the rows that are its own, whichever they are.
    """

    def __init__(
        self,
        queries: Examples,
        positives: Examples,
        *,
        seed: int,
        batch_size: int,
        rows: int,
    ) -> None:
        """Elements of both are those of `elements.View`, in one order.

        Args:
          queries: First views.
          positives: Second views of the same images.
          seed: Seed of the orders.
          batch_size: Examples of the global batch.
          rows: Examples of a group of BatchNorm.
        """
        self._queries, self._positives = queries, positives
        self._seed, self._batch_size, self._rows = seed, batch_size, rows

    def __len__(self) -> int:
        return len(self._queries)

    def __getitem__(self, index: int) -> types.Example:
        batch, row = divmod(index, self._batch_size)
        order, partner = _draw_both(self._seed, batch, self._batch_size, self._rows)
        query: Any = self._queries[index]
        positive: Any = self._positives[index - row + int(order[row])]
        return {
            **{name: query[name] for name in query if name.startswith("local")},
            **{
                f"{name}_teacher": view["teacher"]
                for name, view in (("query", query), ("positive", positive))
                if "teacher" in view
            },
            "query": query["view"],
            "query_statistics": query["statistics"],
            "positive": positive["view"],
            "positive_statistics": positive["statistics"],
            "partner": partner[row],
            "query_owner": query["owner"],
            "positive_owner": positive["owner"],
            "record": query["record"],
            "example_valid": query["example_valid"],
        }
