"""A mistake of the user's ends in one clear message: what, where, and what to do.

Messages on single options of a config are in `test_config.py`; those on single records
in `data/`. Here are the mistakes that need prepared sets, a work folder or the command.
"""

import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation, workfolder, workshop
from mtpret_jax.training import checkpoint, trees

REPOSITORY = pathlib.Path(__file__).parents[1]
SIZE = 32  # pixels
Folders = Mapping[str, Any]


def small() -> Any:
    """One set of simulated hands, one task of each kind, stages 1 and 3."""
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.datasets.hand = schema.dataset(
        "phantom_xray", body="hand", image_size=SIZE, train=32, validation=4, test=0
    )
    for kind in ("classification", "segmentation", "detection"):
        config.tasks[kind] = schema.task(
            kind=kind,
            dataset="hand",
            target="finding",
            image_size=SIZE,
            batch_size=8,
        )
    config.runs.pretrain = schema.run(
        stage="contrastive",
        steps=2,
        contrastive=dict(datasets={"hand": 1.0}, batch_size=8, queue_size=32),
    )
    config.runs.scratch = schema.run(
        stage="finetune", steps=2, finetune={"task": "classification"}
    )
    return config


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The prepared sets of `small`."""
    data_dir = tmp_path_factory.mktemp("errors") / "data"
    return preparation.prepare(schema.parse(small()).datasets, data_dir)


def message(error: type[Exception], call: Any, *arguments: Any, **options: Any) -> str:
    """The message that a call ends in."""
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    return str(raised.value)


def test_an_unknown_set_is_named_with_those_there_are():
    config = small()
    config.tasks.classification.dataset = "hands"
    assert message(ValueError, schema.parse, config) == (
        "Unknown set in config.tasks.classification.dataset 'hands'. "
        "Did you mean 'hand'? Known: ['hand']."
    )

    config = small()
    config.runs.pretrain.contrastive.datasets = {"hnd": 1.0}
    assert message(ValueError, schema.parse, config) == (
        "Unknown set in config.runs.pretrain.contrastive 'hnd'. "
        "Did you mean 'hand'? Known: ['hand']."
    )

    config = small()
    config.runs.scratch.finetune.task = "segmentatoin"
    found = message(ValueError, schema.parse, config)
    assert found.startswith(
        "Unknown task in config.runs.scratch.finetune.task 'segmentatoin'. "
        "Did you mean 'segmentation'?"
    )


def test_a_queue_must_hold_whole_batches():
    config = small()
    config.runs.pretrain.contrastive.queue_size = 20

    assert message(ValueError, schema.parse, config) == (
        "config.runs.pretrain.contrastive.queue_size: got 20, expected a multiple of "
        "8, for example 16 or 24."
    )


def test_a_set_that_is_not_prepared_is_named_with_its_folder(tmp_path):
    row = schema.parse(small()).datasets["hand"]
    found = message(FileNotFoundError, sources.locate, tmp_path, "hand", row)
    assert found.startswith("Dataset 'hand' is not prepared: expected a version folder")
    assert str(tmp_path / "phantom_xray" / "hand") in found

    config = schema.parse(small())
    gone = {"hand": tmp_path / "gone"}
    found = message(FileNotFoundError, workshop.open_workshop, config, tmp_path, gone)
    assert f"in {tmp_path / 'gone'}: expected a prepared folder" in found
    assert "Prepare the set, or prepare it again" in found


def without(config: Any, *kinds: str) -> schema.ExperimentConfig:
    """The parsed config less some tasks."""
    for kind in kinds:
        del config.tasks[kind]
    return schema.parse(config)


def test_a_split_without_examples_is_named_before_training(folders, tmp_path):
    config = without(small(), "segmentation", "detection")

    assert message(ValueError, workshop.open_workshop, config, tmp_path, folders) == (
        "Dataset 'hand' has no split 'test' in its splits 'official'; it has "
        f"['train', 'validation'] (in {folders['hand']})."
    )


def with_findings(folder: pathlib.Path, classes: list[str]) -> Any:
    """A folder of pictures that all have a fracture, and a config that reads it."""
    (folder / "images").mkdir(parents=True)
    names = [f"{index}.png" for index in range(20)]
    rng = np.random.default_rng(0)
    for name in names:
        picture = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / name), picture)
    table = ["file,finding", *(f"{name},fracture" for name in names)]
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    config = small()
    config.datasets.hand = schema.dataset(
        "xray_folder", folder=str(folder), labels={"finding": classes}
    )
    del config.runs["pretrain"]
    return without(config, "segmentation", "detection")


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (
            ["fracture"],
            "config.tasks.classification: its set has labels of classes ['fracture']; "
            "at least two are needed to tell apart.",
        ),
        (
            ["normal", "fracture"],
            "config.tasks.classification: every image of split 'train' is of class "
            "['fracture']; at least two classes are needed to tell apart.",
        ),
    ],
)
def test_a_task_needs_two_classes(tmp_path, classes, expected):
    config = with_findings(tmp_path / "source", classes)
    made = preparation.prepare(config.datasets, tmp_path / "data")

    found = message(ValueError, workshop.open_workshop, config, tmp_path, made)

    assert found == expected


def test_masks_are_missed_before_training(folders, tmp_path):
    config = without(small(), "detection")

    found = message(ValueError, workshop.open_workshop, config, tmp_path, folders)

    assert found.startswith(
        "config.tasks.segmentation: its set has no masks. Name them in the options"
    )


@pytest.mark.smoke
def test_a_backbone_of_other_sizes_is_refused(tmp_path):
    tree = {"backbone": {"params": {"conv1": np.zeros((3, 3, 1, 8), np.float32)}}}
    written = {"backbone": "resnet18", "width": 8}
    checkpoint.save_backbone(tmp_path / "backbone", tree, written)

    found = message(
        ValueError,
        checkpoint.load_backbone,
        tmp_path / "backbone",
        {"backbone": "resnet18", "width": 16},
    )

    assert found == (
        f"The backbone in {tmp_path / 'backbone'} does not fit this run. width: it has "
        "8, the config wants 16. Change the config, or start from another backbone."
    )


def test_a_folder_without_a_backbone_is_refused(tmp_path):
    found = message(FileNotFoundError, checkpoint.load_backbone, tmp_path, {})

    assert found == (
        f"No finished backbone in {tmp_path}: backbone.json is missing. Give the "
        "'backbone' folder of a run that has ended."
    )


def test_a_work_folder_in_place_of_a_backbone_is_told_its_runs(tmp_path):
    ended = tmp_path / "runs" / "contrastive" / "backbone"
    ended.mkdir(parents=True)
    (ended / "backbone.json").write_text("{}")
    (tmp_path / "runs" / "continual" / "backbone").mkdir(parents=True)

    found = message(FileNotFoundError, checkpoint.load_backbone, tmp_path, {})

    assert found.endswith(" This is a work folder; ended in runs/: contrastive.")


def test_weights_that_lack_some_or_have_another_shape_are_refused():
    kernel = jnp.zeros((3, 3, 1, 8))
    current = {"conv1": kernel, "conv2": kernel}

    found = message(
        ValueError, trees.graft, current, {"conv1": kernel, "fc": kernel}, "start"
    )
    assert found == (
        "start: the file lacks ['conv2'] (1 in all) and has ['fc'] "
        "(1 in all) that this run does not know."
    )

    wide = {"conv1": kernel, "conv2": jnp.zeros((3, 3, 1, 16))}
    found = message(ValueError, trees.graft, current, wide, "start")
    assert found == (
        "start: 'conv2' has shape (3, 3, 1, 16) in the file, (3, 3, 1, 8) in this run."
    )


@pytest.mark.smoke
def test_a_used_work_folder_shows_what_differs(folders, tmp_path):
    config = schema.parse(small())
    workfolder.claim_workdir(config, tmp_path, folders)
    workfolder.claim_workdir(config, tmp_path, folders)  # The same goes on.
    other = small()
    other.seed = 1
    other.runs.scratch.steps = 3

    found = message(
        ValueError, workfolder.claim_workdir, schema.parse(other), tmp_path, folders
    )

    assert found == (
        f"{tmp_path / 'config.json'} differs from this call: seed: was 0, now 1; "
        "runs.scratch.steps: was 2, now 3. "
        "Use another --workdir, or give the same config and data."
    )


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["my[1]", "back\\slash"])
def test_a_work_folder_that_would_lose_checkpoints_is_refused_at_once(name, tmp_path):
    workdir, data = tmp_path / name / "run", tmp_path / "data"
    flags = [f"--workdir={workdir}", f"--data_dir={data}"]

    done = run_command(["train"], ["--config=configs/tiny.py:demo", *flags], tmp_path)

    assert done.returncode == 1
    assert f"Error: --workdir: checkpoints in {workdir} would be lost" in done.stderr
    assert not data.exists()
    assert not workdir.exists()


WRONG_COMMANDS = {
    "no config": (
        ["--rebuild"],
        "Error: the following arguments are required: --config (python -m ",
    ),
    "a verb that is none": (
        ["pedict"],
        "Error: no verb 'pedict'. Did you mean predict?",
    ),
    "an option that is none": (
        ["--config=configs/tiny.py:demo", "--config.runs.contrastive.stepz=3"],
        "Error: --config.runs.contrastive.stepz=3: no option 'stepz'. "
        'Did you mean "steps"',
    ),
    "a config that wants a folder": (
        ["--config=configs/mini.py"],
        "Error: configs/mini.py needs the folder of the X-ray sets: ",
    ),
    "an option in a file": (
        ["--config={file}"],
        "Error: RunConfig.stepz: unknown option. Did you mean 'steps'? ",
    ),
}


def run_command(
    verb: list[str], flags: list[str], folder: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    """Runs a command, where {file} in a flag is a config file with a mistake."""
    file = folder / "mine.py"
    file.write_text(
        "from mtpret_jax import config as schema\n"
        "def get_config():\n"
        "    config = schema.defaults()\n"
        "    config.runs.first = schema.run(stepz=3)\n"
        "    return config\n"
    )
    flags = [flag.format(file=file) for flag in flags]
    return subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", *verb, *flags],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], expected: str) -> None:
    """Checks that a command ended in one line that begins as expected."""
    assert done.returncode == 2
    assert done.stdout == ""
    # Grain warns of an old jaxlib when it is imported; that line is not ours.
    lines = [line for line in done.stderr.splitlines() if "WARNING:absl:" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(expected)


@pytest.mark.smoke
@pytest.mark.parametrize("case", WRONG_COMMANDS)
def test_a_wrong_command_ends_in_one_line(case, tmp_path):
    flags, expected = WRONG_COMMANDS[case]
    if flags:
        flags = [*flags, f"--workdir={tmp_path / 'run'}"]

    done = run_command([], flags, tmp_path)

    assert_one_line(done, expected)
    assert not (tmp_path / "run").exists()


WRONG_PREPARATIONS = {
    "no flags": (
        [],
        "Error: the following arguments are required: --config (python -m "
        "mtpret_jax.main data prepare --help ",
    ),
    "a flag that is none": (
        ["--confg=configs/tiny.py"],
        "Error: python -m mtpret_jax.main data prepare has no option --confg. "
        "Did you mean --config?",
    ),
    "an option that is none": (
        ["--config=configs/tiny.py:demo", "--config.datasets.hand.bilder=x"],
        "Error: --config.datasets.hand.bilder=x: no option ",
    ),
    "a file that is not there": (
        ["--config=configs/tinny.py"],
        "Error: --config: ",
    ),
    "an option in a file": WRONG_COMMANDS["an option in a file"],
}


@pytest.mark.smoke
@pytest.mark.parametrize("case", WRONG_PREPARATIONS)
def test_a_wrong_preparation_ends_in_one_line(case, tmp_path):
    flags, expected = WRONG_PREPARATIONS[case]

    done = run_command(
        ["data", "prepare"], [*flags, f"--data_dir={tmp_path / 'data'}"], tmp_path
    )

    assert_one_line(done, expected)
    assert not (tmp_path / "data").exists()
