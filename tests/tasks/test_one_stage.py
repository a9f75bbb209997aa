"""Tests of one-stage detection: losses by hand, odd truth, prediction, levels."""

import dataclasses
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import retinanet
from mtpret_jax.ops import boxes
from mtpret_jax.tasks import detection, samples

SIZE, COUNT = 64, 3
CONFIG = schema.DetectionConfig(
    head="retinanet",
    channels=16,
    anchor_sizes=(8, 12, 16, 24, 32, 40, 48, 56, 64, 96),
    candidates=40,
    max_boxes=4,
    detections=10,
    score_threshold=0.0,
)
TASK = detection.DetectionTask("boxes", ("bright", "dark"), SIZE, CONFIG)
# y0, x0, y1, x1 in pixels: one of each class, none, three odd ones.
TRUTH = (
    [[10.0, 12.0, 30.0, 40.0], [40.0, 30.0, 52.0, 42.0]],
    [],
    [[0.0, 0.0, 64.0, 64.0], [30.0, 20.0, 30.5, 20.5], [10.0, 0.0, 10.25, 64.0]],
)


def truth(rows, rubbish=0.0):
    """A batch with these boxes, of classes in turn, and other numbers as padding."""
    box = np.full((COUNT, CONFIG.max_boxes, 4), rubbish, np.float32)
    for i, row in enumerate(rows):
        box[i, : len(row)] = np.reshape(row, (-1, 4)) / SIZE
    shape = (COUNT, CONFIG.max_boxes)
    count = np.array([len(row) for row in rows])
    arrays = {
        "box": box,
        "box_class": np.broadcast_to(np.arange(shape[1], dtype=np.int32) % 2, shape),
        "box_valid": np.arange(shape[1]) < count[:, None],
        "example_valid": np.ones(COUNT, bool),
    }
    return types.Batch(arrays, "boxes")


@pytest.fixture(scope="module")
def fake():
    """Random features, fresh variables, the compiled loss with its slope."""
    key = jax.random.key(5)
    levels = tuple(
        jax.random.normal(key, (COUNT, SIZE // s, SIZE // s, 8)) for s in (4, 8, 16, 32)
    )
    features = types.Features(levels, jnp.zeros((COUNT, 8)), levels[0])
    variables = jax.jit(TASK.init)(key, features)

    @jax.jit
    def loss_and_slope(params, batch):
        def total(params):
            head = types.Variables(params, {})
            loss, scalars, _ = TASK.loss(key, head, features, batch)
            return loss.sum(), (loss, scalars)

        return jax.value_and_grad(total, has_aux=True)(params)

    return python_types.SimpleNamespace(
        features=features, variables=variables, run=loss_and_slope
    )


def test_loss_is_the_sum_of_its_parts_and_all_layers_learn(fake):
    (_, (loss, scalars)), slope = fake.run(fake.variables.params, truth(TRUTH))

    assert loss.shape == (COUNT,)
    assert set(scalars) == {"anchor_class", "anchor_box"}
    np.testing.assert_allclose(loss.mean(), sum(scalars.values()), rtol=1e-5)
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all()
        assert np.any(leaf != 0)


def test_an_image_without_boxes_learns_to_find_nothing(fake):
    (_, (loss, scalars)), slope = fake.run(fake.variables.params, truth([[]] * COUNT))

    assert (loss > 0).all()
    assert scalars["anchor_box"] == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(slope["regression_head"]))


def test_neither_padding_nor_boxes_without_area_change_the_loss(fake):
    (_, (loss, _)), _ = fake.run(fake.variables.params, truth(TRUTH))
    more = [[*row, [20.0, 20.0, 20.0, 50.0]] for row in TRUTH]

    for other in (truth(TRUTH, rubbish=0.7), truth(more)):
        (_, (same, _)), _ = fake.run(fake.variables.params, other)
        np.testing.assert_allclose(same, loss, rtol=1e-6)


def test_predict_gives_fractions_in_falling_order(fake):
    found = jax.jit(TASK.predict)(fake.variables, fake.features)

    assert found["box"].shape == (COUNT, 10, 4)
    assert found["valid"].all()
    assert ((found["box"] >= 0) & (found["box"] <= 1)).all()
    assert (np.diff(found["score"], axis=1) <= 0).all()
    # An untrained network gives each class the prior.
    np.testing.assert_allclose(found["score"], retinanet.PRIOR, rtol=0.5)


def test_prediction_is_exported_for_any_number_of_images(fake):
    (count,) = export.symbolic_shape("b")
    features = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype),
        fake.features,
    )

    made = export.export(jax.jit(TASK.predict))(fake.variables, features)

    assert {array.shape[0] for array in made.out_avals} == {count}


def test_losses_by_hand():
    """An anchor on its box, one far off and one between: ln 2 weighed by 1/4."""
    anchor = jnp.array([[0.0, 0, 10, 10], [30, 30, 40, 40], [0, 0, 10, 4.5]])
    target = jnp.array([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])

    found = samples.dense_losses(
        jnp.zeros((3, 2)),
        jnp.zeros((3, 4)).at[0, 0].set(1.0),
        anchor,
        target,
        jnp.array([True, False]),
        jnp.array([1, 0]),
    )

    # One positive label of 4, three negative ones; the one between does not count.
    expected = (0.25 + 3 * 0.75) * np.log(2) / 4
    np.testing.assert_allclose(found["anchor_class"], expected, rtol=1e-6)
    # Moved by its width: no overlap, and nothing empty in the box around both.
    np.testing.assert_allclose(found["anchor_box"], 1.0, rtol=1e-6)


def test_overlap_is_generalised_below_zero():
    box = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    other = jnp.array([[0.0, 0, 10, 10], [0, 0, 5, 10], [30, 0, 40, 10]])

    found = boxes.generalised_iou(box, other)

    np.testing.assert_allclose(found, [1.0, 0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize(("finest", "levels"), [(3, 5), (2, 6)])
def test_the_finest_level_is_an_option(fake, finest, levels):
    config = dataclasses.replace(
        CONFIG, finest_level=finest, anchor_sizes=(8,) * levels
    )
    head = detection.DetectionTask("boxes", ("a",), SIZE, config).head

    def run(key):
        module = head.module(fake.features.levels)
        return module.init_with_output(key, fake.features.levels)

    (found, logits, _), variables = jax.eval_shape(run, jax.random.key(0))

    sides = [-(-SIZE // 2**level) for level in range(finest, 8)]
    assert [level.shape[1] for level in found] == sides
    assert logits[0].shape == (COUNT, 3 * sides[0] ** 2, 1)
    fpn = variables["params"]["fpn"]
    assert sum(name.startswith("inner") for name in fpn) == levels - 2
    anchors = head.anchors(found, fake.features.levels)
    assert [len(anchor) for anchor in anchors] == [level.shape[1] for level in logits]


def test_sizes_must_cover_all_levels_alike():
    config = dataclasses.replace(CONFIG, anchor_sizes=(8, 16, 32, 64, 96, 128))

    with pytest.raises(ValueError, match="one size for each of P3 to P7, or as many"):
        detection.DetectionTask("boxes", ("a",), SIZE, config)


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (64, 8), (8, 1), (12, 3), (4, 1)]
)
def test_groups_are_of_eight_channels_as_torchvisions(channels, groups):
    assert retinanet.groups(channels) == groups
