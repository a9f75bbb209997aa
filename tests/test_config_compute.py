"""What a run costs, its start included."""

from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.config import budget


def test_updates_and_images_add_up_from_the_first_weights():
    config: Any = schema.defaults()
    config.datasets.chest = schema.dataset("phantom_xray")
    for name, batch_size in (("one", 4), ("two", 8)):
        config.tasks[name] = schema.task(dataset="chest", batch_size=batch_size)
    config.runs.first = schema.run(
        stage="contrastive",
        steps=10,
        contrastive=dict(datasets=dict(chest=1.0), batch_size=16, queue_size=64),
    )
    config.runs.second = schema.run(
        stage="continual",
        init_from="first",
        steps=3,
        continual=dict(tasks=("one", "two"), rounds=2),
    )
    config.runs.third = schema.run(
        init_from="second", steps=5, finetune=dict(task="two")
    )
    config.runs.given = schema.run(
        init_from="weights.pth", steps=5, finetune=dict(task="two")
    )
    parsed = schema.parse(config)

    found = {name: budget.compute(parsed, name) for name in parsed.runs}

    assert found == {
        "first": budget.Compute(10, 320),  # Two views of each.
        "second": budget.Compute(22, 392),
        "third": budget.Compute(27, 432),
        "given": budget.Compute(5, 40),
    }
