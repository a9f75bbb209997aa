"""Parity of the residual networks with torchvision, in eval and in train mode.

In float32 our result may be SLACK times as far from PyTorch's float64 as PyTorch's own
float32 is: ours adds up in other orders. In float64 (`float64` in conftest.py) only the
rounding to float32 of the stored numbers and of ours is left, 6e-8 each.
"""

import drawing
import jax
import jax.numpy as jnp
import make_frozen_goldens as frozen
import make_resnet_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.weights import resnet

SLACK = 10
EXACT = 2e-7
TWO_STAGES = "roi_heads.box_predictor.cls_score.bias"
ONE_STAGE = "head.classification_head.cls_logits.bias"


def network(golden, name, *, channels=3, dtype="float32"):
    """Our backbone and torchvision's weights in it."""
    body = models.build_backbone(
        schema.BackboneConfig(name=name, in_channels=channels, compute_dtype=dtype)
    )
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    expected = {"params": shapes.params, "model_state": shapes.model_state}
    weights = drawing.draw(golden.shapes)
    tree = resnet.from_torchvision(weights, expected, name).tree
    tree = jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
    return body, types.Variables(**tree)


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", 3), ("resnet18", 1), ("resnet50", 3)]
)
def test_features_in_eval_mode(name, channels):
    """Also by a stem for one channel, which is summed from the three."""
    golden = drawing.load(name)
    body, variables = network(golden, name, channels=channels)

    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(
        variables, drawing.images(goldens.EVAL_BATCH, goldens.EVAL_SIZE)
    )

    found = {
        f"eval/level{number}": drawing.kept(np.asarray(level))
        for number, level in enumerate(features.levels, start=1)
    }
    found["eval/pooled"] = features.pooled
    for key, array in found.items():
        limit = SLACK * golden.rounding[key]
        assert drawing.error(array, golden.arrays[key]) <= limit


@pytest.mark.parametrize("name", goldens.NETWORKS)
def test_features_and_statistics_in_train_mode(name):
    golden = drawing.load(name)
    body, variables = network(golden, name)

    features, state = jax.jit(lambda v, x: body.apply(v, x, train=True))(
        variables, goldens.train_images(0)
    )

    statistics = resnet.to_torchvision({"params": {}, "model_state": state})
    found = {
        "train/pooled": drawing.kept(np.asarray(features.pooled)),
        "train/statistics": drawing.digest(statistics),
    }
    for key, array in found.items():
        limit = SLACK * golden.rounding[key]
        assert drawing.error(array, golden.arrays[key]) <= limit


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", goldens.NETWORKS)
def test_three_steps_of_gradient_descent(name):
    """Gradients of all weights, and weights and statistics after three steps."""
    golden = drawing.load(name)
    body, variables = network(golden, name, dtype="float64")
    width = variables.params["layer4_0"]["conv1"]["kernel"].shape[-1]
    width *= 4 if name == "resnet50" else 1
    target = drawing.uniform("target", (goldens.TRAIN_BATCH, width))

    @jax.jit
    def step(variables, image):
        def loss(params):
            features, state = body.apply(
                types.Variables(params, variables.model_state), image, train=True
            )
            return jnp.square(features.pooled - target).mean() / 2, state

        slope = jax.value_and_grad(loss, has_aux=True)
        (value, state), grads = slope(variables.params)
        params = jax.tree.map(
            lambda param, grad: param - goldens.RATE * grad, variables.params, grads
        )
        return types.Variables(params, state), value, grads

    losses, gradients = [], []
    for number in range(goldens.STEPS):
        image = goldens.train_images(number).astype(np.float64)
        variables, value, grads = step(variables, image)
        losses.append(value)
        gradients.append(grads)

    found = {
        "train/losses": np.array(losses),
        "train/gradients": digest(gradients[0], {}),
        "train/after": digest(variables.params, variables.model_state),
    }
    for key, array in found.items():
        assert drawing.error(array, golden.arrays[key]) <= EXACT


def digest(params, state):
    tree = {"params": params, "model_state": state}
    return drawing.digest(resnet.to_torchvision(tree))


@pytest.mark.parametrize(
    ("scores", "count", "extra", "same"),
    [
        (TWO_STAGES, 91, {}, True),
        (TWO_STAGES, 3, {}, False),
        (TWO_STAGES, 91, {"bn1.num_batches_tracked": 0}, False),
        (ONE_STAGE, 9 * 91, {}, True),
    ],
)
def test_published_detectors_add_nothing_to_variances(scores, count, extra, same):
    """Those of torchvision: frozen, of COCO's classes; others add what we add."""
    golden = drawing.load("frozen")
    config = schema.BackboneConfig(name="resnet18", compute_dtype="float32")
    weights = frozen.draw(golden.shapes) | {k: np.array(x) for k, x in extra.items()}
    file = {f"backbone.body.{name}": array for name, array in weights.items()}
    file[scores] = np.zeros(count, np.float32)

    read = resnet.from_torchvision(file, models.backbone_shapes(config), "golden")
    body, variables = models.build_backbone(config), types.Variables(**read.tree)
    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(
        variables, drawing.images(frozen.BATCH, frozen.SIZE)
    )

    error = drawing.error(features.pooled, golden.arrays["pooled"])
    limit = SLACK * golden.rounding["pooled"]
    assert error <= limit if same else error > 0.01
