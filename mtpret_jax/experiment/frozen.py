"""How good the features are that a fine-tuning starts from: its weights do not change.

The statistics of BatchNorm do, where the run takes them anew from the task's images
(`finetune.batch_norm_batches`) before anything is measured; `frozen.json` says so. A
linear probe and nearest neighbours learn from the labels that the run may use, and
predict its test split; `<task>/test.linear.npz` and `test.knn.npz` hold what the task's
own `test.npz` holds, in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import types
from mtpret_jax.experiment import prediction_files
from mtpret_jax.metrics import classification, probes
from mtpret_jax.ops import views
from mtpret_jax.training import evaluation
from tfds_builders import whole

METHODS = ("linear", "knn")
_FACTS = "frozen.json"  # written last: where it is, the others are


@dataclasses.dataclass(frozen=True)
class Features(classification.ClassificationMetric):
    """A metric whose records keep features; probabilities come later."""

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The metric's own, and `feature`, float32 [B, D]."""
        blank = {"probability": np.zeros_like(batch["label"])}
        feature = np.asarray(outputs["feature"], np.float32)
        return {**super().records(blank, batch), "feature": feature}


def extractor(backbone: types.Backbone, *, output_stride: int = 0) -> Callable:
    """A function of parameters, batch statistics and a batch to `feature` [B, D].

    Args:
      backbone: Backbone of the state.
      output_stride: Its last level's, pixels, as a head needs it; 0: its own.
    """

    def predict(
        params: types.Tree, model_state: types.Tree, batch: types.Batch
    ) -> dict[str, jax.Array]:
        variables = types.Variables(params["backbone"], model_state["backbone"])
        features, _ = backbone.apply(
            variables,
            views.normalise(batch.arrays)["image"],
            train=False,
            output_stride=output_stride,
        )
        return {"feature": features.pooled}

    return predict


def read(folder: epath.Path) -> dict[str, Any] | None:
    """What `write` wrote of a run's task; None if it has not, or not to the end."""
    path = folder / _FACTS
    return whole.read_json(path) if path.exists() else None


def write(
    folder: epath.Path,
    metric: Features,
    records: Mapping[str, evaluation.Records],
    batches: int,
) -> None:
    """Predicts the test split from features, and writes both methods' predictions.

    Args:
      folder: Folder of the predictions of the run's task.
      metric: Metric of the task that kept the features.
      records: Its records of the run's `train`, `validation` and `test` split.
      batches: Batches that statistics of BatchNorm were taken from before, 0 if those
        of the start were left.
    """
    train = _examples(metric, records["train"])
    strength, source = probes.choose(metric, train, records["validation"])
    test = dict(records["test"])
    feature = test.pop("feature")
    found = {
        "linear": probes.linear(train, feature, strength=strength),
        "knn": probes.vote(train, feature),
    }
    facts = {
        "images": len(train.feature),
        "features": train.feature.shape[1],
        "batch_norm": batches,
        "strength": strength,
        "strength_from": source,
        "neighbours": min(probes.NEIGHBOURS, len(train.feature)),
    }
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS:
        predicted = {**test, "probability": found[method]}
        prediction_files.write_arrays(folder / f"test.{method}.npz", predicted)
    if jax.process_index() == 0:
        whole.write_json(folder / _FACTS, facts)


def _examples(metric: Features, records: evaluation.Records) -> probes.Examples:
    """What a probe learns from."""
    feature, label, known = (
        records[name] for name in ("feature", "label", "label_known")
    )
    return probes.Examples(feature, label, known, metric.exclusive)
