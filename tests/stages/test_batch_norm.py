"""Statistics of BatchNorm taken anew: of still batches, and nothing else moves."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.experiment import batch_norm, feed, preparation, workshop
from mtpret_jax.stages import supervised
from mtpret_jax.training import sharding

TASKS = ("missing_tooth", "mandible")
BATCHES = 3


@pytest.fixture(scope="module")
def shop(demo, tmp_path_factory):
    """A workshop of the tiny demonstration, with its prepared sets."""
    folder = tmp_path_factory.mktemp("batch_norm")
    folders = preparation.prepare(demo.datasets, folder)
    row = dataclasses.replace(
        demo.runs["continual"],
        init_from="",
        continual=dataclasses.replace(demo.runs["continual"].continual, tasks=TASKS),
    )
    config = dataclasses.replace(demo, runs={"continual": row})
    return workshop.open_workshop(config, epath.Path(folder) / "work", folders)


def _batches(shop, row, task):
    """What the estimator reads: unaugmented, the first of the stream."""
    still = dataclasses.replace(
        shop.config.tasks[task], augment=schema.AUGMENT_PRESETS["none"]
    )
    config = dataclasses.replace(shop.config, tasks={**shop.config.tasks, task: still})
    shop = dataclasses.replace(shop, config=config)
    with feed.Feed(shop, row, shop.shard).stream(task) as stream:
        return [next(stream) for _ in range(BATCHES)]


def test_each_task_gets_its_own_statistics_and_a_backbone_those_of_all(shop):
    row = shop.config.runs["continual"]
    stage = stages.build(shop.config, row, shop.tasks)
    shapes = stages.shape_batches(shop.config, row)
    init = sharding.compile_init(lambda key: stage.init(key, shapes), shop.mesh)
    state = init(jax.random.key(0))
    before = jax.device_get(state)
    still = functools.partial(feed.Feed(shop, row, shop.shard).stream, still=True)
    learner = supervised.build_learner(shop.config, row, shop.tasks)
    estimator = batch_norm.Estimator(learner, shop.mesh, still, BATCHES)

    own = {task: jax.device_get(estimator.settle(state, (task,))) for task in TASKS}
    joint = jax.device_get(estimator.settle(state, TASKS))

    # The first layer sees the pictures: its mean is linear in theirs.
    def stem(found):
        return found.model_state["backbone"]["bn1"]

    moments = []
    for task in TASKS:
        outputs = []
        for batch in _batches(shop, row, task):
            image = np.asarray(batch.arrays["image"], np.float32)
            mean, deviation = batch.arrays["image_statistics"].T[:, :, None, None, None]
            image = (image - mean) / deviation * (batch.arrays["image"] != 0)
            kernel = state.params["backbone"]["conv1"]["kernel"]
            outputs.append(
                jax.lax.conv_general_dilated(
                    image,
                    kernel,
                    (2, 2),
                    [(3, 3), (3, 3)],
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            )
        whole = np.concatenate(outputs)
        axes = (0, 1, 2)
        np.testing.assert_allclose(
            stem(own[task])["mean"], whole.mean(axes), rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(stem(own[task])["var"], whole.var(axes), rtol=2e-3)
        moments.append((whole.mean(axes), np.square(whole).mean(axes)))
    mean, square = np.mean(moments, axis=0)
    np.testing.assert_allclose(stem(joint)["mean"], mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(stem(joint)["var"], square - np.square(mean), rtol=2e-3)

    # A head has its own task's, and no other.
    head = own["mandible"].model_state["heads"]["mandible"]
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(head))
    fresh = before.model_state["heads"]["mandible"]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), head, fresh)
    assert min(jax.tree.leaves(moved)) > 0
    jax.tree.map(
        np.testing.assert_array_equal,
        own["missing_tooth"].model_state["heads"]["mandible"],
        fresh,
    )
    jax.tree.map(
        np.testing.assert_array_equal, joint.model_state["heads"]["mandible"], head
    )
    # Training's own state stays as it is.
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)
    none = batch_norm.Estimator(learner, shop.mesh, still, 0).settle(state, TASKS)
    assert none is state
