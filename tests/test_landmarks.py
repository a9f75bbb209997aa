"""Landmarks of simulated jaws through all stages, to answers, overlays and exports."""

from __future__ import annotations

import csv
import filecmp
import json
import pathlib
from typing import Any

import cv2
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.exports import folder as export_folder
from mtpret_jax.training import preemption
from tfds_builders.phantom_xray import head, simulator

pytestmark = pytest.mark.slow
NAMES = list(head.LANDMARKS)
SIZE = 32  # pixels


def _config() -> schema.ExperimentConfig:
    """Stage 2, in which half of the images are mirrored, then fine-tuning from it."""
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.report.update(bootstrap=50, samples=2)
    config.datasets.jaws = schema.dataset(
        "phantom_xray", body="head", image_size=64, train=24, validation=8, test=12
    )
    config.tasks.points = schema.task(
        kind="landmarks",
        dataset="jaws",
        image_size=SIZE,
        batch_size=3,  # on one device: many are in `tests/stages`
        landmarks=dict(channels=8),
        augment=schema.augment("gentle", flip_probability=0.5),
    )
    shared = dict(steps=4, log_every=1, checkpoint_every=2)
    config.runs.before = schema.run(
        stage="continual", continual=dict(tasks=("points",), rounds=1), **shared
    )
    config.runs.points = schema.run(
        stage="finetune",
        arm="carried",
        init_from="before",
        finetune=dict(task="points", head="carried"),
        evaluate_every=2,
        **shared,
    )
    return schema.parse(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The prepared set, by name."""
    return preparation.prepare(
        _config().datasets, tmp_path_factory.mktemp("landmarks") / "data"
    )


@pytest.fixture(scope="module")
def work(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A work folder with everything done."""
    work = tmp_path_factory.mktemp("landmarks") / "work"
    workfolder.run(_config(), work, folders)
    return work


def _command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.run(list(words))
    return int(ended.value.code or 0)


def test_the_report_has_the_error_of_each_point_and_samples(work: pathlib.Path):
    report = json.loads((work / "report.json").read_text())

    assert report["tasks"]["points"]["primary"] == "radial_error"
    (values,) = report["values"]["points"]["1"].values()
    each = {f"point_error/{name}" for name in NAMES}
    assert set(values) == {"radial_error", "within_2_percent", *each}
    error = values["radial_error"]
    assert 0 < error["low"] <= error["value"] <= error["high"]
    page = (work / "report.html").read_text()
    assert "radial error in % (lower is better)" in page
    assert "Circles are true landmarks" in page


def test_a_stopped_run_ends_like_an_uninterrupted_one(
    work: pathlib.Path, folders: Any, tmp_path: pathlib.Path, monkeypatch: Any
):
    """In each run once: states, and what was written, bit for bit."""
    asked, stopped, runs = preemption.is_asked, [], tmp_path / "work" / "runs"

    def is_asked() -> bool:
        """After the second step of each run."""
        for run in {"before", "points"} - {*stopped}:
            path = runs / run / "metrics.jsonl"
            if path.exists() and len(path.read_text().splitlines()) > 1:
                return True
        return asked()

    monkeypatch.setattr(preemption, "is_asked", is_asked)
    while not (tmp_path / "work" / "report.json").exists():
        try:
            workfolder.run(_config(), tmp_path / "work", folders)
        except preemption.Preempted:
            stopped.append("points" if (runs / "points").exists() else "before")

    assert stopped == ["before", "points"]
    for run in ("before", "points"):
        one, other = (root / "runs" / run for root in (work, tmp_path / "work"))
        for name in ("metrics.jsonl", "backbone/golden.npz"):
            assert filecmp.cmp(one / name, other / name, shallow=False), (run, name)


def test_evaluating_gives_the_figures_of_the_report(
    work: pathlib.Path, folders: Any, tmp_path: pathlib.Path
):
    report = json.loads((work / "report.json").read_text())
    words = (f"--model={work / 'runs/points'}", f"--set={folders['jaws']}")
    asked = ("--resamples=50", "--batch_size=16", f"--out={tmp_path / 'e.json'}")
    assert _command("evaluate", *words, *asked, "--quiet") == 0

    found = json.loads((tmp_path / "e.json").read_text())["values"]
    (values,) = report["values"]["points"]["1"].values()
    for name, value in values.items():
        for end in ("value", "low", "high"):
            assert found[name][end] == pytest.approx(value[end], rel=1e-4), name


def test_points_are_predicted_in_pixels_of_the_file_and_drawn(
    work: pathlib.Path, tmp_path: pathlib.Path
):
    for index in range(2):
        shot = simulator.simulate("head", size=90, seed=9, split_index=0, index=index)
        cv2.imwrite(str(tmp_path / f"{index}.png"), shot.image)
    (tmp_path / "2.png").write_bytes(b"not an image")
    words = (f"--model={work / 'runs/points'}", f"--out={tmp_path / 'out'}", "--quiet")

    assert _command("predict", *words, "--overlays", str(tmp_path)) == 3  # one skipped

    tables = {}
    for name in ("predictions", "landmarks"):
        with (tmp_path / "out" / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    wide = {row["file"]: row for row in tables["predictions"]}
    rows = tables["landmarks"]
    assert [(pathlib.Path(r["file"]).name, r["landmark"]) for r in rows] == [
        (f"{number}.png", name) for number in range(2) for name in NAMES
    ]
    for row in rows:
        told = wide[row["file"]]
        assert 0 <= float(row["x"]) <= int(told["width"])
        assert 0 <= float(row["y"]) <= int(told["height"])
        for part in ("x", "y", "spread"):
            assert row[part] == told[f"landmarks:{row['landmark']}:{part}"]
    drawn = cv2.imread(str(tmp_path / "out" / wide[rows[0]["file"]]["overlay"]))
    y, x = (
        min(int(float(rows[0][part])), drawn.shape[n] - 1)
        for n, part in ((0, "y"), (1, "x"))
    )
    near = drawn[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].astype(int)
    assert (np.ptp(near, axis=-1) > 60).any()  # coloured


def test_the_backbone_is_exported_and_that_the_head_stays_is_told(
    work: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
):
    export_folder.write(work, "points", tmp_path / "out")

    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert facts["kind"] == "backbone"
    assert "Only the backbone is written" in capsys.readouterr().err
