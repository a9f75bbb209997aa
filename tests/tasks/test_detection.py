"""Tests of the detection task: losses, sampling, prediction, overfit."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import faster_rcnn
from mtpret_jax.ops import boxes
from mtpret_jax.tasks import detection, samples

SIZE = 64
CONFIG = schema.DetectionConfig(
    channels=16,
    anchor_sizes=(8, 16, 32, 64, 128),
    proposals_before_nms=50,
    proposals=40,
    regions=32,
    hidden=32,
    max_boxes=4,
    detections=10,
)
TASK = detection.DetectionTask("boxes", ("bright", "dark"), SIZE, CONFIG)


class TinyBackbone(nn.Module):
    """Strided convolutions to four levels."""

    @nn.compact
    def __call__(self, image):
        levels, hidden = [], nn.relu(nn.Conv(8, (5, 5), strides=2)(image))
        for _ in range(4):
            hidden = nn.relu(nn.Conv(16, (3, 3), strides=2)(hidden))
            levels.append(hidden)
        return types.Features(tuple(levels), hidden.mean((1, 2)), image)


def _phantoms(count):
    """Noise with one bright and sometimes one dark rectangle."""
    rng = np.random.default_rng(0)
    image = rng.normal(scale=0.2, size=(count, SIZE, SIZE, 1)).astype(np.float32)
    box = np.zeros((count, CONFIG.max_boxes, 4), np.float32)
    box_class = np.zeros((count, CONFIG.max_boxes), np.int32)
    box_valid = np.zeros((count, CONFIG.max_boxes), bool)
    for i in range(count):
        for j in range(1 + i % 2):
            height, width = rng.integers(10, 26, 2)
            y = rng.integers(0, SIZE - height)
            x = j * SIZE // 2 + rng.integers(0, SIZE // 2 - width)
            image[i, y : y + height, x : x + width] += 2.0 if j == 0 else -2.0
            box[i, j] = np.array([y, x, y + height, x + width]) / SIZE
            box_class[i, j], box_valid[i, j] = j, True
    return types.Batch(
        {
            "image": image,
            "box": box,
            "box_class": box_class,
            "box_valid": box_valid,
            "example_valid": np.ones(count, bool),
            "record": np.arange(count, dtype=np.int32),
        },
        "boxes",
    )


@pytest.fixture(scope="module")
def fake():
    """A batch, random features, fresh variables and the compiled loss."""
    batch, key = _phantoms(4), jax.random.key(5)
    levels = tuple(
        jax.random.normal(key, (4, SIZE // s, SIZE // s, 8)) for s in (4, 8, 16, 32)
    )
    features = types.Features(levels, jnp.zeros((4, 8)), jnp.zeros((4, 32, 32, 8)))
    variables = jax.jit(TASK.init)(key, features)

    @jax.jit
    def loss_and_slope(key, params, features, batch):
        def total(params, features):
            loss, scalars, _ = TASK.loss(
                key, types.Variables(params, {}), features, batch
            )
            return loss.mean(), (loss, scalars)

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, features)

    return batch, features, variables, loss_and_slope


def _finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.smoke
def test_loss_is_the_sum_of_its_parts_for_each_example(fake, key):
    batch, features, variables, loss_and_slope = fake

    (_, (loss, scalars)), slope = loss_and_slope(key, variables.params, features, batch)

    assert loss.shape == (4,)
    assert loss.dtype == jnp.float32
    assert set(scalars) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
    np.testing.assert_allclose(loss.mean(), sum(scalars.values()), rtol=1e-5)
    assert scalars["rpn_objectness"] == pytest.approx(np.log(2), abs=0.1)
    assert _finite(slope)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope[0]))
    assert all(np.any(level != 0) for level in slope[1].levels)


def test_images_without_boxes_give_finite_loss_and_gradients(fake, key):
    batch, features, variables, loss_and_slope = fake
    empty = {name: np.zeros_like(batch.arrays[name]) for name in ("box", "box_valid")}
    batch = batch.replace(arrays={**batch.arrays, **empty})

    (_, (loss, scalars)), slope = loss_and_slope(key, variables.params, features, batch)

    assert _finite((loss, slope))
    assert (loss > 0).all()
    assert (scalars["rpn_box"], scalars["roi_box"]) == (0, 0)


def test_padding_of_boxes_does_not_change_the_loss(fake, key):
    batch, features, variables, loss_and_slope = fake
    rubbish = np.where(
        batch.arrays["box_valid"][..., None], batch.arrays["box"], [0.2, 0.2, 0.9, 0.9]
    ).astype(np.float32)
    other = batch.replace(arrays={**batch.arrays, "box": rubbish})

    (_, (loss, _)), _ = loss_and_slope(key, variables.params, features, batch)
    (_, (same, _)), _ = loss_and_slope(key, variables.params, features, other)

    np.testing.assert_allclose(same, loss, rtol=1e-6)


def test_parts_are_means_over_valid_examples(fake, key):
    batch, features, variables, loss_and_slope = fake
    arrays = {**batch.arrays, "example_valid": np.array([True, False, False, True])}

    (_, (loss, scalars)), _ = loss_and_slope(
        key, variables.params, features, batch.replace(arrays=arrays)
    )

    expected = (loss[0] + loss[3]) / 2
    np.testing.assert_allclose(sum(scalars.values()), expected, rtol=1e-5)


def test_a_batch_of_padding_alone_gives_nothing_to_learn(fake, key):
    batch, features, variables, loss_and_slope = fake
    empty = {name: np.zeros_like(array) for name, array in batch.arrays.items()}

    (_, (loss, scalars)), slope = loss_and_slope(
        key, variables.params, features, batch.replace(arrays=empty)
    )

    assert _finite((loss, slope))
    assert set(map(float, scalars.values())) == {0.0}


def test_each_half_draws_its_own_number_and_share(fake, key, monkeypatch):
    """Of 256 anchors half may be positive, of the regions a quarter."""
    batch, features, variables, _ = fake
    drawn = []
    sample = boxes.sample

    def record(key, verdict, *, count, positive_fraction):
        drawn.append((verdict.shape, count, positive_fraction))
        return sample(key, verdict, count=count, positive_fraction=positive_fraction)

    monkeypatch.setattr(boxes, "sample", record)
    jax.eval_shape(TASK.loss, key, variables, features, batch)

    anchors = 3 * (16**2 + 8**2 + 4**2 + 2**2 + 1)
    regions = CONFIG.proposals + CONFIG.max_boxes
    assert drawn == [((anchors,), 256, 0.5), ((regions,), CONFIG.regions, 0.25)]


def test_an_image_of_which_nothing_is_drawn_has_no_loss():
    nothing = np.zeros(2, bool)
    target = np.ones((2, 4), np.float32)
    candidate = {"positive": np.zeros(2, bool), "target": target}
    region = {"class": np.zeros(2, np.int32), "target": target}

    first = samples.proposal_losses(jnp.ones(2), jnp.zeros((2, 4)), candidate, nothing)
    second = samples.region_losses(
        jnp.ones((2, 3)), jnp.zeros((2, 3, 4)), region, nothing
    )

    assert set(map(float, (first | second).values())) == {0.0}


def test_region_losses_by_hand():
    """Two regions, one slot empty: entropy ln 3 each; |1| costs 1 - 1/18, once."""
    region = {
        "class": jnp.array([2, 0, 1]),
        "target": jnp.array([[1.0, 0, 0, 0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]]),
    }
    drawn = jnp.array([True, True, False])

    found = samples.region_losses(
        jnp.zeros((3, 3)), jnp.zeros((3, 3, 4)), region, drawn
    )

    np.testing.assert_allclose(found["roi_class"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(found["roi_box"], (1 - 1 / 18) / 2, rtol=1e-6)


def test_proposal_losses_by_hand():
    """One anchor on the box, one far off: entropy ln 2; |0.5| costs 0.5 - 1/18."""
    anchor = jnp.array([[0.0, 0.0, 10.0, 10.0], [30.0, 30.0, 40.0, 40.0]])
    truth = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    matched = samples.match_anchors(anchor, truth, jnp.array([True, False]))

    found = samples.proposal_losses(
        jnp.zeros(3),
        jnp.full((3, 4), 0.5),
        samples.anchor_targets(anchor, truth, *matched, jnp.array([0, 1, 0])),
        jnp.array([True, True, False]),
    )

    np.testing.assert_allclose(found["rpn_objectness"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(found["rpn_box"], 4 * (0.5 - 1 / 18) / 2, rtol=1e-6)


def test_ground_truth_joins_the_regions_and_padding_does_not():
    truth = jnp.array([[10.0, 10.0, 30.0, 30.0], [0.0, 0.0, 20.0, 20.0]])
    proposal = jnp.array([[40.0, 40.0, 60.0, 60.0], [0.0, 0.0, 20.0, 20.0]])

    region = samples.region_targets(
        proposal,
        jnp.array([True, False]),
        truth,
        jnp.array([True, False]),
        jnp.array([1, 0]),
    )

    np.testing.assert_array_equal(region["box"], [*proposal, *truth])
    np.testing.assert_array_equal(
        region["verdict"],
        [boxes.NEGATIVE, boxes.IGNORED, boxes.POSITIVE, boxes.IGNORED],
    )
    np.testing.assert_array_equal(region["class"], [0, 0, 2, 0])
    np.testing.assert_allclose(region["target"][2], 0.0, atol=1e-6)


@pytest.mark.smoke
def test_predict_gives_fractions_in_falling_order(fake):
    _, features, variables, _ = fake

    found = jax.jit(TASK.predict)(variables, features)

    assert found["box"].shape == (4, 10, 4)
    assert found["class"].dtype == jnp.int32
    assert found["valid"].dtype == bool
    assert ((found["box"] >= 0) & (found["box"] <= 1)).all()
    assert (np.diff(found["score"], axis=1) <= 0).all()


def test_a_dilated_backbone_is_refused(key):
    level = jnp.zeros((1, 8, 8, 4))
    features = types.Features((level, level, level, level), level[:, 0, 0], level)

    with pytest.raises(ValueError, match="output_stride=32"):
        TASK.init(key, features)


def test_anchor_sizes_must_cover_five_levels():
    config = dataclasses.replace(CONFIG, anchor_sizes=(8, 16))

    with pytest.raises(ValueError, match=r"tasks\.boxes\.detection\.anchor_sizes"):
        detection.DetectionTask("boxes", ("a",), SIZE, config)


def test_weights_of_the_box_code_are_torchvisions():
    assert faster_rcnn.PROPOSAL_WEIGHTS == (1, 1, 1, 1)
    assert faster_rcnn.REGION_WEIGHTS == (10, 10, 5, 5)
