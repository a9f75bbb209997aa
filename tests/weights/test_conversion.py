"""Whole networks by torchvision's names: the same list, out, in, and refusals."""

import pathlib
import re

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.weights import conversion

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torchvision_networks.npz"
KINDS = ("classification", "segmentation", "detection")
AUXILIARY = {"output_stride": 8, "rates": (12, 24, 36), "auxiliary_weight": 0.5}
# What `tests/golden/round_trip.py` asked torchvision for, with three classes.
REFERENCES = {
    "resnet18": ("classification", {"name": "resnet18"}, {}),
    "resnet50": ("classification", {"name": "resnet50"}, {}),
    "deeplabv3_resnet50": (
        "segmentation",
        {"name": "resnet50"},
        {"segmentation": AUXILIARY},
    ),
    "fasterrcnn_resnet18": ("detection", {"name": "resnet18"}, {}),
    "fasterrcnn_resnet50": ("detection", {"name": "resnet50"}, {}),
}


RETINANET = {"detection": {"head": "retinanet", "anchor_sizes": (8, 12) * 5}}


def shapes_of(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("name", REFERENCES)
def test_names_shapes_and_types_are_torchvisions(name, network_shapes):
    kind, backbone, task = REFERENCES[name]
    shapes = network_shapes(kind, {"width": 64, **backbone}, **task)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)

    tensors, stem = conversion.to_torchvision(empty, kind)

    lines = [
        f"{key} {'x'.join(map(str, array.shape))} {array.dtype.name}"
        for key, array in sorted(tensors.items())
    ]
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert lines == golden[name].tolist()
    assert stem == "3 channels, unchanged"
    assert all(array.flags.c_contiguous for array in tensors.values())


def test_names_and_shapes_of_retinanet_are_torchvisions(network_shapes):
    shapes = network_shapes("detection", {"width": 64}, **RETINANET)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)

    tensors, _ = conversion.to_torchvision(empty, "detection")

    lines = [
        f"{key} {'x'.join(map(str, array.shape))}"
        for key, array in sorted(tensors.items())
        if array.ndim  # no counters
    ]
    with np.load(GOLDEN.with_name("retinanet_resnet18.npz")) as golden:
        assert lines == golden["tensors"].tolist()


@pytest.mark.parametrize(
    ("kind", "task"),
    [*((kind, {}) for kind in (*KINDS, "backbone")), ("detection", RETINANET)],
)
def test_out_and_in_again_changes_nothing(kind, task, network):
    ours = network(kind, **task)
    tensors, _ = conversion.to_torchvision(ours, kind)

    found = conversion.from_torchvision(tensors, shapes_of(ours), kind, "start")

    assert_equal(found.tree, ours)
    assert found.left_out == ()


# Of each kind: ours, and torchvision's name of the same tensor.
SAME = {
    "segmentation": {
        ("params", "convs_0_0", "kernel"): "classifier.0.convs.0.0.weight",
        ("params", "convs_3_1", "bias"): "classifier.0.convs.3.1.bias",
        # The branch of the whole picture begins with pooling, which has no weights.
        ("params", "convs_4_0", "kernel"): "classifier.0.convs.4.1.weight",
        ("model_state", "convs_4_1", "var"): "classifier.0.convs.4.2.running_var",
        ("params", "project_0", "kernel"): "classifier.0.project.0.weight",
        ("params", "conv_0", "kernel"): "classifier.1.weight",
        ("params", "conv_1", "scale"): "classifier.2.weight",
        ("params", "classifier", "bias"): "classifier.4.bias",
        ("params", "aux_classifier_0", "kernel"): "aux_classifier.0.weight",
        ("model_state", "aux_classifier_1", "mean"): "aux_classifier.1.running_mean",
        ("params", "aux_classifier_4", "kernel"): "aux_classifier.4.weight",
    },
    "detection": {
        ("params", "fpn", "inner_blocks_2", "kernel"): (
            "backbone.fpn.inner_blocks.2.0.weight"
        ),
        ("params", "fpn", "layer_blocks_0", "bias"): (
            "backbone.fpn.layer_blocks.0.0.bias"
        ),
        ("params", "rpn_head", "conv", "kernel"): "rpn.head.conv.0.0.weight",
        ("params", "rpn_head", "bbox_pred", "bias"): "rpn.head.bbox_pred.bias",
        ("params", "box_head", "fc7", "kernel"): "roi_heads.box_head.fc7.weight",
        ("params", "box_predictor", "cls_score", "kernel"): (
            "roi_heads.box_predictor.cls_score.weight"
        ),
    },
    "classification": {("params", "fc", "kernel"): "fc.weight"},
}


@pytest.mark.parametrize("kind", SAME)
def test_each_tensor_goes_where_torchvision_has_it(kind, network):
    ours = network(kind)

    tensors, _ = conversion.to_torchvision(ours, kind)

    for place, name in SAME[kind].items():
        array = ours["head"]
        for part in place:
            array = array[part]
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
        np.testing.assert_array_equal(tensors[name], np.transpose(array, axes))


def test_regions_are_read_channels_first_there_and_last_here(network):
    ours = network("detection")
    kernel = ours["head"]["params"]["box_head"]["fc6"]["kernel"]  # [7 * 7 * 8, 16]

    tensors, _ = conversion.to_torchvision(ours, "detection")

    there = tensors["roi_heads.box_head.fc6.weight"]
    for row, column, channel in ((0, 0, 0), (6, 0, 1), (2, 5, 7), (6, 6, 7), (0, 1, 3)):
        np.testing.assert_array_equal(
            there[:, channel * 49 + row * 7 + column],
            kernel[(row * 7 + column) * 8 + channel],
        )


def test_counters_are_there_for_each_norm_and_zero(network):
    tensors, _ = conversion.to_torchvision(network("backbone"), "backbone")

    norms = {name for name in tensors if name.endswith(".running_mean")}
    counters = {name for name in tensors if name.endswith(".num_batches_tracked")}
    assert len(norms) == len(counters) == 20
    for name in counters:
        assert tensors[name].dtype == np.int64
        assert tensors[name] == 0


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (1, "1 channel divided over 3"),
        (3, "3 channels, unchanged"),
        (2, "2 channels summed to 1, 1 channel divided over 3"),
    ],
)
def test_the_stem_takes_three_channels(channels, said, network):
    ours = network("backbone", {"in_channels": channels})

    tensors, stem = conversion.to_torchvision(ours, "backbone")

    kernel = tensors["conv1.weight"]
    assert stem == said
    assert kernel.shape == (8, 3, 7, 7)
    grey = ours["backbone"]["params"]["conv1"]["kernel"].sum(2).transpose(2, 0, 1)
    # One rounding of float32 for each of three sums and quotients of numbers near 1.
    np.testing.assert_allclose(kernel.sum(1), grey, rtol=0, atol=2e-6)
    if channels != 3:
        np.testing.assert_array_equal(kernel[:, 0], kernel[:, 2])


def test_a_stem_for_one_channel_comes_back(network):
    ours = network("backbone", {"in_channels": 1})
    tensors, _ = conversion.to_torchvision(ours, "backbone")

    found = conversion.from_torchvision(tensors, shapes_of(ours), "backbone", "start")

    assert found.stem == "3 channels summed to 1"
    kernels = (
        tree["backbone"]["params"]["conv1"]["kernel"] for tree in (found.tree, ours)
    )
    np.testing.assert_allclose(*kernels, rtol=1e-6)


def test_names_of_older_versions_are_known(network):
    ours = network("detection")
    tensors, _ = conversion.to_torchvision(ours, "detection")
    old = {
        re.sub(r"(rpn\.head\.conv\.0|fpn\.\w+\.\d)\.0\.", r"\1.", name): array
        for name, array in tensors.items()
    }
    for part in ("weight", "bias"):
        old[f"rpn.head.conv.{part}"] = old.pop(f"rpn.head.conv.0.{part}")
    assert "rpn.head.conv.weight" in old
    assert "backbone.fpn.inner_blocks.0.bias" in old

    found = conversion.from_torchvision(old, shapes_of(ours), "detection", "start")

    assert_equal(found.tree, ours)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prefix_is_taken_off_and_what_lies_outside_left_out(kind, network):
    ours = network(kind)
    tensors, _ = conversion.to_torchvision(ours, kind)
    wrapped = {f"module.{name}": array for name, array in tensors.items()}
    wrapped["optimizer.rate"] = np.ones(1)

    found = conversion.from_torchvision(wrapped, shapes_of(ours), kind, "start")

    assert_equal(found.tree, ours)
    assert found.left_out == ("optimizer.rate",)


def test_an_auxiliary_head_that_is_not_wanted_is_left_out(network):
    tensors, _ = conversion.to_torchvision(network("segmentation"), "segmentation")
    bare = network("segmentation", segmentation={"auxiliary_weight": 0.0})

    found = conversion.from_torchvision(
        tensors, shapes_of(bare), "segmentation", "start"
    )

    assert "aux_classifier_0" not in found.tree["head"]["params"]
    assert found.left_out[0] == "aux_classifier.0.weight"
    assert len(found.left_out) == 7


def refused(tensors, ours, kind):
    with pytest.raises(ValueError) as raised:
        conversion.from_torchvision(tensors, shapes_of(ours), kind, "start")
    return str(raised.value)


def test_another_number_of_classes_is_told(network):
    ours = network("classification")
    tensors, _ = conversion.to_torchvision(ours, "classification")
    tensors["fc.weight"] = np.ones((1000, 64), np.float32)

    assert refused(tensors, ours, "classification") == (
        "start: 'fc.weight' has shape (1000, 64), expected (3, 64). A head for "
        "classification with other classes or sizes? Start from the backbone alone: "
        "finetune.head='new'."
    )


def test_a_network_of_another_kind_is_told(network):
    bare, _ = conversion.to_torchvision(network("classification"), "classification")
    masks, _ = conversion.to_torchvision(network("segmentation"), "segmentation")

    found = refused(bare, network("segmentation"), "segmentation")
    assert found.startswith(
        "start: the file's ResNet is at 'conv1', that of a whole network for "
        "segmentation at 'backbone.conv1'."
    )
    found = refused(masks, network("detection"), "detection")
    assert "at 'backbone.conv1', that of a whole network for detection at" in found
    found = refused(masks, network("classification"), "classification")
    assert found.startswith("start: the file lacks ['fc.bias', 'fc.weight'] (2 in all)")


def test_missing_and_further_tensors_of_a_head_are_listed(network):
    ours = network("detection")
    tensors, _ = conversion.to_torchvision(ours, "detection")
    del tensors["rpn.head.cls_logits.bias"]
    tensors["roi_heads.mask_predictor.weight"] = np.ones(3, np.float32)

    assert refused(tensors, ours, "detection").startswith(
        "start: the file lacks ['rpn.head.cls_logits.bias'] (1 in all) and has "
        "['roi_heads.mask_predictor.weight'] (1 in all) that this network does not know"
    )


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.ones((16, 7 * 7 * 8 + 1), np.float32), "expected regions of 7 x 7 bins"),
        (np.ones((16, 7 * 7 * 4), np.float32), "has shape (16, 196), expected (16, 39"),
        (np.ones((16, 8, 7, 7), np.float32), "expected regions of 7 x 7 bins"),
        (np.full((16, 7 * 7 * 8), np.nan, np.float32), "numbers that are not finite"),
        (np.ones((16, 7 * 7 * 8), np.int32), "holds int32, expected floating point"),
    ],
)
def test_a_damaged_head_is_refused(array, told, network):
    ours = network("detection")
    tensors, _ = conversion.to_torchvision(ours, "detection")
    tensors["roi_heads.box_head.fc6.weight"] = array

    found = refused(tensors, ours, "detection")

    assert "'roi_heads.box_head.fc6.weight'" in found
    assert told in found


def test_what_torchvision_has_not_is_not_written(network):
    ours = network("classification")
    with pytest.raises(ValueError, match=r"export: 'fc' has no name in torch"):
        conversion.to_torchvision(ours, "segmentation")

    ours["head"]["params"]["fc"]["bias"][0] = np.inf
    with pytest.raises(ValueError, match=r"'fc.bias' holds numbers that are not fin"):
        conversion.to_torchvision(ours, "classification")


def test_a_head_that_no_library_has_is_read_from_no_file():
    with pytest.raises(ValueError, match=r"here: no file .* head for landmarks.*'new'"):
        conversion.read({}, {}, "landmarks", schema.BackboneConfig(), "here")
