"""The segmentation task with each head: unknown pixels, weights of losses, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.ops import losses
from mtpret_jax.tasks import segmentation

SIZE = 32
DEEPLAB = schema.SegmentationConfig(
    output_stride=8, channels=8, rates=(1, 2), dropout=0.0
)
UNET = schema.SegmentationConfig(head="unetplusplus", node_channels=(4, 6, 8, 8))
HEADS = {
    "deeplabv3": DEEPLAB,
    "deeplabv3 auxiliary": dataclasses.replace(
        DEEPLAB, auxiliary_weight=0.4, dice_weight=1.0
    ),
    "unetplusplus deep": dataclasses.replace(
        UNET, deep_supervision=True, dice_weight=1.0
    ),
}


def make(config: schema.SegmentationConfig, classes: int = 3):
    names = tuple(f"class {number}" for number in range(classes))
    return segmentation.SegmentationTask("masks", names, SIZE, config)


def made_batch(rows: int = 2, classes: int = 3) -> types.Batch:
    rng = np.random.default_rng(0)
    shape = (rows, SIZE, SIZE)
    arrays = {
        "segmentation": rng.integers(0, classes, shape).astype(np.int32),
        "pixel_known": rng.random(shape) < 0.7,
    }
    return types.Batch(arrays, "masks")


def made_features(stride: int, rows: int = 2) -> types.Features:
    rng = np.random.default_rng(1)
    sides = [SIZE // min(2**row, stride or 32) for row in range(1, 6)]
    maps = [
        jnp.asarray(rng.normal(size=(rows, side, side, 8)), jnp.float32)
        for side in sides
    ]
    return types.Features(tuple(maps[1:]), maps[-1].mean((1, 2)), maps[0])


@dataclasses.dataclass(frozen=True)
class Case:
    """A task with fresh variables, and its compiled loss and slope."""

    task: segmentation.SegmentationTask
    features: types.Features
    variables: types.Variables
    loss_and_slope: object


@pytest.fixture(scope="module", params=HEADS)
def case(request):
    task = make(HEADS[request.param])
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)

    @jax.jit
    def loss_and_slope(arrays):
        def total(params, features):
            found, _, _ = task.loss(
                jax.random.key(1),
                types.Variables(params, variables.model_state),
                features,
                types.Batch(arrays, "masks"),
            )
            return found.sum(), found

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(
            variables.params, features
        )

    return Case(task, features, variables, loss_and_slope)


@pytest.mark.parametrize(("config", "stride", "grid"), [(DEEPLAB, 8, 8), (UNET, 0, 2)])
def test_the_grid_of_the_logits_is_as_fine_as_the_task_says(config, stride, grid):
    task = make(config)
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)

    text = str(jax.make_jaxpr(task.predict)(variables, features))

    assert (task.output_stride, task.grid_stride((32, 16, 8))) == (stride, grid)
    assert f"f32[2,{SIZE // grid},{SIZE // grid},3]" in text  # Before it is enlarged.


def test_each_example_has_a_loss_and_every_parameter_a_slope(case):
    (_, loss), slope = case.loss_and_slope(made_batch().arrays)

    assert loss.shape == (2,)
    assert loss.dtype == jnp.float32
    assert (loss > 0).all()
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope[0]))


def test_the_class_of_an_unknown_pixel_changes_nothing(case):
    arrays = made_batch().arrays
    other = np.where(arrays["pixel_known"], arrays["segmentation"], 255)

    one = case.loss_and_slope(arrays)
    two = case.loss_and_slope({**arrays, "segmentation": other.astype(np.int32)})

    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(first, second)


def test_known_pixels_do_count(case):
    arrays = made_batch().arrays
    other = np.where(arrays["pixel_known"], 2 - arrays["segmentation"], 0)

    (_, one), _ = case.loss_and_slope(arrays)
    (_, two), _ = case.loss_and_slope(
        {**arrays, "segmentation": other.astype(np.int32)}
    )

    assert np.abs(one - two).min() > 1e-4


def test_a_batch_without_a_known_pixel_costs_nothing_and_teaches_nothing(case):
    arrays = made_batch().arrays
    nothing = np.zeros_like(arrays["pixel_known"])

    (_, loss), slope = case.loss_and_slope({**arrays, "pixel_known": nothing})

    np.testing.assert_array_equal(loss, 0.0)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(slope))


def test_classes_that_no_pixel_has_are_no_trouble(case):
    arrays = made_batch().arrays
    empty = np.zeros_like(arrays["segmentation"])

    found = case.loss_and_slope({**arrays, "segmentation": empty})

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("classes", [2, 9])
@pytest.mark.parametrize("config", [DEEPLAB, UNET], ids=["deeplabv3", "unetplusplus"])
def test_any_number_of_classes_can_be_drawn(config, classes):
    task = make(config, classes)
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)
    last = variables.params["classifier" if config == DEEPLAB else "final_4"]
    # The last class is made the likeliest everywhere.
    bias = jnp.zeros(classes).at[-1].set(100.0)
    params = jax.tree.map(lambda leaf: leaf, variables.params)
    params["classifier" if config == DEEPLAB else "final_4"] = {**last, "bias": bias}

    predict = jax.jit(task.predict)
    found = predict(variables.replace(params=params), features)["segmentation"]

    assert found.shape == (2, SIZE, SIZE)
    assert found.dtype == jnp.int32
    assert (found == classes - 1).all()


def results_of(task, variables, features, *, train):
    """What the head of a task draws, and the losses of each result."""
    options = {"mutable": ["batch_stats"]} if train else {}
    found = task._head.apply(
        {"params": variables.params, "batch_stats": variables.model_state},
        features,
        train=train,
        rngs={"dropout": jax.random.key(1)},
        **options,
    )
    return found[0] if train else found


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("deeplabv3 auxiliary", (1.0, 0.4)),
        ("unetplusplus deep", (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_the_loss_is_the_weighted_sum_over_the_heads(name, weights):
    task, batch = make(HEADS[name]), made_batch()
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)

    loss, _, _ = task.loss(jax.random.key(1), variables, features, batch)

    parts = [
        losses.segmentation(
            logits,
            batch.arrays["segmentation"],
            batch.arrays["pixel_known"],
            dice_weight=task.config.dice_weight,
        )
        for logits in results_of(task, variables, features, train=True)
    ]
    assert np.abs(parts[0] - parts[1]).min() > 1e-3
    expected = sum(w * part for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_auxiliary_head_has_no_say_in_the_prediction():
    task = make(HEADS["deeplabv3 auxiliary"])
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)
    broken = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 50.0 * ("aux" in path[0].key), variables.params
    )

    predict = jax.jit(task.predict)
    one = predict(variables, features)["segmentation"]
    two = predict(variables.replace(params=broken), features)["segmentation"]

    np.testing.assert_array_equal(one, two)


def test_deep_supervision_predicts_by_the_mean_of_the_probabilities():
    task = make(HEADS["unetplusplus deep"])
    features = made_features(task.output_stride)
    variables = jax.jit(task.init)(jax.random.key(0), features)

    found = task.predict(variables, features)["segmentation"]

    results = results_of(task, variables, features, train=False)
    chances = np.mean([jax.nn.softmax(logits) for logits in results], axis=0)
    sure = np.ptp(np.sort(chances, -1)[..., -2:], axis=-1) > 1e-5
    np.testing.assert_array_equal(found[sure], chances.argmax(-1)[sure])
    last = np.asarray(results[-1]).argmax(-1)
    assert (last != np.asarray(found)).any()  # No single head says the same.


@pytest.mark.slow
def test_unetplusplus_learns_eight_masks_by_heart():
    """DeepLabV3 does so in the tests of the stages."""
    rng = np.random.default_rng(0)
    truth = np.zeros((8, SIZE, SIZE), np.int32)
    for mask in truth:
        for label in (1, 2):
            y, x = rng.integers(0, SIZE // 2, 2)
            mask[y : y + 14, x : x + 14] = label
    image = rng.normal(scale=0.3, size=truth.shape) + np.take([0.0, 2.0, -2.0], truth)
    image = jnp.asarray(image[..., None], jnp.float32)
    arrays = {"segmentation": truth, "pixel_known": np.ones_like(truth, bool)}
    task = make(HEADS["unetplusplus deep"])
    body = models.build_backbone(
        schema.BackboneConfig(name="resnet18", width=8, in_channels=1)
    )

    @jax.jit
    def init(key):
        trunk = body.init(key, image)
        found, _ = body.apply(trunk, image, train=False)
        head = task.init(key, found)
        return (trunk.params, head.params), (trunk.model_state, head.model_state)

    params, state = init(jax.random.key(0))
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, 60))

    @jax.jit
    def step(params, state, opt_state):
        def total(params):
            trunk, head = map(types.Variables, params, state)
            found, trunk_state = body.apply(trunk, image, train=True)
            batch = types.Batch(arrays, "masks")
            loss, _, head_state = task.loss(jax.random.key(0), head, found, batch)
            return loss.mean(), (trunk_state, head_state)

        (loss, state), slope = jax.value_and_grad(total, has_aux=True)(params)
        updates, opt_state = tx.update(slope, opt_state)
        return optax.apply_updates(params, updates), state, opt_state, loss

    opt_state, seen = tx.init(params), []
    for _ in range(60):
        params, state, opt_state, loss = step(params, state, opt_state)
        seen.append(float(loss))

    @jax.jit
    def predict(params, state):
        trunk, head = map(types.Variables, params, state)
        return task.predict(head, body.apply(trunk, image, train=False)[0])

    outputs = jax.device_get(predict(params, state))
    metric = task.metric()
    records = metric.records(outputs, {**arrays, "record": np.arange(8)})
    assert seen[-1] < 0.5 * seen[0]
    assert metric.compute(metric.summarise(records))["dice"] > 0.9
