"""What metrics of labels share: what is kept of a batch, and counts of confusion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class LabelMetric:
    """Records of labels and probabilities.

    Attributes:
      class_names: Names of the L classes or labels.
      exclusive: Whether exactly one class is true; `probability` is then a softmax.
    """

    class_names: Sequence[str]
    exclusive: bool

    def __post_init__(self) -> None:
        least = 2 if self.exclusive else 1
        if len(self.class_names) < least:
            raise ValueError(
                f"Classification needs at least {least} classes "
                f"(exclusive={self.exclusive}), got {list(self.class_names)}. "
                "Check the label column of the data set."
            )

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Keeps probabilities and labels; padding is kept, for the caller to drop.

        Args:
          outputs: `probability` float32 [B, L].
          batch: `label` float32 [B, L], `label_known` bool [B, L], `record` int32 [B];
            where the set has studies, `study` int32 [B], -1 for none.
        """
        probability = np.asarray(outputs["probability"], np.float32)
        expected = (len(batch["record"]), len(self.class_names))
        if probability.shape != expected:
            raise ValueError(
                f"probability must have shape {expected} for classes "
                f"{list(self.class_names)}, got {probability.shape}."
            )
        records = {
            "probability": probability,
            "label": np.asarray(batch["label"], np.float32),
            "label_known": np.asarray(batch["label_known"], bool),
            "record": np.asarray(batch["record"], np.int32),
        }
        if "study" in batch:
            records["study"] = np.asarray(batch["study"], np.int32)
        return records

    def finite(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """The probabilities, [N, L].

        Raises:
          ValueError: If any is not a number.
        """
        probability = np.asarray(records["probability"])
        if not np.isfinite(probability).all():
            raise ValueError(
                "probability holds NaN or infinity; the model has diverged. "
                "Lower the learning rate."
            )
        return probability

    def truth(self, records: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The true labels, and which of them are known, bool [N, L] each."""
        positive = np.asarray(records["label"]) > 0.5
        known = np.asarray(records["label_known"], bool)
        if self.exclusive:
            whole = known.all(axis=1) & (positive.sum(axis=1) == 1)
            known = np.repeat(whole[:, np.newaxis], known.shape[1], axis=1)
        return positive, known

    def confusion(self, summary: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """How often each true class is taken for each, where one excludes the others.

        Args:
          summary: As `summarise` gives it.

        Returns:
          int64 [L, L], a row for each true class, a column for each decided one; None
          where classes do not exclude each other.
        """
        if not self.exclusive:
            return None
        known = summary["known"].all(axis=1)
        true, decided = (
            summary[x][known].argmax(axis=1) for x in ("positive", "decided")
        )
        count = len(self.class_names)
        pairs = np.bincount(true * count + decided, minlength=count**2)
        return pairs.reshape(count, count)
