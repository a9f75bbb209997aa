"""How good the features are that a fine-tuning starts from: its weights do not change.

The statistics of BatchNorm do, where the run takes them anew from the task's images
(`finetune.batch_norm_batches`) before anything is measured; `frozen.json` says so. A
linear probe and nearest neighbours learn from the labels that the run may use, and
predict its test split; `<task>/test.linear.npz` and `test.knn.npz` hold what the task's
own `test.npz` holds, in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.experiment import prediction_files, workshop
from mtpret_jax.metrics import classification, operating_points, probes
from mtpret_jax.ops import views
from mtpret_jax.training import evaluation, sharding
from tfds_builders import whole

METHODS = ("linear", "knn")
_FACTS = "frozen.json"  # written last: where it is, the others are


@dataclasses.dataclass(frozen=True)
class _Features(classification.ClassificationMetric):
    """Keeps features too; probabilities come later."""

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        blank = {"probability": np.zeros_like(batch["label"])}
        feature = np.asarray(outputs["feature"], np.float32)
        return {**super().records(blank, batch), "feature": feature}


def read(folder: epath.Path) -> dict[str, Any] | None:
    """What `write` wrote of a run's task; None if it has not, or not to the end."""
    path = folder / _FACTS
    return whole.read_json(path) if path.exists() else None


def write(
    folder: epath.Path,
    predictions: Mapping[str, evaluation.Records],
    facts: Mapping[str, Any],
) -> None:
    """Writes what `evaluate` gives into the folder of a run's task."""
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    for method, records in predictions.items():
        prediction_files.write_arrays(folder / f"test.{method}.npz", records)
    if jax.process_index() == 0:
        whole.write_json(folder / _FACTS, facts)


def evaluate(
    shop: workshop.Workshop,
    row: schema.RunConfig,
    state: types.TrainState,
) -> tuple[dict[str, evaluation.Records], dict[str, Any]]:
    """Predicts the test split from the features of a state's backbone.

    Args:
      shop: What all runs share.
      row: A fine-tuning of a classification task.
      state: Whose backbone it is.

    Returns:
      For each of `METHODS` the metric's records of the test split; and how many
      `images` and `features` there were to learn from, how many batches of the task
      `batch_norm` statistics were taken from before (0: those of the start), which
      `strength` was taken and why, and how many `neighbours` voted.
    """
    extractor = _Extractor(shop, row, state)
    train = extractor.examples(extractor.records("train"))
    strength, source = _strength(extractor, train)
    test = extractor.records("test")
    feature = test.pop("feature")
    found = {
        "linear": probes.linear(train, feature, strength=strength),
        "knn": probes.vote(train, feature),
    }
    facts = {
        "images": len(train.feature),
        "features": train.feature.shape[1],
        "batch_norm": row.finetune.batch_norm_batches,
        "strength": strength,
        "strength_from": source,
        "neighbours": min(probes.NEIGHBOURS, len(train.feature)),
    }
    return {name: {**test, "probability": found[name]} for name in METHODS}, facts


class _Extractor:
    """The features of a run's splits, by one backbone."""

    def __init__(
        self, shop: workshop.Workshop, row: schema.RunConfig, state: types.TrainState
    ) -> None:
        self._shop, self._row, self._state = shop, row, state
        self._exclusive = shop.config.tasks[row.finetune.task].exclusive
        names = shop.tasks[row.finetune.task].metric().class_names
        self.metric = _Features(names, self._exclusive)
        backbone = models.build_backbone(shop.config.backbone)
        stride = shop.tasks[row.finetune.task].output_stride

        def predict(
            params: types.Tree, model_state: types.Tree, batch: types.Batch
        ) -> dict[str, jax.Array]:
            variables = types.Variables(params["backbone"], model_state["backbone"])
            features, _ = backbone.apply(
                variables,
                views.normalise(batch.arrays)["image"],
                train=False,
                output_stride=stride,
            )
            return {"feature": features.pooled}

        self._predict = sharding.compile_predict(predict, shop.mesh)

    def records(self, split: str) -> evaluation.Records:
        """The metric's records of a split, and `feature`, float32 [N, D]."""
        shop, row, state = self._shop, self._row, self._state
        with workshop.open_split(shop, row, row.finetune.task, split) as batches:
            records, _ = evaluation.evaluate(
                lambda batch: self._predict(state.params, state.model_state, batch),
                batches,
                self.metric,
                put=lambda batch: sharding.put(batch, shop.mesh),
            )
        return records

    def examples(self, records: evaluation.Records) -> probes.Examples:
        """What a probe learns from."""
        names = ("feature", "label", "label_known")
        feature, label, known = (records[name] for name in names)
        return probes.Examples(feature, label, known, self._exclusive)


def _strength(extractor: _Extractor, train: probes.Examples) -> tuple[float, str]:
    """The one that validation likes best, and why; of equally good ones the largest.

    It is `probes.STRENGTH` where validation has too few images to choose by; see
    `operating_points.choice`.
    """
    records = extractor.records("validation")
    scores = []
    for strength in probes.STRENGTHS:
        probability = probes.linear(train, records["feature"], strength=strength)
        predicted = {**records, "probability": probability}
        score = operating_points.choice(extractor.metric, predicted)
        if np.isnan(score):
            return probes.STRENGTH, "fixed"
        scores.append((score, strength))
    return max(scores)[1], "validation"
