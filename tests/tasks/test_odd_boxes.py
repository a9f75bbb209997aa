"""Detection on boxes that are odd: tiny, at borders, twice, without area, too many."""

import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.experiment import workshop
from mtpret_jax.ops import boxes
from mtpret_jax.tasks import detection, samples

SIZE = 64
TASK = detection.DetectionTask(
    "boxes",
    ("bright", "dark"),
    SIZE,
    schema.DetectionConfig(
        channels=8,
        anchor_sizes=(4, 8, 16, 32, 64),
        proposals_before_nms=50,
        proposals=40,
        regions=32,
        hidden=16,
        max_boxes=6,
        detections=10,
    ),
)
# y0, x0, y1, x1 in pixels.
ODD = {
    "tiny": [[30.0, 20.0, 30.5, 20.5], [61.0, 3.0, 62.0, 4.0]],
    "at borders": [[0.0, 0.0, 5.0, 64.0], [50.0, 60.0, 64.0, 64.0]],
    "the whole picture": [[0.0, 0.0, 64.0, 64.0]],
    "twice, of two classes": [[10.0, 10.0, 30.0, 30.0]] * 2,
    "one in the other": [[10.0, 10.0, 30.0, 30.0], [15.0, 15.0, 20.0, 20.0]],
    "as many as fit": [[8.0 * i, 0.0, 8.0 * i + 8, 8.0] for i in range(6)],
    "thin": [[10.0, 0.0, 10.25, 64.0]],
}
EMPTY = {
    "a point": [[20.0, 20.0, 20.0, 20.0]],
    "a line": [[20.0, 10.0, 20.0, 50.0]],
    "turned inside out": [[40.0, 40.0, 20.0, 20.0]],
}


def _batch(box):
    """One image with these boxes, classes in turn."""
    count = TASK.config.max_boxes
    padded = np.zeros((1, count, 4), np.float32)
    padded[0, : len(box)] = np.reshape(box, (-1, 4)) / SIZE
    arrays = {
        "box": padded,
        "box_class": np.arange(count, dtype=np.int32)[None] % 2,
        "box_valid": (np.arange(count) < len(box))[None],
        "example_valid": np.ones(1, bool),
    }
    return types.Batch(arrays, "boxes")


@pytest.fixture(scope="module")
def loss_and_slope():
    """Of a batch, with features 100 times as large as usual."""
    key = jax.random.key(5)
    levels = tuple(
        100 * jax.random.normal(key, (1, SIZE // s, SIZE // s, 4))
        for s in (4, 8, 16, 32)
    )
    features = types.Features(levels, jnp.zeros((1, 4)), levels[0])
    variables = jax.jit(TASK.init)(key, features)

    @jax.jit
    def run(batch):
        def total(params, features):
            head = types.Variables(params, {})
            loss, scalars, _ = TASK.loss(key, head, features, batch)
            return loss.sum(), scalars

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(
            variables.params, features
        )

    return run


@pytest.mark.parametrize("box", [*ODD.values(), *EMPTY.values()], ids=[*ODD, *EMPTY])
def test_loss_and_gradients_are_finite(loss_and_slope, box):
    (loss, scalars), slope = loss_and_slope(_batch(box))

    for leaf in jax.tree.leaves((loss, scalars, slope)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("box", ODD.values(), ids=ODD)
def test_every_box_with_an_area_is_learnt(box):
    """Some anchor and, where two boxes are not the same, its own region."""
    truth = boxes.from_fractions(_batch(box).arrays["box"][0], image_size=SIZE)
    valid = _batch(box).arrays["box_valid"][0]
    label = _batch(box).arrays["box_class"][0]
    grids = [jnp.zeros((1, side, side, 1)) for side in (16, 8, 4, 2, 1)]
    anchor = jnp.asarray(np.concatenate(TASK.head.anchors(grids, grids)))

    matched, verdict = samples.match_anchors(anchor, truth, valid)
    positive = np.asarray(verdict) == boxes.POSITIVE
    first = samples.anchor_targets(
        anchor, truth, matched, verdict, np.flatnonzero(positive)
    )
    second = samples.region_targets(
        jnp.zeros((3, 4)), jnp.zeros(3, bool), truth, valid, label
    )

    assert first["positive"].all()
    overlap = np.asarray(boxes.iou(anchor, truth))[:, : len(box)]
    # The box that an anchor learns is the one that it overlaps most.
    taken = overlap[positive] == overlap[positive].max(1, keepdims=True)
    assert taken.any(0).all()
    found = np.asarray(second["verdict"])[3:]
    np.testing.assert_array_equal(found[: len(box)], boxes.POSITIVE)
    np.testing.assert_array_equal(found[len(box) :], boxes.IGNORED)
    assert np.isfinite(first["target"]).all()


@pytest.mark.parametrize("box", EMPTY.values(), ids=EMPTY)
def test_a_box_without_area_is_as_good_as_none(loss_and_slope, box):
    (loss, scalars), _ = loss_and_slope(_batch(box))
    (expected, _), _ = loss_and_slope(_batch([]))

    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert (scalars["rpn_box"], scalars["roi_box"]) == (0, 0)


def test_more_boxes_than_there_is_room_for_are_refused_before_anything_runs():
    task = schema.TaskConfig(
        kind="detection",
        dataset="bones",
        detection=schema.DetectionConfig(max_boxes=2),
    )
    index = [{"n_boxes": "2"}, {"n_boxes": ""}, {"n_boxes": "3"}]
    source = python_types.SimpleNamespace(
        index=index,
        name="bones",
        split="test",
        metadata=python_types.SimpleNamespace(object_names=("fracture",)),
    )
    shop = python_types.SimpleNamespace(
        config=python_types.SimpleNamespace(tasks={"fracture": task}),
        open_set=lambda name, split: source,
    )

    with pytest.raises(ValueError, match=r"fracture\.detection\.max_boxes: .* least 3"):
        workshop._check_split(shop, "fracture", "test")
