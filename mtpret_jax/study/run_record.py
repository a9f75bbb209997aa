"""What a run that has ended says of itself: `run.json`, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run that has ended.

    Attributes:
      name: Name of the run.
      stage: Its stage.
      arm: Row of the report that it belongs to; "" for none.
      task: Task that it is tested on, None for none.
      tasks: Tasks that it trained with labels.
      seed: Seed that it drew everything from.
      labels: For each task and split what it used; see `data.subsets.describe`.
      learning_rate: Peak of the rate, for each task of its batches.
      parent: What it started from, in words; None for random weights.
      pools: Pools that it and its lineage were pre-trained on, the oldest first.
      steps: Optimiser steps of the whole run.
      parameters: Trained numbers of the backbone.
      finished: True, as an unfinished run has no record.
      seconds: Seconds that its last process trained.
      resumed_at: Steps that were done when that process began.
      images_per_second: Examples trained a second; None where not known, as below.
      images_per_second_per_device: The same on each device, without waiting.
      model_flop_utilisation: Share of the devices' peak that was used, [0, 1].
      input_wait_seconds: Seconds that steps waited for their input.
      input_wait_share: Share of the time that steps waited, [0, 1].
      selection: How the tested state was chosen: by validation, or the last.
      best_step: Steps of that state.
      metric: Name of the value by which a state is chosen; None without a test.
      higher_is_better: Whether a higher value of it is the better one.
      best_value: Its value on validation; None where there is none.
      best_dice_of_grid: About the best Dice that its output grid can reach.
      frozen: How its features were measured; see `experiment.frozen`.
      monitor: What its monitor found; see `experiment.monitor`.
    """

    name: str
    stage: str
    arm: str
    task: str | None
    tasks: tuple[str, ...]
    seed: int
    labels: Mapping[str, Mapping[str, Mapping[str, float | str]]]
    learning_rate: Mapping[str, float]
    parent: str | None
    pools: tuple[Mapping[str, str | None], ...]
    steps: int
    parameters: int
    finished: bool = True
    seconds: float
    resumed_at: int
    images_per_second: float | None = None
    images_per_second_per_device: float | None = None
    model_flop_utilisation: float | None = None
    input_wait_seconds: float | None = None
    input_wait_share: float | None = None
    selection: str | None = None
    best_step: int | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    best_value: float | None = None
    best_dice_of_grid: float | None = None
    frozen: Mapping[str, float | str] | None = None
    monitor: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; without those of a test where there was none."""
        values = dataclasses.asdict(self)
        left_out = {"best_dice_of_grid", "frozen", "monitor"}
        if self.selection is None:
            left_out |= {"selection", "best_step", "best_value"}
            left_out |= {"metric", "higher_is_better"}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if not (name in left_out and value is None)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> RunRecord:
        """Reads what `to_json` gave.

        Args:
          values: Plain values.
          where: Where they stand, for messages.

        Raises:
          ValueError: If something is missing.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in values.items() if name in fields}
        for name in ("tasks", "pools"):
            known[name] = tuple(values.get(name, ()))
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(
                f"{where}: written by another version of mtpret_jax ({error}). Use "
                "another --workdir."
            ) from error
