"""The schema's door: what it lets in, what it refuses and with which advice."""

import ast
import dataclasses
import inspect
import json
import pathlib
import re
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.config import rules

pytestmark = pytest.mark.smoke

PACKAGE = pathlib.Path(schema.__file__).parent


def _small() -> Any:
    """A valid config with one row in each table."""
    config: Any = schema.defaults()
    config.datasets.chest = schema.dataset("phantom_xray", body="chest", image_size=96)
    config.tasks.opacity = schema.task(kind="classification", dataset="chest")
    config.runs.scratch = schema.run(
        stage="finetune", arm="scratch", finetune={"task": "opacity"}
    )
    return config


def _schemas() -> list[type]:
    return [
        value
        for _, value in inspect.getmembers(schema, inspect.isclass)
        if dataclasses.is_dataclass(value) and value.__module__ == schema.__name__
    ]


def test_defaults_parse():
    assert schema.parse(schema.defaults()) == schema.ExperimentConfig()


def test_rows_take_the_schema_s_defaults():
    parsed = schema.parse(_small())

    assert parsed.tasks["opacity"].batch_size == schema.TaskConfig().batch_size
    assert parsed.datasets["chest"].options["image_size"] == 96
    assert parsed.runs["scratch"].finetune.task == "opacity"


def test_parsing_does_not_depend_on_the_file_it_came_from():
    parsed = schema.parse(_small())
    stored = json.loads(json.dumps(schema.as_dict(parsed)))

    assert schema.parse(stored) == parsed


def test_tables_keep_their_order():
    config = _small()
    for name in ("zebra", "ant", "middle"):
        config.runs[name] = schema.run(finetune={"task": "opacity"})

    parsed = schema.parse(config)

    assert list(parsed.runs) == ["scratch", "zebra", "ant", "middle"]


def test_a_column_of_a_table_may_have_a_dot_in_its_name():
    config = schema.defaults()
    labels = {"No. of lesions": ["0", "1"]}
    config.datasets.mine = schema.dataset("xray_folder", folder="x", labels=labels)

    parsed = schema.parse(config)

    found = parsed.datasets["mine"].options["labels"]
    assert {name: list(value) for name, value in found.items()} == labels


def test_parsed_values_are_frozen():
    parsed = schema.parse(_small())

    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed.seed = 1
    with pytest.raises(TypeError):
        parsed.tasks["other"] = schema.TaskConfig()  # pyright: ignore


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("sed", "seed"),
        ("backbone.widht", "width"),
        ("tasks.opacity.batchsize", "batch_size"),
        ("tasks.opacity.augment.gama", "gamma"),
        ("runs.scratch.optimizer.learning_rat", "learning_rate"),
    ],
)
def test_an_unknown_option_is_refused_with_its_path_and_the_nearest(path, nearest):
    config = schema.as_dict(schema.parse(_small()))
    *tables, option = path.split(".")
    row = config
    for table in tables:
        row = row[table]
    row[option] = 1

    with pytest.raises(ValueError) as error:
        schema.parse(config)

    assert f"config.{path}" in str(error.value)
    assert f"'{nearest}'" in str(error.value)


def test_a_misspelt_option_is_refused_where_it_is_written():
    config: Any = schema.defaults()

    with pytest.raises(AttributeError, match="width"):
        config.backbone.widht = 8
    with pytest.raises(ValueError, match="batch_size"):
        schema.task(batchsize=8)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1.5),
        ("seed", True),
        ("backbone.width", "64"),
        ("tasks.opacity.image_size", None),
        ("runs.scratch.optimizer", 3),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(path, value):
    config = schema.as_dict(schema.parse(_small()))
    *tables, option = path.split(".")
    row = config
    for table in tables:
        row = row[table]
    row[option] = value

    with pytest.raises(TypeError, match=re.escape(f"config.{path}")):
        schema.parse(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks.opacity.kind": "clasification"}, "'classification'"),
        ({"tasks.opacity.dataset": "chset"}, "'chest'"),
        ({"runs.scratch.stage": "finetun"}, "'finetune'"),
        ({"runs.scratch.finetune.task": "opacty"}, "'opacity'"),
        ({"runs.scratch.init_from": "pretraind"}, "earlier run"),
        ({"runs.scratch.finetune.head": "carried"}, "init_from"),
        ({"runs.scratch.label_fraction": 0}, "0.001 to 1"),
        ({"runs.scratch.seed": -2}, "-1 to"),
        ({"runs.scratch.finetune.selection": "lst"}, "'last'"),
        (
            {"tasks.opacity.kind": "detection", "runs.scratch.finetune.frozen": True},
            "expected a task of classification",
        ),
        ({"tasks.opacity.batch_size": 0}, "at least 1"),
        ({"tasks.opacity.microbatches": 5}, "multiple of 5"),
        ({"input.fit": "padd"}, "'pad'"),
        ({"tasks.opacity.segmentation.head": "unet++"}, "'unetplusplus'"),
        ({"tasks.opacity.segmentation.output_stride": 4}, "8, 16 or 32"),
        ({"tasks.opacity.segmentation.rates": [6, 0]}, "at least 1"),
        ({"tasks.opacity.segmentation.node_channels": [8]}, "expected 4 numbers"),
        ({"tasks.opacity.segmentation.deep_supervision": True}, "'unetplusplus' has"),
        ({"tasks.opacity.detection.anchor_ratios": []}, "numbers above 0"),
        (
            {
                "tasks.opacity.detection.head": "retinanet",
                "tasks.opacity.detection.hidden": 64,
            },
            "hidden: only head 'faster_rcnn' has it, and the head is 'retinanet'",
        ),
        ({"tasks.opacity.detection.candidates": 9}, "only head 'retinanet' has it"),
        ({"tasks.opacity.detection.finest_level": 4}, "finest_level: expected"),
        (
            {"tasks.opacity.crop_box_probability": 0.5},
            "crop_box_probability: only tasks of detection have it",
        ),
        ({"tasks.opacity.detection.anchor_sizes": [8, 16, 0, 64, 128]}, "above 0"),
        ({"tasks.opacity.detection.regions": 3}, "at least 4"),
        ({"tasks.opacity.class_weights": "balance"}, "'balanced'"),
        ({"tasks.opacity.label_smoothing": 1}, "0 to 0.99"),
        (
            {
                "tasks.opacity.kind": "segmentation",
                "tasks.opacity.balanced_sampling": True,
            },
            "only tasks of classification, ordinal and detection have it",
        ),
        (
            {
                "tasks.opacity.class_weights": "balanced",
                "tasks.opacity.balanced_sampling": True,
            },
            "Leave one of the two out",
        ),
        (
            {"tasks.opacity.kind": "detection", "tasks.opacity.flip_at_test": True},
            "only tasks of classification, segmentation, regression and ordinal",
        ),
        ({"tasks.opacity.mixup": -1}, "at least 0"),
        ({"tasks.opacity.mixup": 1, "tasks.opacity.batch_size": 1}, "has no pairs"),
        (
            {"tasks.opacity.kind": "segmentation", "tasks.opacity.mixup": 0.2},
            "tasks.opacity.mixup: only tasks of classification and ordinal",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_with_advice(change, message):
    config = schema.as_dict(schema.parse(_small()))
    for path, value in change.items():
        *tables, option = path.split(".")
        row = config
        for table in tables:
            row = row[table]
        row[option] = value

    with pytest.raises(ValueError) as error:
        schema.parse(config)

    assert message in str(error.value)


def test_a_kind_of_task_that_is_not_there_is_answered_by_what_there_is_not():
    with pytest.raises(
        ValueError, match=r"kind: got 'keypoints'.*Keypoints are landmarks here"
    ):
        schema.task(kind="keypoints", dataset="knees")


def test_a_queue_that_the_batch_does_not_fill_evenly_is_refused_with_advice():
    config = schema.as_dict(schema.parse(_small()))
    config["runs"]["first"] = schema.as_dict(
        schema.RunConfig(
            stage="contrastive",
            contrastive=schema.ContrastiveConfig(
                datasets={"chest": 1.0}, batch_size=32, queue_size=1000
            ),
        )
    )

    with pytest.raises(ValueError, match=r"queue_size.*multiple of 32.*992 or 1024"):
        schema.parse(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "dino", "carry_memory": True}, r"carry_memory: read by moco al"),
        ({"mae": schema.MaeConfig(masked=0.5)}, r"mae: read by mae alone"),
        ({"local_views": 2}, r"local_views: read by dino and lejepa alone"),
    ],
)
def test_what_the_objective_does_not_read_is_refused(options, message):
    config = schema.as_dict(schema.parse(_small()))
    stage = schema.ContrastiveConfig(datasets={"chest": 1.0}, **options)
    run = schema.RunConfig(stage="contrastive", contrastive=stage)
    config["runs"]["first"] = schema.as_dict(run)

    with pytest.raises(ValueError, match=message):
        schema.parse(config)


def test_a_run_has_its_own_seed_or_the_config_s():
    config = _small()
    config.seed = 3
    config.runs.other = schema.run(finetune={"task": "opacity"}, seed=0)
    parsed = schema.parse(config)

    seeds = {name: parsed.seed_of(row) for name, row in parsed.runs.items()}

    assert seeds == {"scratch": 3, "other": 0}


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"label_fraction": 0.1, "seed": 1}, None),
        ({"label_fraction": 0.05, "seed": 1}, None),
        ({"label_fraction": 0.2, "seed": 1}, "learnt from 0.2 of them with seed 1"),
        ({"label_fraction": 0.1, "seed": 2}, "Give both the same seed"),
        ({}, "descends from run 'before'"),
    ],
)
def test_a_run_must_not_descend_from_labels_that_it_may_not_use(start, message):
    stage = {"stage": "continual", "continual": {"tasks": ("opacity",)}}
    config: Any = schema.defaults()
    config.datasets, config.tasks = _small().datasets, _small().tasks
    config.runs.before = schema.run(**stage, **start)
    config.runs.between = schema.run(
        init_from="before",
        stage="contrastive",
        contrastive={"datasets": {"chest": 1.0}},
    )
    config.runs.few = schema.run(
        init_from="between", finetune={"task": "opacity"}, label_fraction=0.1, seed=1
    )

    if message is None:
        schema.parse(config)
    else:
        with pytest.raises(ValueError, match=message):
            schema.parse(config)
    config.runs.few.label_fraction = 1.0
    schema.parse(config)  # All labels hold any part of them.


def test_stage_1_has_no_label_fraction():
    config = _small()
    config.runs.first = schema.run(
        stage="contrastive",
        contrastive={"datasets": {"chest": 1.0}},
        label_fraction=0.5,
    )

    with pytest.raises(ValueError, match="stage 1 reads no labels"):
        schema.parse(config)


def test_unetplusplus_refuses_what_deeplab_alone_reads():
    config = _small()
    config.tasks.opacity.segmentation.head = "unetplusplus"
    schema.parse(config)
    config.tasks.opacity.segmentation.output_stride = 8

    with pytest.raises(ValueError, match=r"output_stride.*'deeplabv3'.*default, 16"):
        schema.parse(config)


def test_every_option_is_read_outside_the_schema():
    read = set()
    for path in PACKAGE.rglob("*.py"):
        if path.stem in ("config", "config_checks"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= {
            node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
        }
    options = {
        f"{row.__name__}.{field.name}"
        for row in _schemas()
        for field in dataclasses.fields(row)
    }

    unread = sorted(name for name in options if name.split(".")[1] not in read)

    assert not unread, f"nothing reads these options: {unread}"


@pytest.mark.parametrize("name", ["a/b", "a[1]", "a\\b"])
def test_a_run_whose_folder_would_lose_checkpoints_is_refused(name):
    run = {"stage": "contrastive", "contrastive": {"datasets": {"set": 1.0}}}
    config = {"datasets": {"set": {}}, "runs": {name: run}}

    with pytest.raises(ValueError, match="names a folder"):
        schema.parse(config)


@pytest.mark.parametrize(
    ("steps", "every", "given", "expected"),
    [
        (300, 0, 0, 42),  # 7 x 42 batches, where 300 were trained
        (300, 900, 0, 128),
        (10, 300, 0, 42),
        (300, 100, 0, 42),  # at the end of a segment at the earliest
        (2, 0, 0, 1),
        (300, 0, 500, 500),
    ],
)
def test_stage_2_validates_no_more_than_it_trains(steps, every, given, expected):
    tasks = tuple("abcdefg")
    stage = schema.ContinualConfig(tasks=tasks, validation_batches=given)
    run = schema.RunConfig(
        stage="continual", steps=steps, evaluate_every=every, continual=stage
    )

    assert rules.validation_batches(run) == expected
