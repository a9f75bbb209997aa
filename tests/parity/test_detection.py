"""Parity of detection with torchvision, part by part and as whole networks.

The golden files hold what torchvision computed in float64, and how far its own float32
is from that (`rounding`). Ours is float32 too but adds up in other orders, so it may
be SLACK times as far. Choices (matches, samples, what is kept) are equal.
"""

import functools

import drawing
import jax
import jax.numpy as jnp
import make_detection_goldens as goldens
import make_fasterrcnn_goldens as whole
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import alignment, boxes, regions
from mtpret_jax.tasks import detection, samples, two_stage
from mtpret_jax.weights import conversion

SLACK = 10
STOCK_ANCHORS = (32.0, 64.0, 128.0, 256.0, 512.0)


@functools.cache
def golden(name="detection"):
    return drawing.load(name)


def check(name, found, *, of="detection"):
    """Compares with a golden array, each row relative to its largest number."""
    stored = golden(of)
    wanted, limit = stored.arrays[name], SLACK * stored.rounding[name]
    assert np.isfinite(found).all()
    assert drawing.error(found, wanted) <= limit


def check_equal(name, found, *, of="detection"):
    np.testing.assert_array_equal(found, golden(of).arrays[name])


def truth():
    """Pixels [3, 3, 4], valid [3, 3], classes from 0 [3, 3]."""
    box, valid = np.zeros((3, 3, 4), np.float32), np.zeros((3, 3), bool)
    label = np.zeros((3, 3), np.int32)
    for i, (rows, classes) in enumerate(whole.TRUTH):
        for j, (row, one) in enumerate(zip(rows, classes, strict=True)):
            box[i, j], valid[i, j], label[i, j] = row, True, one - 1
    return box, valid, label


def anchors(sizes=whole.ANCHOR_SIZES, image_size=whole.SIZE, grids=goldens.GRIDS):
    return regions.anchors(
        [(side, side) for side in grids],
        strides=pyramid.anchor_strides(image_size),
        sizes=sizes,
        ratios=whole.RATIOS,
    )


def match_anchors(box, valid):
    return jax.vmap(samples.match_anchors, in_axes=(None, 0, 0))(
        np.concatenate(anchors()), box, valid
    )


@pytest.mark.smoke
def test_anchors():
    check_equal("anchors", np.concatenate(anchors()))


def test_anchors_of_the_last_level_for_many_sizes():
    last = []
    for size in goldens.SIZES:
        sides = [size // 4, size // 8, size // 16, size // 32, (size // 32 + 1) // 2]
        last.append(anchors(image_size=size, grids=sides)[-1][-1])

    check_equal("last_anchors", last)


def test_box_code():
    reference = goldens.whole_boxes("reference", 40)
    weights = faster_rcnn.REGION_WEIGHTS

    encoded = boxes.encode(reference, goldens.whole_boxes("box", 40), weights=weights)
    decoded = boxes.decode(reference, goldens.offsets_to_decode(), weights=weights)

    check("encoded", encoded)
    check("decoded", decoded)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("matched_anchors", (0.7, 0.3, True)),
        ("matched_regions", (0.5, 0.5, False)),
    ],
)
def test_matches(name, options):
    positive_from, negative_below, low_quality = options

    index, verdict = boxes.match(
        goldens.whole_boxes("candidates", 400),
        goldens.whole_boxes("truth", 8),
        np.ones(8, bool),
        positive_from=positive_from,
        negative_below=negative_below,
        low_quality=low_quality,
    )

    numbers = {boxes.NEGATIVE: -1, boxes.IGNORED: -2}
    found = [numbers.get(int(v), int(i)) for i, v in zip(index, verdict, strict=True)]
    check_equal(name, found)


def test_proposal_losses_of_a_sample():
    box, valid, _ = truth()
    matched, verdict = match_anchors(box, valid)
    index = jnp.asarray(golden().arrays["sampled_anchors"].astype(int))
    targets = jax.vmap(samples.anchor_targets, in_axes=(None, 0, 0, 0, 0))(
        jnp.concatenate(anchors()), jnp.asarray(box), matched, verdict, index
    )
    first_half = map(jnp.asarray, goldens.first_half())
    logit, offset = (two_stage._rows(half, index) for half in first_half)

    losses = jax.vmap(samples.proposal_losses)(
        logit, offset, targets, np.ones(index.shape, bool)
    )

    drawn = np.take_along_axis(np.asarray(verdict), index, axis=1)
    assert (drawn != boxes.IGNORED).all()
    names = ("rpn_objectness", "rpn_box")
    check("proposal_losses", [losses[name].mean() for name in names])


@pytest.mark.parametrize(
    ("kind", "share"),
    [("anchors", two_stage.ANCHOR_POSITIVES), ("regions", two_stage.REGION_POSITIVES)],
)
def test_a_sample_has_as_many_positives_as_torchvisions(kind, share):
    if kind == "anchors":
        box, valid, _ = truth()
        _, verdict = match_anchors(box, valid)
    else:
        verdict = jax.vmap(samples.region_targets)(
            goldens.proposals(), np.ones((3, 100), bool), *truth()
        )["verdict"]
    theirs = golden().arrays[f"sampled_{kind}"].astype(int)
    keys = jax.random.split(jax.random.key(0), 3)

    ours, drawn = two_stage._draw(keys, verdict, theirs.shape[1], share=share)

    assert drawn.all()
    verdict = np.asarray(verdict)
    counts = [
        np.take_along_axis(verdict, np.asarray(index), axis=1).sum(1)
        for index in (ours, theirs)
    ]
    np.testing.assert_array_equal(*counts)


def test_proposals():
    cuts = np.cumsum([3 * side * side for side in goldens.GRIDS])[:-1]
    logits, offsets = (np.split(x, cuts, axis=1) for x in goldens.first_half())

    box, valid = faster_rcnn.select_proposals(
        logits,
        offsets,
        anchors(),
        image_size=whole.SIZE,
        before_nms=whole.BEFORE_NMS,
        count=whole.PROPOSALS,
    )

    check_equal("proposal_counts", valid.sum(1))
    check("proposals", jnp.where(valid[..., None], box, 0))


def test_levels_and_alignment_of_regions():
    box = goldens.region_boxes()
    options = {"finest_anchor": whole.ANCHOR_SIZES[0]}

    level = regions.assign_levels(box, level_count=4, **options)
    found = alignment.align(goldens.levels(), box, strides=pyramid.STRIDES, **options)

    check_equal("aligned_level", level.ravel())
    check("aligned", found.reshape(-1, 7, 7, 3))


def test_region_losses_of_a_sample():
    targets = jax.vmap(samples.region_targets)(
        goldens.proposals(), np.ones((3, 100), bool), *truth()
    )
    index = jnp.asarray(golden().arrays["sampled_regions"].astype(int))

    losses = jax.vmap(samples.region_losses)(
        *goldens.second_half(goldens.SAMPLED_REGIONS),
        two_stage._rows(targets, index),
        np.ones(index.shape, bool),
    )

    names = ("roi_class", "roi_box")
    check("region_losses", [losses[name].mean() for name in names])


def check_detections(found, *, of="detection"):
    valid = np.asarray(found["valid"])
    check_equal("detection_count", valid.sum(1), of=of)
    check_equal("detection_class", np.where(valid, found["class"] + 1, 0), of=of)
    check("detection_score", found["score"], of=of)
    check("detection_box", found["box"], of=of)


def test_detections():
    """Of two classes, above a score, without boxes of no size or cut off."""
    found = faster_rcnn.select_detections(
        *goldens.second_half(100),
        goldens.proposals(),
        np.ones((3, 100), bool),
        image_size=whole.SIZE,
        score_threshold=whole.SCORE_THRESHOLD,
        nms_threshold=0.5,
        count=goldens.DETECTIONS,
    )

    check_detections(found)


def images():
    return drawing.images(3, whole.SIZE)


def batch():
    """The truth of three images."""
    box, valid, label = truth()
    arrays = {
        "box": boxes.to_fractions(box, image_size=whole.SIZE),
        "box_valid": valid,
        "box_class": label,
        "example_valid": np.ones(3, bool),
    }
    return types.Batch(arrays, "boxes")


def network(name, sizes, hidden):
    """Backbone, task and drawn weights of a whole network."""
    body = models.build_backbone(schema.BackboneConfig(name=name))
    task = detection.DetectionTask(
        "boxes",
        tuple("abc"[: whole.CLASSES]),
        whole.SIZE,
        schema.DetectionConfig(
            anchor_sizes=sizes,
            hidden=hidden,
            proposals_before_nms=whole.BEFORE_NMS,
            proposals=whole.PROPOSALS,
            anchors_sampled=whole.EVERYTHING,
            regions=whole.EVERYTHING,
            detections=whole.DETECTIONS,
            score_threshold=whole.SCORE_THRESHOLD,
        ),
    )
    image = jax.ShapeDtypeStruct((1, whole.SIZE, whole.SIZE, 1), jnp.float32)
    key = jax.random.key(0)
    body_shapes = jax.eval_shape(body.init, key, image)
    features, _ = jax.eval_shape(
        lambda v, x: body.apply(v, x, train=False), body_shapes, image
    )
    head_shapes = jax.eval_shape(task.init, key, features)
    expected = {"backbone": vars(body_shapes), "head": vars(head_shapes)}
    weights = whole.weights(golden(f"fasterrcnn_{name}").shapes)
    converted = conversion.from_torchvision(weights, expected, "detection", name)
    return body, task, converted.tree


@pytest.mark.parametrize(
    ("name", "sizes", "hidden"),
    [("resnet18", whole.ANCHOR_SIZES, 64), ("resnet50", STOCK_ANCHORS, 1024)],
)
def test_a_whole_network(name, sizes, hidden):
    """Image to detections, and to the losses of all candidates of each image."""
    body, task, tree = network(name, sizes, hidden)
    of = f"fasterrcnn_{name}"

    @jax.jit
    def run(tree, image):
        features, _ = body.apply(
            types.Variables(**tree["backbone"]), image, train=False
        )
        head = types.Variables(**tree["head"])
        levels, *_ = task.head.module(features.levels).apply(
            {"params": head.params}, features.levels, method="propose"
        )
        loss, parts, _ = task.loss(jax.random.key(0), head, features, batch())
        return levels, task.predict(head, features), loss, parts

    levels, found, loss, parts = run(tree, images())

    for number, level in enumerate(levels, start=2):
        check(f"P{number}", whole.corner(level), of=of)
    found["box"] = boxes.from_fractions(found["box"], image_size=whole.SIZE)
    check_detections(found, of=of)
    wanted = golden(of).arrays["losses"]
    names = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
    limit = SLACK * golden(of).rounding["losses"]
    np.testing.assert_allclose(loss, wanted.sum(1), rtol=limit)
    np.testing.assert_allclose(
        [parts[part] for part in names], wanted.mean(0), rtol=limit
    )


def test_gradients_of_a_whole_network():
    body, task, tree = network("resnet18", whole.ANCHOR_SIZES, 64)

    @jax.jit
    def slope(tree, image):
        def total(params):
            body_state = tree["backbone"]["model_state"]
            features, _ = body.apply(
                types.Variables(params["backbone"], body_state), image, train=False
            )
            head = types.Variables(params["head"], {})
            return task.loss(jax.random.key(0), head, features, batch())[0].sum()

        return jax.grad(total)({part: tree[part]["params"] for part in tree})

    found = slope(tree, images())

    named, _ = conversion.to_torchvision(
        {part: {**tree[part], "params": found[part]} for part in tree}, "detection"
    )
    learnt = {
        name: array
        for name, array in named.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    check("gradients", drawing.digest(learnt), of="fasterrcnn_resnet18")
