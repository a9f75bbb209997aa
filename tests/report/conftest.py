"""A small work folder as an experiment leaves it: three tasks, three arms, no models.

Pictures are drawn by formula; predictions are the truth with noise, less of it in the
later arms.
"""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.metrics import classification, detection, segmentation

ARMS = {"scratch": "", "contrastive": "stage1", "mtpret": "stage2"}
TASKS = ("chest_cls", "lung_seg", "chest_det")
NOISE = {"scratch": 1.0, "contrastive": 0.8, "mtpret": 0.5}
SIZE = 64
METRICS = {
    "chest_cls": classification.ClassificationMetric(("normal", "opacity"), True),
    "lung_seg": segmentation.SegmentationMetric(("background", "lung")),
    "chest_det": detection.DetectionMetric(1, ("opacity",)),
}


def _config():
    runs = {
        "stage1": schema.RunConfig(stage="contrastive", steps=300),
        "stage2": schema.RunConfig(stage="continual", init_from="stage1", steps=50),
    }
    for task in TASKS:
        for arm, parent in ARMS.items():
            runs[f"{arm}_{task}"] = schema.RunConfig(
                stage="finetune",
                arm=arm,
                init_from=parent,
                finetune=schema.FinetuneConfig(task=task),
            )
    kinds = ("classification", "segmentation", "detection")
    return schema.ExperimentConfig(
        seed=3,
        report=schema.ReportConfig(title="Phantom X-rays", bootstrap=100, samples=6),
        tasks={
            task: schema.TaskConfig(
                kind=kind,
                dataset="chest",
                image_size=SIZE,
                flip_at_test=kind == "segmentation",
            )
            for task, kind in zip(TASKS, kinds, strict=True)
        },
        runs=runs,
    )


def _xrays(rng, count):
    """Two dark lungs on a bright chest, a bright spot in every second one."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    image = np.empty((count, SIZE, SIZE), np.float32)
    mask = np.zeros((count, SIZE, SIZE), np.int32)
    spot = rng.uniform(0.35, 0.6, (count, 2))
    for i in range(count):
        shift = rng.uniform(-0.03, 0.03)
        for side in (0.32, 0.68):
            inside = ((x - side - shift) / 0.14) ** 2 + ((y - 0.5) / 0.3) ** 2 < 1
            mask[i][inside] = 1
        image[i] = 1 - np.abs(x - 0.5) - 0.8 * mask[i]
        if i % 2:
            away = (y - spot[i, 0]) ** 2 + (x - spot[i, 1]) ** 2
            image[i] += np.exp(-away / 0.003)
    image += rng.normal(scale=0.05, size=image.shape)
    return (image - image.mean()) / image.std(), mask, spot


def _predict(task, noise, image, mask, spot, rng):
    """Outputs of an imagined model, the batch, and the arrays of its samples."""
    count = len(image)
    odd = np.arange(count) % 2 == 1
    record = np.arange(count, dtype=np.int32)
    if task == "chest_cls":
        logit = (odd * 2 - 1) + noise * rng.normal(scale=1.5, size=count)
        one = 1 / (1 + np.exp(-logit))
        outputs = {"probability": np.stack([1 - one, one], 1).astype(np.float32)}
        label = np.stack([~odd, odd], 1).astype(np.float32)
        batch = {"label": label, "label_known": label >= 0, "record": record}
        return outputs, batch, {**batch, **outputs}
    if task == "lung_seg":
        moved = np.roll(mask, round(6 * noise), axis=1 + rng.integers(2))
        batch = {"segmentation": mask, "pixel_known": mask >= 0, "record": record}
        shown = {"segmentation_true": mask, "segmentation": moved}
        return {"segmentation": moved}, batch, shown
    box = np.concatenate([spot - 0.08, spot + 0.08], 1)[:, None]
    found = box + noise * rng.normal(scale=0.03, size=(count, 3, 4))
    outputs = {
        "box": found.astype(np.float32),
        "score": rng.uniform(0.2, 1, (count, 3)).astype(np.float32),
        "class": np.zeros((count, 3), np.int32),
        "valid": np.repeat([[True, True, False]], count, 0),
    }
    truth = {
        "box": box.astype(np.float32),
        "box_class": np.zeros((count, 1), np.int32),
        "box_valid": odd[:, None],
    }
    shown = {**outputs, "box_true": truth["box"], "box_valid": truth["box_valid"]}
    shown["box_class"] = truth["box_class"]
    return outputs, {**truth, "record": record}, shown


def _write_run(folder, values, lines):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(values))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def _write_predictions(folder, task, noise, rng, *, images, groups):
    image, mask, spot = _xrays(np.random.default_rng(0), images)
    outputs, batch, shown = _predict(task, noise, image, mask, spot, rng)
    folder.mkdir(parents=True)
    records = METRICS[task].records(outputs, batch)
    few = {
        name: array[:6] for name, array in {**shown, "image": image[..., None]}.items()
    }
    np.savez(folder / "test.samples.npz", **few)
    for split in ("test", "validation"):
        np.savez(folder / f"{split}.npz", **records)
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["record", "image_id", "group"])
            rows.writerows(
                [i, f"image {i}", f"patient {i % groups}"] for i in range(images)
            )


def _finetune_lines(primary, noise):
    for step in range(50, 501, 50):
        yield {"step": step, "train/loss": noise * np.exp(-step / 200)}
        value = 1 - 0.4 * noise * np.exp(-step / 150) - 0.1 * noise
        yield {"step": step, f"validation/{primary}": value}


def _segments(rng):
    values = dict.fromkeys(TASKS, 0.3)
    for round_ in range(3):
        for task in rng.permutation(TASKS):
            values = {t: v - 0.04 for t, v in values.items()}
            values[task] = min(0.75 + 0.07 * round_, 1)
            yield {"task": str(task), "round": round_, "values": dict(values)}


@pytest.fixture(scope="session")
def metrics():
    return METRICS


@pytest.fixture(scope="session")
def config():
    return _config()


@pytest.fixture(scope="session")
def renamed():
    """Changes names in a report, in keys and values, alone or within others."""

    def change(value, names):
        if dataclasses.is_dataclass(value):
            return dataclasses.replace(value, **change(vars(value), names))
        if isinstance(value, dict):
            return {change(k, names): change(v, names) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(change(each, names) for each in value)
        if isinstance(value, str):
            for old, new in names.items():
                value = value.replace(old, new)
        return value

    return change


@pytest.fixture
def workdir(tmp_path, folder):
    """A copy of the work folder, to change."""
    return shutil.copytree(folder, tmp_path / "work")


@pytest.fixture(scope="module")  # What a report draws stays in it.
def folder(tmp_path_factory):
    """The work folder: 60 test images of 40 patients."""
    tmp_path = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(1)
    common = {"finished": True, "seconds": 312.0, "images_per_second": 41.3}
    common |= {"parameters": 700_000, "arm": None, "task": None, "parent": None}
    common |= {"labels": {}}
    _write_run(
        tmp_path / "runs" / "stage1",
        {**common, "name": "stage1", "stage": "contrastive", "steps": 300},
        [
            {
                "step": s,
                "train/loss": 5.5 - 3 * s / 300 + 0.1 * rng.normal(),
                "train/accuracy": 0.6 * s / 300,
            }
            for s in range(5, 301, 5)
        ],
    )
    stage2 = {"name": "stage2", "stage": "continual", "parent": "stage1", "steps": 450}
    _write_run(tmp_path / "runs" / "stage2", {**common, **stage2}, [])
    matrix = {
        "tasks": [*TASKS, "dental_seg"],  # the last never came to its turn
        "metric": {task: METRICS[task].primary for task in TASKS},
        "segments": list(_segments(rng)),
    }
    (tmp_path / "runs" / "stage2" / "forgetting.json").write_text(json.dumps(matrix))
    for task in TASKS:
        primary = METRICS[task].primary
        for arm, parent in ARMS.items():
            run = tmp_path / "runs" / f"{arm}_{task}"
            values = {"name": run.name, "stage": "finetune", "arm": arm, "task": task}
            values |= {"parent": parent or None, "steps": 500}
            values |= {"best_step": 450, "best_value": 0.9 - 0.1 * NOISE[arm]}
            used = {"records": 60, "groups": 40, "positives": 30, "fraction": 1.0}
            values["labels"] = {task: {"test": {**used, "sha256": "0" * 64}}}
            if task == "lung_seg":
                values["best_dice_of_grid"] = 0.981
            lines = list(_finetune_lines(primary, NOISE[arm]))
            _write_run(run, {**common, **values}, lines)
            folder = run / "predictions" / task
            _write_predictions(folder, task, NOISE[arm], rng, images=60, groups=40)
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3}))
    (tmp_path / "versions.json").write_text(json.dumps({"jax": "0.10.2"}))
    return tmp_path
