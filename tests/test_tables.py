"""Kinds of task, stages and backbones are named in their tables and nowhere else."""

import ast
import dataclasses
import pathlib
from collections.abc import Iterator

import pytest

from mtpret_jax import config, models, tasks
from mtpret_jax.config import task_rules
from mtpret_jax.data import kinds
from mtpret_jax.inference import answers, description
from mtpret_jax.tasks import detection, segmentation
from mtpret_jax.weights import layouts

REPOSITORY = pathlib.Path(__file__).parent.parent
STAGES = config.CHOICES[config.RunConfig, "stage"]
NAMES = {*tasks.TASKS, *STAGES, *models.BACKBONES}
TABLES = {
    "mtpret_jax/tasks/__init__.py",  # TASKS
    "mtpret_jax/data/kinds.py",  # KINDS
    "mtpret_jax/inference/answers.py",  # ANSWERS
    "mtpret_jax/weights/layouts.py",  # LAYOUTS
    "mtpret_jax/stages/__init__.py",  # STAGES
    "mtpret_jax/models/__init__.py",  # BACKBONES
    "mtpret_jax/study/arms.py",  # of which one is called as its stage
}
# Where the word is another one: the outlines of an object in COCO's tables.
COCO = {
    "tfds_builders/fracatlas/dummy_data.py",
    "tfds_builders/xray_folder/boxes.py",
}


def _named(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Line and name of each literal but those that read an array of a batch."""
    tree = ast.parse(path.read_text())
    subscripts = {
        id(node.slice) for node in ast.walk(tree) if isinstance(node, ast.Subscript)
    }
    for node in ast.walk(tree):
        is_name = isinstance(node, ast.Constant) and node.value in NAMES
        if is_name and id(node) not in subscripts:
            yield node.lineno, str(node.value)


def _is_own(path: pathlib.Path, name: str) -> bool:
    """Whether a file is that of the kind or the stage itself."""
    return path.parent.name in ("tasks", "stages") and path.stem == name


def _found() -> dict[str, list[str]]:
    """Where names stand that belong into the tables, by file."""
    found: dict[str, list[str]] = {}
    for package in ("mtpret_jax", "tfds_builders"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            file = path.relative_to(REPOSITORY).as_posix()
            if file in TABLES | COCO or file.startswith("mtpret_jax/config/"):
                continue
            for line, name in _named(path):
                if not _is_own(path, name):
                    found.setdefault(file, []).append(f"{file}:{line} '{name}'")
    return found


def test_kinds_stages_and_backbones_are_named_in_their_tables_alone():
    wrong = [place for places in _found().values() for place in places]

    assert not wrong, "ask the table instead:\n" + "\n".join(wrong)


def test_the_tables_of_kinds_have_the_same_rows():
    assert set(tasks.TASKS) == set(kinds.KINDS)
    assert set(tasks.TASKS) == set(config.CHOICES[config.TaskConfig, "kind"])
    for table in (answers.ANSWERS, layouts.LAYOUTS):
        assert set(table) == {*tasks.TASKS, description.NO_HEAD}


# Options of each kind's table that all of its heads read.
SHARED = {
    config.SegmentationConfig: (segmentation.HEADS, {"dice_weight"}),
    config.DetectionConfig: (
        detection.HEADS,
        {"channels", "anchor_sizes", "anchor_ratios", "max_boxes", "detections"}
        | {"score_threshold", "nms_threshold"},
    ),
}


@pytest.mark.parametrize("table", SHARED)
def test_every_head_of_the_schema_can_be_built_and_owns_its_options(table: type):
    heads, shared = SHARED[table]
    owned = [name for own in task_rules.HEAD_OPTIONS[table].values() for name in own]

    assert set(heads) == set(task_rules.HEAD_OPTIONS[table])
    assert set(heads) == set(config.CHOICES[table, "head"])
    assert len(owned) == len(set(owned))
    options = {field.name for field in dataclasses.fields(table)}
    assert options - set(owned) == {"head"} | shared
