"""The attention of a classifier is Grad-CAM, found here by its gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import types
from mtpret_jax.models import heads
from mtpret_jax.tasks import classification

ROWS, SIDE, WIDTH, CLASSES = 2, 3, 5, 4


def test_attention_is_grad_cam_times_the_number_of_cells():
    names = tuple(f"class {number}" for number in range(CLASSES))
    task = classification.ClassificationTask("chests", names, exclusive=True)
    level = jax.random.normal(jax.random.key(0), (ROWS, SIDE, SIDE, WIDTH))

    def features(level: jax.Array) -> types.Features:
        return types.Features((level,), level.mean((1, 2)), level)

    variables = task.init(jax.random.key(1), features(level))

    def logits(level: jax.Array) -> Any:
        head = heads.Linear(CLASSES)
        return head.apply({"params": variables.params}, features(level).pooled)

    found = task.predict(variables, features(level))

    # [L, B, h, w, C]; a weight for each channel is the mean of its gradient.
    weight = jax.jacobian(lambda level: logits(level).sum(0))(level).mean((2, 3))
    wanted = jax.nn.relu(jnp.einsum("bhwc,lbc->bhwl", level, weight)) * SIDE**2
    assert (np.asarray(wanted) > 0).any()
    # Float32, some ten terms of size one.
    np.testing.assert_allclose(found["attention"], wanted, atol=1e-5)
    expected = jax.nn.softmax(logits(level))
    np.testing.assert_allclose(found["probability"], expected, atol=1e-5)
