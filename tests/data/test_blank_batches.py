"""Tests that made-up batches, by which steps are compiled ahead, are like real ones."""

from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import pipeline
from mtpret_jax.experiment import estimate


def tabled(bits: int) -> schema.ExperimentConfig:
    """Of 16 bits with channels that differ."""
    table: Any = schema.defaults()
    if bits == 16:
        table.input.normalisation = "fixed"
        table.input.fixed.update(mean=(0.4, 0.5, 0.6), deviation=(0.1, 0.2, 0.3))
    table.datasets.tiny = schema.dataset("xray_folder", folder="f", bit_depth=bits)
    sizes = {"image_size": 32, "batch_size": 4}
    table.runs.contrastive = schema.run(
        stage="contrastive",
        contrastive={"datasets": {"tiny": 1.0}, "batch_norm_rows": 2}
        | {"queue_size": 8}
        | sizes,
    )
    for kind in ("classification", "segmentation", "detection", "landmarks"):
        weights = "balanced" if kind == "classification" else ""
        table.tasks[kind] = schema.task(
            kind=kind, dataset="tiny", class_weights=weights, **sizes
        )
        table.runs[kind] = schema.run(stage="finetune", finetune={"task": kind})
    return schema.parse(table)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "name",
    ["contrastive", "classification", "segmentation", "detection", "landmarks"],
)
def test_a_blank_batch_has_the_shapes_and_types_of_a_streams(
    tiny, tiny_16_bit, bits, name
):
    config, made = tabled(bits), tiny if bits == 8 else tiny_16_bit
    row, source = config.runs[name], made.open("train")
    if name == "contrastive":
        stream = pipeline.contrastive_stream(
            name, row.contrastive, config.input, {"tiny": source}, seed=0
        )
    else:
        stream = pipeline.train_stream(
            name, config.tasks[name], config.input, source, seed=0
        )
    with stream:
        real = next(stream)

    blank = estimate.blank(config, row, name, 2)

    def described(batch):
        return {k: (v.shape, v.dtype) for k, v in batch.arrays.items()}

    assert blank.task == real.task
    assert described(blank) == described(real)
