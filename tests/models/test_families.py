"""Every backbone under every head: shapes, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.experiment import start
from mtpret_jax.models import vit_families
from mtpret_jax.tasks import classification, detection, landmarks, segmentation

VITS = [("vit_tiny", family) for family in vit_families.FAMILIES]
OTHERS = [(name, "") for name in models.BACKBONES if not name.startswith("vit_")]
# One of each shape of features.
SHAPES = [
    ("convnext_atto", ""),
    ("densenet121", ""),
    ("swin_tiny", ""),
    ("vit_tiny", "deit"),
    ("vit_tiny", "dinov2"),
]
SMALL = {
    "classification": lambda side: classification.ClassificationTask(
        "one", ("no", "yes"), True
    ),
    "deeplabv3": lambda side: segmentation.SegmentationTask(
        "one",
        ("none", "lung"),
        side,
        schema.SegmentationConfig(channels=4, rates=(1, 2)),
    ),
    "unetplusplus": lambda side: segmentation.SegmentationTask(
        "one",
        ("none", "lung"),
        side,
        schema.SegmentationConfig(head="unetplusplus", node_channels=(2, 2, 4, 4)),
    ),
    "detection": lambda side: detection.DetectionTask(
        "one",
        ("nodule",),
        side,
        schema.DetectionConfig(
            channels=4,
            hidden=4,
            proposals_before_nms=8,
            proposals=4,
            detections=3,
            anchor_sizes=(8, 16, 32, 48, 64),
        ),
    ),
    "retinanet": lambda side: detection.DetectionTask(
        "one",
        ("nodule",),
        side,
        schema.DetectionConfig(
            head="retinanet", channels=4, candidates=8, detections=3
        ),
    ),
    "landmarks": lambda side: landmarks.LandmarksTask(
        "one", ("sella", "nasion"), schema.LandmarksConfig(channels=4)
    ),
}


def build(name, family):
    return models.build_backbone(
        schema.BackboneConfig(name=name, family=family, width=8, in_channels=1)
    )


def side_of(family):
    return 98 if family and vit_families.FAMILIES[family].patch == 14 else 96


def shapes(backbone, side, output_stride=0):
    """Those of parameters and features, for two images."""

    def run(key):
        image = jnp.zeros((2, side, side, 1))
        body = backbone.init(key, image)
        features, _ = backbone.apply(
            body, image, train=False, output_stride=output_stride
        )
        return body, features

    return jax.eval_shape(run, jax.random.key(0))


@pytest.mark.parametrize(("name", "family"), VITS + OTHERS)
def test_channels_and_strides_are_as_told(name, family):
    backbone, side = build(name, family), side_of(family)

    _, features = shapes(backbone, side)

    widths = tuple(one.shape[-1] for one in (features.stem, *features.levels))
    assert widths == backbone.channels
    assert features.levels[-1].shape[1] == side // backbone.output_strides[0]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("name", "family"), SHAPES)
def test_every_head_takes_every_backbone(name, family, kind):
    backbone, side = build(name, family), side_of(family)
    task = SMALL[kind](side)
    _, features = shapes(backbone, side, task.output_stride)

    def run(key, features):
        return task.predict(task.init(key, features), features)

    predicted = jax.eval_shape(run, jax.random.key(0), features)

    assert all(len(value) == 2 for value in predicted.values())


def test_a_family_is_of_vits_alone():
    with pytest.raises(ValueError, match="family is for ViTs"):
        build("resnet18", "deit")
    with pytest.raises(ValueError, match="Did you mean 'dinov2'"):
        build("vit_tiny", "dino_v2")


def test_dinov2_refuses_a_side_that_its_patches_do_not_divide():
    backbone = build("vit_tiny", "dinov2")

    with pytest.raises(ValueError, match="98"):
        jax.eval_shape(backbone.init, jax.random.key(0), jnp.zeros((1, 96, 96, 1)))


def test_only_what_is_averaged_tells_where_evidence_lies():
    found = {name: build(name, "").averages_cells for name, _ in OTHERS}

    assert found["resnet18"]
    assert found["densenet121"]
    assert not found["convnext_atto"]
    assert not build("vit_tiny", "dinov2").averages_cells


@pytest.mark.parametrize(
    ("name", "family", "side", "told"),
    [
        ("vit_tiny", "dinov2", 96, "14 pixels and more, a multiple of 14, such as 98"),
        ("swin_tiny", "", 50, "4 pixels and more, a multiple of 4, such as 52"),
        ("convnext_atto", "", 31, "32 pixels and more, such as 32; got 31"),
    ],
)
@pytest.mark.parametrize("stage", ["contrastive", "finetune"])
def test_a_side_is_refused_before_anything_runs(name, family, side, told, stage):
    config = schema.defaults()
    config.backbone.update(name=name, family=family)
    config.datasets.hand = schema.dataset("phantom_xray")
    config.tasks.age = schema.task(dataset="hand", image_size=side)
    options = {
        "contrastive": {"datasets": {"hand": 1.0}, "image_size": side},
        "finetune": {"task": "age"},
    }
    config.runs.one = schema.run(stage=stage, **{stage: options[stage]})

    with pytest.raises(ValueError, match=told):
        start.check(schema.parse(config))
