"""Parity of one step of a classifier with PyTorch's and timm's.

In float64, as test_resnet.py says.
"""

import drawing
import jax
import jax.numpy as jnp
import make_classification_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.stages import supervised
from mtpret_jax.tasks import classification

TOLERANCE = 2e-7


class Pixels:
    """A backbone whose features are the pixels."""

    def apply(self, variables, image, **_):
        return types.Features((), image.reshape(len(image), -1), image), {}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", goldens.CASES)
def test_loss_and_head_after_a_step(case, monkeypatch):
    golden = drawing.load("classification")
    exclusive, weight, smoothing, share = goldens.CASES[case]
    monkeypatch.setattr(jax.random, "beta", lambda *_: jnp.asarray(share))
    label, known = goldens.labels(case)
    image = drawing.images(goldens.BATCH, goldens.SIZE)
    arrays = {
        "image": jnp.asarray(image, jnp.float64),
        "label": jnp.asarray(label),
        "label_known": jnp.asarray(known),
        "example_valid": jnp.ones(goldens.BATCH, bool),
    }
    if weight is not None:
        arrays["label_weight"] = jnp.tile(jnp.asarray(weight), (goldens.BATCH, 1))
    drawn = drawing.draw(goldens.SHAPES)
    head = {
        "kernel": jnp.asarray(drawn["fc.weight"].T, jnp.float64),
        "bias": jnp.asarray(drawn["fc.bias"], jnp.float64),
    }
    names = ("one", "two", "three")
    task = classification.ClassificationTask("task", names, exclusive, smoothing)
    learner = supervised.Learner(
        Pixels(),
        {"task": task},
        microbatches={"task": 1},
        mixup={"task": 0.4 if share else 0.0},
    )
    params = {"backbone": {}, "heads": {"task": {"fc": head}}}
    state = types.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state={"backbone": {}, "heads": {"task": {}}},
        opt_state={},
        memory={},
        key=jax.random.key_data(jax.random.key(0)),
    )

    grads, _, scalars = jax.jit(learner.gradients)(state, types.Batch(arrays, "task"))

    step = jax.tree.map(lambda x, g: x - goldens.RATE * g, head, grads["head"]["fc"])
    found = {
        "loss": np.asarray(scalars["loss"])[None],
        "fc.weight": step["kernel"].T,
        "fc.bias": step["bias"],
    }
    errors = {
        key: drawing.error(x, golden.arrays[f"{case}/{key}"])
        for key, x in found.items()
    }
    assert max(errors.values()) <= TOLERANCE, errors
