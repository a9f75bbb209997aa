"""Tests of the pyramid, the detector's modules and the choice of boxes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import faster_rcnn, pyramid


def _levels(key, size, channels=(4, 8, 12, 16)):
    return tuple(
        jax.random.normal(jax.random.fold_in(key, i), (2, side, side, channel))
        for i, channel in enumerate(channels)
        for side in [-(-size // (4 << i))]
    )


@pytest.fixture(scope="module")
def detector():
    module = faster_rcnn.FasterRCNN(
        classes=2, channels=8, anchors=3, finest_anchor=8.0, hidden=16
    )
    levels = _levels(jax.random.key(1), 64)
    return module, jax.jit(module.init)(jax.random.key(2), levels), levels


@pytest.mark.parametrize("size", [64, 72])
def test_pyramid_keeps_sizes_and_adds_a_subsampled_level(key, size):
    levels = _levels(key, size)

    outputs, variables = jax.jit(pyramid.FeaturePyramid(8).init_with_output)(
        key, levels
    )

    assert set(variables["params"]) == {
        f"{kind}_blocks_{i}" for kind in ("inner", "layer") for i in range(4)
    }
    assert [out.shape[1:3] for out in outputs[:4]] == [x.shape[1:3] for x in levels]
    np.testing.assert_array_equal(outputs[4], outputs[3][:, ::2, ::2])


def test_enlarge_is_nearest_neighbour_and_cuts_odd_sizes():
    level = jnp.array([[1, 2], [3, 4]])[None, :, :, None]

    found = pyramid.enlarge(level, like=jnp.zeros((1, 3, 4, 1)))

    np.testing.assert_array_equal(
        found[0, :, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4]]
    )


def test_enlarge_refuses_levels_that_do_not_halve():
    with pytest.raises(ValueError, match="output_stride=32"):
        pyramid.enlarge(jnp.zeros((1, 4, 4, 1)), like=jnp.zeros((1, 4, 4, 1)))


@pytest.mark.smoke
def test_parameters_match_torchvisions_in_name_and_shape(detector):
    _, variables, _ = detector

    kernels = {
        "/".join(part.key for part in path[:-1]): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
        if path[-1].key == "kernel"
    }

    assert kernels == {
        **{f"fpn/inner_blocks_{i}": (1, 1, 4 * (i + 1), 8) for i in range(4)},
        **{f"fpn/layer_blocks_{i}": (3, 3, 8, 8) for i in range(4)},
        "rpn_head/conv": (3, 3, 8, 8),
        "rpn_head/cls_logits": (1, 1, 8, 3),
        "rpn_head/bbox_pred": (1, 1, 8, 12),
        "box_head/fc6": (7 * 7 * 8, 16),
        "box_head/fc7": (16, 16),
        "box_predictor/cls_score": (16, 3),
        "box_predictor/bbox_pred": (16, 12),
    }


def test_parameter_count_is_torchvisions():
    """With ResNet-50 and one class 41,299,161 in all, 23,454,912 in the backbone."""
    module = faster_rcnn.FasterRCNN(
        classes=1, channels=256, anchors=3, finest_anchor=32.0, hidden=1024
    )
    levels = [jnp.zeros((1, 64 >> i, 64 >> i, 256 << i)) for i in range(4)]

    variables = jax.eval_shape(module.init, jax.random.key(0), levels)

    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == 41_299_161 - 23_454_912


def test_outputs_are_ordered_by_position_then_anchor(detector):
    module, variables, levels = detector

    outputs, logits, offsets = module.apply(variables, levels, method="propose")

    params = variables["params"]["rpn_head"]
    hidden = jax.nn.relu(
        jax.lax.conv_general_dilated(
            outputs[3],
            params["conv"]["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    )
    at = hidden[1, 1, 0]  # the second image, third position of a 2 x 2 grid
    expected = at @ params["bbox_pred"]["kernel"][0, 0]
    np.testing.assert_allclose(offsets[3][1, 6:9].ravel(), expected, atol=1e-6)
    assert [x.shape for x in logits] == [(2, n) for n in (768, 192, 48, 12, 3)]


def test_no_gradient_flows_to_the_regions(detector):
    module, variables, levels = detector
    box = jnp.tile(jnp.array([4.0, 4.0, 30.0, 40.0]), (2, 1, 1))

    def total(box):
        pyramid_levels, _, _ = module.apply(variables, levels, method="propose")
        logit, offset = module.apply(variables, pyramid_levels, box, method="classify")
        return logit.sum() + offset.sum()

    assert not jax.jit(jax.grad(total))(box).any()


def test_half_precision_layers_give_float32_results(detector):
    module, variables, levels = detector
    half = module.clone(dtype=jnp.bfloat16)

    @functools.partial(jax.jit, static_argnums=0)
    def run(module, variables, levels):
        outputs, logits, offsets = module.apply(variables, levels, method="propose")
        box = jnp.tile(jnp.array([[[0.0, 0.0, 30.0, 30.0]]]), (2, 1, 1))
        logit, offset = module.apply(variables, outputs, box, method="classify")
        return outputs, logits, offsets, logit, offset

    outputs, logits, offsets, logit, offset = run(half, variables, levels)

    assert outputs[0].dtype == jnp.bfloat16
    assert {x.dtype for x in (*logits, *offsets, logit, offset)} == {
        jnp.dtype("float32")
    }
    full = run(module, variables, levels)
    np.testing.assert_allclose(logits[0], full[1][0], atol=0.02)
    np.testing.assert_allclose(logit, full[3], atol=0.02)


def _select(logits, offsets, anchors, **changes):
    options = {"image_size": 100, "before_nms": 10, "count": 3, **changes}
    return faster_rcnn.select_proposals(
        [jnp.array(x, jnp.float32)[None] for x in logits],
        [jnp.array(x, jnp.float32)[None] for x in offsets],
        [np.array(x, np.float32) for x in anchors],
        **options,
    )


def test_proposals_are_thinned_out_within_a_level_and_ordered_over_all():
    anchors = [
        [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]],
        [[0, 0, 10, 10], [-30, -30, -10, -10]],
    ]
    logits = [[2.0, 1.9, 0.5], [1.0, 9.0]]

    box, valid = _select(
        logits, np.zeros((2, 3, 4)).tolist()[:1] + [[[0] * 4] * 2], anchors, count=5
    )

    np.testing.assert_array_equal(valid[0], [True, True, True, False, False])
    np.testing.assert_array_equal(
        box[0, :3], [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]
    )


def test_only_the_best_of_each_level_enter():
    anchors = [[[0, 0, 10, 10], [20, 20, 30, 30]]]

    box, valid = _select([[1.0, 2.0]], [[[0] * 4] * 2], anchors, before_nms=1)

    np.testing.assert_array_equal(box[0][valid[0]], [[20, 20, 30, 30]])


def test_detections_of_one_region_by_hand():
    """Two classes at probability 0.6 and 0.3; class 1 moves right by 1 / 10 width."""
    logit = jnp.log(jnp.array([[[0.1, 0.6, 0.3]]]))
    offset = jnp.zeros((1, 1, 3, 4)).at[0, 0, 2, 0].set(1.0)
    proposal = jnp.array([[[10.0, 10.0, 30.0, 20.0]]])

    found = faster_rcnn.select_detections(
        logit,
        offset,
        proposal,
        jnp.ones((1, 1), bool),
        image_size=31,
        score_threshold=0.05,
        nms_threshold=0.5,
        count=3,
    )

    np.testing.assert_array_equal(found["valid"], [[True, True, False]])
    np.testing.assert_array_equal(found["class"][0, :2], [0, 1])
    np.testing.assert_allclose(found["score"], [[0.6, 0.3, 0.0]], rtol=1e-5)
    np.testing.assert_allclose(
        found["box"][0], [[10, 10, 30, 20], [12, 10, 31, 20], [0] * 4], rtol=1e-5
    )


def test_suppression_is_for_each_class_on_its_own_and_ties_go_by_place():
    """Four equal regions of two classes: one of each is kept, the first at a tie."""
    probability = jnp.array([[0.3, 0.5], [0.3, 0.5], [0.6, 0.1], [0.6, 0.1]])
    background = 1 - probability.sum(-1, keepdims=True)
    logit = jnp.log(jnp.concatenate([background, probability], axis=-1))
    proposal = jnp.tile(jnp.array([[10.0, 10.0, 30.0, 20.0]]), (4, 1))
    proposal += jnp.arange(4.0)[:, None] / 8  # To tell which of them was kept.

    found = faster_rcnn.select_detections(
        logit[None],
        jnp.zeros((1, 4, 3, 4)),
        proposal[None],
        jnp.ones((1, 4), bool),
        image_size=64,
        score_threshold=0.05,
        nms_threshold=0.5,
        count=8,
    )

    assert found["valid"].sum() == 2
    np.testing.assert_array_equal(found["class"][0, :2], [0, 1])
    np.testing.assert_allclose(found["score"][0, :2], [0.6, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found["box"][0, :2], proposal[jnp.array([2, 0])])


def test_empty_proposals_and_low_scores_are_not_detected():
    logit = jnp.log(jnp.array([[[0.1, 0.9], [0.96, 0.04]]]))
    proposal = jnp.array([[[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 29.0, 29.0]]])

    found = faster_rcnn.select_detections(
        logit,
        jnp.zeros((1, 2, 2, 4)),
        proposal,
        jnp.array([[False, True]]),
        image_size=32,
        score_threshold=0.05,
        nms_threshold=0.5,
        count=2,
    )

    assert not found["valid"].any()
