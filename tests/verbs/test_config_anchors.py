"""`config anchors`: shares of boxes that are met, and sizes that meet more."""

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.cli import config_anchors
from mtpret_jax.experiment import anchors, preparation
from mtpret_jax.models import pyramid
from mtpret_jax.ops import boxes, regions

SIZE = 96
# P3 to P7 of 96 pixels.
WHERE = anchors.Places((12, 6, 3, 2, 1), (8, 16, 32, 48, 96))
RATIOS = (0.5, 1.0, 2.0)


def made_boxes(count=200):
    """Tall boxes about 12 by 24 pixels anywhere in the picture."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(0, 0.15, (count, 2))) * [12, 24]
    corner = rng.uniform(0, 1, (count, 2)) * (SIZE - size)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def test_the_nearest_place_overlaps_most():
    """As all anchors of all places, compared one by one."""
    sizes = (8, 12, 16, 24, 32, 40, 48, 56, 64, 96)
    laid = regions.anchors(
        [(count, count) for count in WHERE.counts],
        strides=WHERE.strides,
        sizes=sizes,
        ratios=RATIOS,
    )
    box = made_boxes()
    best = np.asarray(boxes.iou(box, np.concatenate(laid))).max(axis=1)

    found = anchors.measure(box, WHERE, sizes, RATIOS)

    assert found.met == pytest.approx(np.mean(best >= 0.5))
    assert found.overlap == pytest.approx(best.mean(), rel=1e-5)


def test_places_are_those_of_the_detectors_levels():
    network = schema.BackboneConfig(name="resnet18", width=8)
    options = schema.DetectionConfig(head="retinanet")
    row = schema.TaskConfig(kind="detection", image_size=SIZE, detection=options)
    config = schema.ExperimentConfig(tasks={"it": row}, datasets={"": None})

    (task,) = config_anchors.estimate.build_tasks(config, {}).values()

    assert anchors.places(task, network) == WHERE
    assert WHERE.strides == pyramid.anchor_strides(SIZE, strides=(8, 16, 32), coarser=2)


def test_fitted_anchors_meet_more_boxes():
    box = made_boxes()
    before = anchors.measure(box, WHERE, (32, 40, 48, 56, 64), RATIOS)

    after = anchors.fitted(box, WHERE, each=1, ratios=3)

    assert before.met < 0.1
    assert after.met > 0.8
    assert list(after.sizes) == sorted(after.sizes)
    assert 1.5 < after.ratios[1] < 2.5  # height over width
    assert anchors.measure(box, WHERE, after.sizes, after.ratios) == after


def test_lines_are_for_the_config(tmp_path):
    config = schema.defaults()
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=64, train=24, validation=0, test=0
    )
    config.tasks.find = schema.task(kind="detection", dataset="chest", image_size=64)
    config.tasks.tell = schema.task(dataset="chest", target="finding")
    config.backbone.update(name="resnet18", width=8)
    parsed = schema.parse(config)
    preparation.prepare(parsed.datasets, tmp_path)

    said = list(config_anchors.lines(parsed, str(tmp_path)))

    assert said[0].startswith("find: ")
    assert "boxes in 24 images of split 'train', at 64 pixels; sides" in said[0]
    assert "as it is, 1 a level: " in said[1]
    before, after = (float(line.split(": ")[1].split(" %")[0]) for line in said[1:3])
    assert after > before
    assert len(said) == 2 + 2 * 3
    line = said[3].strip()
    exec(line, {"config": config})
    assert len(config.tasks.find.detection.anchor_sizes) == 5
    schema.parse(config)


def test_sizes_are_found_for_a_head_that_cannot_share_the_ones_it_has(tmp_path):
    config = schema.defaults()
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=64, train=24, validation=0, test=0
    )
    fine = {"head": "retinanet", "finest_level": 2}  # P2 to P7, and five sizes
    config.tasks.find = schema.task(
        kind="detection", dataset="chest", image_size=64, detection=fine
    )
    config.backbone.update(name="resnet18", width=8)
    parsed = schema.parse(config)
    preparation.prepare(parsed.datasets, tmp_path)

    said = list(config_anchors.lines(parsed, str(tmp_path)))

    assert said[1] == "  as it is: 6 levels cannot share 5 sizes"
    exec(said[3].strip(), {"config": config})
    assert len(config.tasks.find.detection.anchor_sizes) == 6
    assert said[8] == "  with finest_level=3:"
    exec(said[10].strip(), {"config": config})
    assert config.tasks.find.detection.finest_level == 3
    assert len(config.tasks.find.detection.anchor_sizes) == 5
    schema.parse(config)


def test_a_config_without_boxes_is_told():
    config = schema.defaults()
    config.datasets.hand = schema.dataset("phantom_xray")
    config.tasks.tell = schema.task(dataset="hand", target="finding")

    with pytest.raises(ValueError, match=r"No task of the config finds boxes.*tell"):
        list(config_anchors.lines(schema.parse(config), "nowhere"))
