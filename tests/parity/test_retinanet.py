"""Parity of one-stage detection with torchvision: in parts, and a whole network."""

import functools

import drawing
import jax
import jax.numpy as jnp
import make_detection_goldens as pieces
import make_retinanet_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import retinanet
from mtpret_jax.ops import boxes
from mtpret_jax.tasks import detection, samples
from mtpret_jax.weights import conversion

SLACK = 10  # times the difference of torchvision's own float32
CONFIG = schema.DetectionConfig(
    head="retinanet",
    anchor_sizes=goldens.ANCHOR_SIZES,
    candidates=goldens.CANDIDATES,
    detections=goldens.DETECTIONS,
    score_threshold=goldens.SCORE_THRESHOLD,
)
TASK = detection.DetectionTask("boxes", ("a", "b"), goldens.SIZE, CONFIG)


@functools.cache
def golden():
    return drawing.load("retinanet_resnet18")


def check(name, found):
    """Compares with a golden array, each row relative to its largest number."""
    wanted, limit = golden().arrays[name], SLACK * golden().rounding[name]
    assert np.isfinite(found).all()
    assert drawing.error(found, wanted) <= limit


def check_detections(found, prefix=""):
    arrays, valid = golden().arrays, np.asarray(found["valid"])
    np.testing.assert_array_equal(valid.sum(1), arrays[f"{prefix}detection_count"])
    label = np.where(valid, found["class"], 0)
    np.testing.assert_array_equal(label, arrays[f"{prefix}detection_class"])
    check(f"{prefix}detection_score", found["score"])
    check(f"{prefix}detection_box", found["box"])


def truth():
    """Pixels [3, 3, 4], valid [3, 3], classes [3, 3]."""
    box, valid = np.zeros((3, 3, 4), np.float32), np.zeros((3, 3), bool)
    label = np.zeros((3, 3), np.int32)
    for i, (rows, classes) in enumerate(goldens.other.TRUTH):
        for j, (row, one) in enumerate(zip(rows, classes, strict=True)):
            box[i, j], valid[i, j], label[i, j] = row, True, one - 1
    return box, valid, label


def anchors():
    levels = [jnp.zeros((1, side, side, 1)) for side in goldens.GRIDS]
    body = [jnp.zeros((1, side, side, 1)) for side in (24, 12, 6, 3)]
    return TASK.head.anchors(levels, body)


@pytest.mark.smoke
def test_anchors_of_several_sizes_a_level():
    np.testing.assert_array_equal(np.concatenate(anchors()), golden().arrays["anchors"])


def test_matches():
    """Of the anchors of each image, and of boxes that often overlap alike."""
    numbers = {boxes.NEGATIVE: -1, boxes.IGNORED: -2}

    def match(candidate, box, valid):
        index, verdict = samples.match_dense(candidate, box, valid)
        pairs = zip(index.tolist(), verdict.tolist(), strict=True)
        return [numbers.get(said, place) for place, said in pairs]

    box, valid, _ = truth()
    found = [
        match(np.concatenate(anchors()), *one) for one in zip(box, valid, strict=True)
    ]
    np.testing.assert_array_equal(found, golden().arrays["matched"])
    found = match(
        pieces.whole_boxes("candidates", 400),
        pieces.whole_boxes("truth", 8),
        np.ones(8, bool),
    )
    np.testing.assert_array_equal(found, golden().arrays["matched_candidates"])
    assert set(found) > {-2, -1}


def test_losses_and_detections_of_drawn_outputs():
    logit, offset = map(jnp.asarray, goldens.outputs())
    counts = np.cumsum([len(level) for level in anchors()])[:-1]

    losses = jax.vmap(samples.dense_losses, in_axes=(0, 0, None, 0, 0, 0))(
        logit, offset, np.concatenate(anchors()), *truth()
    )
    found = retinanet.select_detections(
        jnp.split(logit, counts, axis=1),
        jnp.split(offset, counts, axis=1),
        anchors(),
        image_size=goldens.SIZE,
        score_threshold=goldens.SCORE_THRESHOLD,
        nms_threshold=0.5,
        before_nms=goldens.CANDIDATES,
        count=goldens.DETECTIONS,
    )

    both = [losses["anchor_box"], losses["anchor_class"]]
    check("part_losses", jnp.stack(both, axis=1))
    check_detections(found, "part_")


def batch():
    """The truth of three images."""
    box, valid, label = truth()
    arrays = {
        "box": boxes.to_fractions(box, image_size=goldens.SIZE),
        "box_valid": valid,
        "box_class": label,
        "example_valid": np.ones(3, bool),
    }
    return types.Batch(arrays, "boxes")


def test_a_whole_network():
    """Image to detections, losses of each image, and their gradients."""
    body = models.build_backbone(schema.BackboneConfig(name="resnet18"))
    image = drawing.images(3, goldens.SIZE)

    def init(key):
        drawn = body.init(key, image)
        features, _ = body.apply(drawn, image, train=False)
        return drawn, TASK.init(key, features)

    shapes = jax.eval_shape(init, jax.random.key(0))
    expected = dict(zip(("backbone", "head"), map(vars, shapes), strict=True))
    weights = goldens.weights(golden().shapes)
    tree = conversion.from_torchvision(weights, expected, "detection", "here").tree

    @jax.jit
    def run(params):
        state = tree["backbone"]["model_state"]
        features, _ = body.apply(
            types.Variables(params["backbone"], state), image, train=False
        )
        head = types.Variables(params["head"], {})
        levels, *_ = TASK.head.module(features.levels).apply(
            {"params": head.params}, features.levels
        )
        loss, parts, _ = TASK.loss(jax.random.key(0), head, features, batch())
        return loss.sum(), (levels, TASK.predict(head, features), loss, parts)

    params = {part: tree[part]["params"] for part in tree}
    slope, (levels, found, loss, parts) = jax.grad(run, has_aux=True)(params)

    for number, level in enumerate(levels, start=3):
        check(f"P{number}", goldens.other.corner(level))
    found["box"] = boxes.from_fractions(found["box"], image_size=goldens.SIZE)
    check_detections(found)
    wanted = golden().arrays["losses"]
    limit = SLACK * golden().rounding["losses"]
    np.testing.assert_allclose(loss, wanted.sum(1), rtol=limit)
    np.testing.assert_allclose(
        [parts["anchor_box"], parts["anchor_class"]], wanted.mean(0), rtol=limit
    )
    named, _ = conversion.to_torchvision(
        {part: {**tree[part], "params": slope[part]} for part in tree}, "detection"
    )
    learnt = {
        name: array
        for name, array in named.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    check("gradients", drawing.digest(learnt))
