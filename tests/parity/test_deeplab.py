"""Parity of DeepLabV3 and its auxiliary head with torchvision; see test_resnet.py."""

import drawing
import jax
import jax.numpy as jnp
import make_deeplab_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.tasks import segmentation
from mtpret_jax.weights import conversion

SLACK = 10  # times PyTorch's own rounding in float32
EXACT = 2e-7  # in float64: rounding to float32 of the stored numbers and of ours


def network(golden, size, dtype="float32"):
    """Backbone, task, and torchvision's weights in both."""
    body = models.build_backbone(
        schema.BackboneConfig(name="resnet50", compute_dtype=dtype)
    )
    task = segmentation.SegmentationTask(
        "masks",
        tuple("abc"[: goldens.CLASSES]),
        size,
        schema.SegmentationConfig(
            output_stride=8,
            rates=goldens.RATES,
            dropout=0.0,
            auxiliary_weight=goldens.AUXILIARY_WEIGHT,
        ),
        jnp.dtype(dtype),
    )
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    key = jax.random.key(0)
    body_shapes = jax.eval_shape(body.init, key, image)
    features, _ = jax.eval_shape(
        lambda v, x: body.apply(v, x, train=False), body_shapes, image
    )
    head_shapes = jax.eval_shape(task.init, key, features)
    expected = {"backbone": vars(body_shapes), "head": vars(head_shapes)}
    weights = drawing.draw(golden.shapes)
    tree = conversion.from_torchvision(weights, expected, "segmentation", "golden").tree
    return body, task, jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def test_logits_of_both_heads():
    golden = drawing.load("deeplabv3_resnet50")
    body, task, tree = network(golden, goldens.EVAL_SIZE)
    head = segmentation.HEADS["deeplabv3"](task)

    @jax.jit
    def run(tree, image):
        variables = types.Variables(**tree["backbone"])
        features, _ = body.apply(variables, image, train=False, output_stride=8)
        found = tree["head"]
        collections = {"params": found["params"], "batch_stats": found["model_state"]}
        return head.apply(collections, features, train=False)

    results = run(tree, drawing.images(goldens.EVAL_BATCH, goldens.EVAL_SIZE))

    for name, logits in zip(goldens.HEADS, results, strict=True):
        found, key = goldens.some_pixels(np.asarray(logits)), f"eval/{name}"
        limit = SLACK * golden.rounding[key]
        assert drawing.error(found, golden.arrays[key]) <= limit


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_a_step_of_gradient_descent():
    """Losses with unknown pixels, gradients, and weights and statistics after it."""
    golden = drawing.load("deeplabv3_resnet50")
    body, task, tree = network(golden, goldens.TRAIN_SIZE, "float64")
    mask = goldens.masks()
    known = mask != goldens.UNKNOWN
    batch = types.Batch(
        {"segmentation": mask.astype(np.int32), "pixel_known": known}, "masks"
    )

    @jax.jit
    def slope(params, image):
        def total(params):
            features, body_state = body.apply(
                types.Variables(params["backbone"], tree["backbone"]["model_state"]),
                image,
                train=True,
                output_stride=task.output_stride,
            )
            head = types.Variables(params["head"], tree["head"]["model_state"])
            losses, _, state = task.loss(jax.random.key(0), head, features, batch)
            return losses.mean(), (losses, {"backbone": body_state, "head": state})

        return jax.grad(total, has_aux=True)(params)

    params = {part: tree[part]["params"] for part in tree}
    image = drawing.images(goldens.TRAIN_BATCH, goldens.TRAIN_SIZE)
    gradients, (losses, state) = slope(params, image.astype(np.float64))
    after = jax.tree.map(lambda x, grad: x - goldens.RATE * grad, params, gradients)

    empty = {"backbone": {}, "head": {}}
    found = {
        "train/losses": losses,
        "train/gradients": digest(gradients, empty),
        "train/after": digest(after, state),
    }
    for key, array in found.items():
        assert drawing.error(array, golden.arrays[key]) <= EXACT


def digest(params, state):
    tree = {
        part: {"params": params[part], "model_state": state[part]} for part in params
    }
    named, _ = conversion.to_torchvision(tree, "segmentation")
    return drawing.digest(
        {name: x for name, x in named.items() if "num_batches" not in name}
    )
