"""What a study's report says of predictions whose values are known."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.metrics import classification, segmentation
from mtpret_jax.report import comparisons, contents
from mtpret_jax.study import plan

pytestmark = pytest.mark.smoke

Study = Callable[..., schema.ExperimentConfig]
CLASSES = classification.ClassificationMetric(("normal", "ill"), exclusive=True)
MASKS = segmentation.SegmentationMetric(("background", "lung"))
IMAGES = 60  # each of its own patient; every second one is ill
ILL = np.arange(IMAGES) % 2 == 1
# Probability of "ill": AUROC 1, 1/2 (all tied), and one pair of 900 the wrong way.
PERFECT = np.where(ILL, 0.8, 0.2) + np.linspace(0, 0.1, IMAGES)
BLIND = np.full(IMAGES, 0.5)
SLIP = np.where(np.arange(IMAGES) == 1, PERFECT[ILL == 0].max() - 1e-4, PERFECT)
CLAIMS = ("contrastive - scratch", "scratch - contrastive", "mtpret - contrastive")
INDEX = [{"sex": "", "view": "", "age": ""}] * IMAGES


def _config(study: Study, **options: Any) -> schema.ExperimentConfig:
    """Two seeds at a tenth of the labels, one at all of them; 50 resamples."""
    given: dict[str, Any] = dict(
        tasks=("opacity",),
        hold_out=(),
        arms=("scratch", "contrastive", "mtpret"),
        claims=CLAIMS,
        finetune_steps={},
        learning_rates={},
    )
    config = plan.expand(study(**(given | options)))
    return dataclasses.replace(config, report=schema.ReportConfig(bootstrap=50))


def _records(ill: np.ndarray) -> dict[str, np.ndarray]:
    label = np.stack([~ILL, ILL], 1).astype(np.float32)
    outputs = {"probability": np.stack([1 - ill, ill], 1)}
    batch = {"label": label, "label_known": label >= 0, "record": np.arange(IMAGES)}
    return CLASSES.records(outputs, batch)


def _write(folder: pathlib.Path, records: Mapping[str, np.ndarray], name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Each file in an order of its own.
    seed = zlib.crc32(folder.parents[1].name.encode())
    shuffled = np.random.default_rng(seed).permutation(IMAGES)
    np.savez(folder / f"{name}.npz", **{key: a[shuffled] for key, a in records.items()})
    lines = [f"{i},image {i},patient {i}\n" for i in range(IMAGES)]
    split = name.partition(".")[0]
    (folder / f"{split}.csv").write_text("".join(["record,image_id,group\n", *lines]))


def _end(workdir: pathlib.Path, config: schema.ExperimentConfig, run: str) -> None:
    """Marks a run as ended."""
    row = config.runs[run]
    facts = {
        "finished": True,
        "stage": row.stage,
        "arm": row.arm,
        "task": row.finetune.task,
        "labels": {row.finetune.task: {"test": dict(records=60, groups=60)}},
    }
    folder = workdir / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(facts))


def _fill(
    workdir: pathlib.Path,
    config: schema.ExperimentConfig,
    ill: Callable[[plan.Cell], np.ndarray],
) -> None:
    """Ends every run; a cell predicts that probability of "ill"."""
    for run in config.runs:
        _end(workdir, config, run)
    for cell in plan.cells(config):
        folder = workdir / "runs" / cell.run / "predictions" / cell.task
        for split in ("test", "validation"):
            _write(folder, _records(ill(cell)), split)


def _build(
    workdir: pathlib.Path, config: schema.ExperimentConfig, **index: Any
) -> dict[str, Any]:
    metrics = {
        name: MASKS if row.kind == "segmentation" else CLASSES
        for name, row in config.tasks.items()
    }
    indices = dict.fromkeys(config.datasets, INDEX) | index
    built = contents.build(workdir, config, metrics, indices)
    # NaN, which is unequal to itself, as None; tuples as lists.
    return json.loads(json.dumps(contents.plain(built), allow_nan=False))


def _by_arm(cell: plan.Cell) -> np.ndarray:
    return {"scratch": BLIND, "contrastive": PERFECT, "mtpret": SLIP}[cell.arm]


def _claim(study: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(claim for claim in study["claims"] if claim["name"] == name)


def test_verdicts_on_known_differences(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    _fill(tmp_path, config, _by_arm)

    built = _build(tmp_path, config)

    # 3 claims and 2 fractions; 50 resamples could not decide one of 6 comparisons.
    assert built["interval"]["resamples"] == comparisons.resamples(config) == 240
    found = {claim["name"]: claim["summary"] for claim in built["claims"]}
    better, worse, undecided = (
        {name: int(name == one) for name in ("better", "worse", "undecided")}
        for one in ("better", "worse", "undecided")
    )
    assert found == {
        "contrastive - scratch": {"0.1": better, "1": better},
        "scratch - contrastive": {"0.1": worse, "1": worse},
        "mtpret - contrastive": {"0.1": undecided, "1": undecided},
    }
    row = _claim(built, "contrastive - scratch")["rows"][0]
    assert (row["task"], row["metric"], row["seeds"]) == ("opacity", "auroc", [0, 1])
    assert (row["difference"], row["low"], row["high"]) == (0.5, 0.5, 0.5)
    assert row["p"] == pytest.approx(2 / 241)  # the least of 240 resamples
    # Four of six are as sure as can be: Holm multiplies the first by 6.
    assert row["p_corrected"] == pytest.approx(12 / 241)
    slip = _claim(built, "mtpret - contrastive")["rows"][0]
    assert slip["difference"] == pytest.approx(-1 / 900)
    assert slip["low"] < -1 / 900 < slip["high"] <= 0
    area = next(row for row in built["areas"] if row["name"] == "mtpret - contrastive")
    assert (area["class_name"], area["area"]) == ("ill", pytest.approx(899 / 900))


def test_seeds_are_averaged(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    _fill(tmp_path, config, lambda cell: BLIND if cell.seed else PERFECT)

    built = _build(tmp_path, config)

    tenth = built["values"]["opacity"]["0.1"]["mtpret"]["auroc"]
    assert tenth["value"] == 0.75
    assert (tenth["by_seed"], tenth["seeds"]) == ([1.0, 0.5], [0, 1])
    assert tenth["spread"] == pytest.approx(0.5 / 2**0.5)
    full = built["values"]["opacity"]["1"]["mtpret"]["auroc"]
    assert (full["value"], full["seeds"]) == (1.0, [0])
    assert full["spread"] is None
    assert built["samples"]["opacity"]["scratch"] == "scratch.opacity.f10.s0"


def test_a_study_may_be_unfinished(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    assert _build(tmp_path, config)["claims"][0]["rows"] == []
    _fill(tmp_path, config, _by_arm)
    missing = ["scratch.opacity.f10.s0", "contrastive.opacity.f10.s1"]
    for run in ("scratch.opacity.f10.s0", "contrastive.opacity.f10.s1"):
        (tmp_path / "runs" / run / "run.json").unlink()

    built = _build(tmp_path, config)

    assert built["unfinished"] == missing
    assert built["values"]["opacity"]["0.1"]["scratch"]["auroc"]["seeds"] == [1]
    # No seed is there of both, but at all labels.
    rows = _claim(built, "contrastive - scratch")["rows"]
    assert [row["fraction"] for row in rows] == ["1"]
    rows = _claim(built, "mtpret - contrastive")["rows"]
    assert [(row["fraction"], row["seeds"]) for row in rows] == [
        ("0.1", [0]),
        ("1", [0]),
    ]
    assert built["tasks"]["opacity"]["images"] == 60

    (tmp_path / "runs" / "mtpret.opacity.f10.s0" / "predictions").rename(
        tmp_path / "elsewhere"
    )
    with pytest.raises(
        FileNotFoundError, match=r"'mtpret\.opacity\.f10\.s0' is marked"
    ):
        _build(tmp_path, config)


def test_a_control_may_be_another_arm(study: Study, tmp_path: pathlib.Path):
    """Held out, a task has no extra steps: its control is arm contrastive."""
    config = _config(
        study,
        tasks=("opacity", "fracture"),
        hold_out=("fracture",),
        arms=("scratch", "contrastive", "control", "mtpret"),
        fractions=(0.1,),
        seeds=(1,),
        claims=("mtpret - contrastive", "mtpret - control", "control - contrastive"),
    )
    _fill(tmp_path, config, lambda cell: SLIP if cell.arm == "mtpret" else PERFECT)

    built = _build(tmp_path, config)

    assert built["tasks"]["fracture"]["external"]
    assert built["tasks"]["fracture"]["same_as"] == {"control": "contrastive"}
    assert not built["tasks"]["opacity"]["same_as"]
    rows = [
        _claim(built, f"mtpret - {arm}")["rows"] for arm in ("contrastive", "control")
    ]
    assert rows[0][1] == rows[1][1]
    assert [row["task"] for row in rows[0]] == ["opacity", "fracture"]
    itself = _claim(built, "control - contrastive")["rows"]
    assert [row["task"] for row in itself] == ["opacity"]
    # Five rows, but four comparisons.
    assert comparisons.resamples(config) == 160
    values = built["values"]["fracture"]["0.1"]
    assert values["control"] == values["contrastive"]


def test_calibration_and_threshold(study: Study, tmp_path: pathlib.Path):
    config = _config(study, arms=("scratch",), claims=())
    _fill(tmp_path, config, lambda cell: PERFECT)
    folder = tmp_path / "runs" / "scratch.opacity.f10.s0" / "predictions" / "opacity"
    # On validation all above 0.84 are ill, by which some of the ill are missed on test.
    raised = np.where(PERFECT > 0.84, PERFECT, 0.1)
    _write(folder, _records(np.where(ILL, raised, 0.839)), "validation")

    built = _build(tmp_path, config)

    found = built["calibration"]["opacity"]["0.1"]["scratch"]
    assert list(found) == ["ill"]
    ill = found["ill"]
    assert ill["threshold"] == pytest.approx(
        (0.839 + PERFECT[PERFECT > 0.84].min()) / 2
    )
    missed = (PERFECT[ILL] < ill["threshold"]).sum()
    assert ill["sensitivity"]["value"] == pytest.approx(1 - missed / 30)
    assert 0 < missed < 30
    assert (ill["specificity"]["value"], ill["specificity"]["images"]) == (1.0, 30)
    # Of those at 0.2 and above none is ill, of those at 0.8 and above all: off by as
    # much as lies between.
    distance = np.where(ILL, 1 - PERFECT, PERFECT).mean()
    assert ill["error"] == pytest.approx(distance, abs=1e-6)
    assert sum(bin_["images"] for bin_ in ill["observed"]) == IMAGES


def test_subgroups_where_the_index_knows_them(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    _fill(tmp_path, config, _by_arm)
    assert _build(tmp_path, config)["subgroups"] == {"opacity": {}}
    index = [
        {"sex": "female" if i < 20 else "", "view": "", "age": "7.5" if i < 40 else ""}
        for i in range(IMAGES)
    ]

    found = _build(tmp_path, config, chest=index)["subgroups"]["opacity"]

    assert list(found) == ["sex", "age"]
    names = [(level["level"], level["images"]) for level in found["sex"]]
    assert names == [("female", 20), ("not recorded", 40)]
    assert found["age"][0]["level"] == "06-11"
    values = found["sex"][0]["values"]
    assert values["contrastive"]["value"] == 1.0
    assert values["scratch"]["value"] == 0.5
    # The one pair that is the wrong way is of a woman, image 1, and a later image.
    assert values["mtpret"]["value"] == 1.0


def test_frozen_features_where_they_were_measured(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    _fill(tmp_path, config, _by_arm)
    for seed, ill in enumerate((PERFECT, BLIND)):
        run = tmp_path / "runs" / f"mtpret.opacity.f10.s{seed}"
        _write(run / "predictions" / "opacity", _records(ill), "test.knn")

    found = _build(tmp_path, config)["frozen"]["opacity"]

    assert found["0.1"]["mtpret"]["knn"]["auroc"]["value"] == 0.75
    assert list(found["0.1"]["mtpret"]) == ["knn"]
    assert list(found) == ["0.1"]


def test_unetplusplus_is_measured_as_the_task(study: Study, tmp_path: pathlib.Path):
    """Its runs have a task of their own, a variant."""
    config = _config(
        study,
        tasks=("lungs",),
        arms=("scratch", "unetplusplus"),
        claims=("unetplusplus - scratch",),
        fractions=(1.0,),
        seeds=(1,),
    )
    truth = np.zeros((IMAGES, 8, 8), np.int32)
    truth[:, :4] = 1
    batch = {
        "segmentation": truth,
        "pixel_known": truth >= 0,
        "record": np.arange(IMAGES),
    }
    for cell in plan.cells(config):
        _end(tmp_path, config, cell.run)
        task = config.runs[cell.run].finetune.task
        moved = np.roll(truth, 1, axis=1) if cell.arm == "scratch" else truth
        records = MASKS.records({"segmentation": moved}, batch)
        folder = tmp_path / "runs" / cell.run / "predictions" / task
        _write(folder, records, "test")

    built = _build(tmp_path, config)

    values = built["values"]["lungs"]["1"]
    assert values["unetplusplus"]["dice"]["value"] == 1.0
    assert values["scratch"]["dice"]["value"] == pytest.approx(0.75)  # 3 of 4 rows
    assert built["claims"][0]["summary"]["1"]["better"] == 1
    assert (built["areas"], built["calibration"]) == ([], {"lungs": {}})


def test_curves_data_and_labels_are_told(study: Study, tmp_path: pathlib.Path):
    config = _config(study)
    _fill(tmp_path, config, _by_arm)
    lines = [
        {
            "step": 1,
            "train/loss": 0.5,
            "train/records": 7.0,
            "train/gradient_norm": 1.0,
        },
        {"step": 2, "validation/auroc": None, "validation/kappa": 0.1},
    ]
    run = tmp_path / "runs" / "mtpret.opacity.f100.s0"
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (tmp_path / "datasets.json").write_text(json.dumps({"chest": {"index": "abc"}}))

    told = _build(tmp_path, config)

    curves = told["curves"]["mtpret.opacity.f100.s0"]
    assert list(curves) == ["train/loss", "validation/auroc", "validation/kappa"]
    assert curves["validation/auroc"] == {"step": [2], "value": [None]}
    assert told["datasets"] == {"chest": {"index": "abc"}}
    assert (
        told["runs"]["mtpret.opacity.f100.s0"]["labels"]["opacity"]["test"]["records"]
        == 60
    )
    assert set(told["arms"]) == {"scratch", "contrastive", "mtpret"}
    assert (told["fractions"], told["seeds"]) == (["0.1", "1"], [2, 1])
    assert told["tasks"]["opacity"]["primary"] == "auroc"
