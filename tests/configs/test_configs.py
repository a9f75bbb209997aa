"""Every config of `configs/` loads, parses and traces without memory; so does tiny."""

import importlib
import importlib.util
import pathlib

import jax
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.experiment import workshop
from mtpret_jax.study import plan

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py"))
# What a prepared set would say of itself, for tasks of any kind.
LABELS = {
    "finding": ["no", "yes"],
    "label": ["no", "maybe", "yes"],
    "kl_grade": ["0", "1", "2", "3", "4"],
    "narrowing": ["0", "1", "2", "3", "4"],
}
NAMES = {
    "label_names": LABELS,
    "mask_names": ["background", "object"],
    "object_names": ["object"],
    "values": {"bone_age_months": "months"},
    "landmark_names": ["point"],
}
ARGUMENTS = {
    "cephalometry": "folder",
    "detection": "folder",
    "detectors": "folder,seeds=2",
    "mini": "folder",
    "mtpret": "folder,weights/r50.pth",
    "readings": "folder",
    "segmentation": "folder",
    "study_full": "folder,weights/r50.pth",
    "study_mini": "folder",
    "tiny": "demo",
}


def load(name: str, argument: str = "") -> schema.ExperimentConfig:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return plan.expand(schema.parse(module.get_config(argument)))


@pytest.mark.smoke
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_traces_every_stage(name):
    config = load(name, ARGUMENTS.get(name, ""))
    tasks = workshop.build_tasks(config, dict.fromkeys(config.datasets, NAMES))
    seen = set()
    for row in config.runs.values():
        kind = row.tasks or row.stage
        if kind in seen:
            continue
        seen.add(kind)
        stage = stages.build(config, row, tasks)
        shapes = stages.shape_batches(config, row)

        state = jax.eval_shape(
            lambda key, stage=stage, shapes=shapes: stage.init(key, shapes),
            jax.random.key(0),
        )

        assert state.step.shape == ()
        assert len(stage.segments()) >= 1
    assert seen


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"tiny"}))
def test_tiny_shrinks_every_config(name):
    config = load("tiny", name)

    assert all(row.image_size <= 64 for row in config.tasks.values())
    assert all(row.builder == "phantom_xray" for row in config.datasets.values())
    steps = {row.arm: row.steps for row in config.runs.values() if row.arm}
    assert max(steps.values()) <= 4
    folder = ARGUMENTS.get(name, "").partition(",")[0]
    assert list(config.runs) == list(load(name, folder).runs)


def test_arms_have_equal_fine_tuning_budgets():
    for name in sorted(set(CONFIGS) - {"tiny"}):
        config = load(name, ARGUMENTS.get(name, ""))
        budgets = {}
        for row in config.runs.values():
            if row.stage == "finetune":
                same = (row.steps, row.optimizer, row.evaluate_every)
                budgets.setdefault(row.finetune.task, set()).add(same)
        assert all(len(found) == 1 for found in budgets.values())


def test_tiny_refuses_an_unknown_config():
    with pytest.raises(ValueError, match="no config 'demoo'"):
        load("tiny", "demoo")


def test_a_users_own_set_and_task_are_a_few_lines():
    spec = importlib.util.spec_from_file_location("mtpret", FOLDER / "mtpret.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("folder")

    config.datasets.ours = schema.dataset(
        "xray_folder", folder="knees", labels=dict(label=["no", "maybe", "yes"])
    )
    config.tasks.knees = schema.task(kind="classification", dataset="ours")
    config.study.contrastive.contrastive.datasets.ours = 1.0
    config.study.tasks += ("knees",)

    parsed = plan.expand(schema.parse(config))
    assert parsed.tasks["knees"].dataset == "ours"
    assert parsed.runs["mtpret.f100.s0"].tasks[-1] == "knees"
    assert parsed.runs["contrastive.s0"].contrastive.datasets["ours"] == 1.0
    assert parsed.runs["mtpret.knees.f100.s0"].init_from == "mtpret.f100.s0"


def test_mtpret_is_a_study_with_controls_that_reads_official_splits():
    config = load("mtpret", "folder")

    assert min(config.study.seeds) >= 3
    assert config.study.frozen
    assert len(config.study.claims) >= 4
    assert {"control", "control_updates"} <= set(config.study.arms)
    held = {config.tasks[task].dataset for task in config.study.hold_out}
    assert held == {"covid_chestxray", "fracatlas"}
    for name, row in config.datasets.items():
        home = f"tfds_builders.{name}.{name}_dataset_builder"
        made = importlib.import_module(home).Builder
        wanted = "official" if made.HAS_OFFICIAL_SPLIT else "grouped"
        assert row.splits == wanted, name
    assert config.runs["contrastive.s0"].contrastive.augment.crop_min_area >= 0.4


def test_mtpret_trains_for_the_epochs_it_claims():
    config = load("mtpret", "folder")
    # Published numbers of images, times the share of the split that is trained on.
    train = {
        "nih_chest_xray14": 86_524 * 7 / 8,
        "shenzhen_cxr": 662 * 0.8,
        "montgomery_cxr": 138 * 0.8,
        "indiana_cxr": 7_470 * 0.8,
        "rsna_bone_age": 12_611,
        "kermany_pneumonia": 5_232 * 0.9,
        "mura": 36_808 * 0.9,
        "chest_xray_masks": 800 * 0.8,
        "panoramic_mandible": 116 * 0.8,
        "tbx11k": 800 * 0.8,
        "grazpedwri_dx": 20_327 * 0.8,
        "covid_chestxray": 866 * 0.8,
        "fracatlas": 4_083 * 0.8,
    }

    for row in config.runs.values():
        if row.stage == "finetune" and row.arm == "scratch":
            task = config.tasks[row.finetune.task]
            epochs = row.steps * task.batch_size / train[task.dataset]
            assert 19 < epochs < 105, row.finetune.task
    stage = config.runs["contrastive.s0"]
    pool = sum(train[name] for name in stage.contrastive.datasets)
    epochs = stage.steps * stage.contrastive.batch_size / pool
    assert round(pool, -3) == 150_000
    assert abs(epochs - 200) < 2
    assert stage.contrastive.queue_size <= pool / 4
