"""Ages and grades of simulated fingers through all stages, to answers and exports."""

from __future__ import annotations

import csv
import filecmp
import itertools
import json
import pathlib
import shutil
import types
from typing import Any

import cv2
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.experiment import preparation, recorder, workfolder
from mtpret_jax.exports import folder as export_folder
from mtpret_jax.training import preemption
from tfds_builders.phantom_xray import simulator

pytestmark = pytest.mark.slow
AGE, GRADE = "bone_age_months", "narrowing"
SIZE = 32  # pixels


def _config() -> schema.ExperimentConfig:
    """Both in stage 2, then one each: the age from there, the grade from scratch."""
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.report.update(bootstrap=50, samples=2)
    config.datasets.fingers = schema.dataset(
        "phantom_xray", body="finger", image_size=64, train=24, validation=8, test=16
    )
    shared = dict(dataset="fingers", image_size=SIZE, batch_size=8)
    config.tasks.age = schema.task(
        kind="regression", target=AGE, second_input="sex", **shared
    )
    config.tasks.wear = schema.task(
        kind="ordinal", target=GRADE, class_weights="balanced", **shared
    )
    shared = dict(steps=4, log_every=1, checkpoint_every=2)
    config.runs.both = schema.run(
        stage="continual", continual=dict(tasks=("age", "wear"), rounds=1), **shared
    )
    config.runs.age = schema.run(
        stage="finetune",
        arm="mtpret",
        init_from="both",
        finetune=dict(task="age", head="carried"),
        evaluate_every=2,
        **shared,
    )
    config.runs.wear = schema.run(
        stage="finetune",
        arm="scratch",
        label_fraction=0.5,
        finetune=dict(task="wear"),
        **shared,
    )
    return schema.parse(config)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The prepared set, by name."""
    return preparation.prepare(
        _config().datasets, tmp_path_factory.mktemp("readings") / "data"
    )


@pytest.fixture(scope="module")
def work(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A work folder with everything done."""
    work = tmp_path_factory.mktemp("readings") / "work"
    workfolder.run(_config(), work, folders)
    return work


@pytest.fixture(scope="module")
def finger(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two files of fingers."""
    folder = tmp_path_factory.mktemp("files")
    for index in range(2):
        shot = simulator.simulate("finger", size=64, seed=9, split_index=0, index=index)
        cv2.imwrite(str(folder / f"{index}.png"), shot.image)
    return folder


def _command(*words: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main.run(list(words))
    return ended.value.code


def test_the_report_has_the_values_of_both(work: pathlib.Path):
    report = json.loads((work / "report.json").read_text())

    assert report["tasks"]["age"]["primary"] == "mae"
    assert report["tasks"]["wear"]["primary"] == "kappa_quadratic"
    (age,), (wear,) = (report["values"][task]["1"].values() for task in ("age", "wear"))
    assert set(age) == {"mae", "rmse", "bias", "pearson"}
    assert age["mae"]["low"] <= age["mae"]["value"] <= age["mae"]["high"]
    assert set(wear) == {"kappa_quadratic", "accuracy", "grades_off"}
    (counts,) = report["confusion"]["wear"]["1"].values()
    assert np.sum(counts) == 16
    assert report["calibration"]["wear"] == {}
    page = (work / "report.html").read_text()
    assert "Predicted against true values" in page
    assert "mean absolute error (lower is better)" in page


def test_the_state_with_the_least_error_is_tested(work: pathlib.Path):
    lines = (work / "runs/age/metrics.jsonl").read_text().splitlines()
    told = {row["step"]: row for row in map(json.loads, lines)}
    errors = {s: r["validation/mae"] for s, r in told.items() if "validation/mae" in r}
    record = json.loads((work / "runs/age/run.json").read_text())

    assert set(errors) == {2, 4}
    assert record["best_value"] == pytest.approx(min(errors.values()))
    assert errors[record["best_step"]] == min(errors.values())


def test_a_stopped_run_ends_like_an_uninterrupted_one(
    work: pathlib.Path, folders: Any, tmp_path: pathlib.Path, monkeypatch: Any
):
    """Both kinds in stage 2, and grades alone: what was written, bit for bit."""
    again, done = tmp_path / "work", ("both", "wear")
    shutil.copytree(work, again)
    for run in done:
        shutil.rmtree(again / "runs" / run)
    steps = itertools.count(1)
    asked = types.SimpleNamespace(
        # The sixth step of stage 2, of the second task; the third of the grades.
        is_asked=lambda: next(steps) in (6, 11),
        Preempted=preemption.Preempted,
    )
    monkeypatch.setattr(recorder, "preemption", asked)

    for _ in range(2):
        with pytest.raises(preemption.Preempted):
            workfolder.run(_config(), again, folders)
    workfolder.run(_config(), again, folders)

    for run in done:
        for name in ("metrics.jsonl", "backbone/golden.npz"):
            one, other = (root / "runs" / run / name for root in (work, again))
            assert filecmp.cmp(one, other, shallow=False), (run, name)
    reports = [json.loads((root / "report.json").read_text()) for root in (work, again)]
    assert reports[0]["values"] == reports[1]["values"]


def test_evaluating_gives_the_figures_of_the_report(
    work: pathlib.Path, folders: Any, tmp_path: pathlib.Path
):
    report = json.loads((work / "report.json").read_text())
    for task in ("age", "wear"):
        out = tmp_path / f"{task}.json"
        words = (f"--model={work / 'runs' / task}", f"--set={folders['fingers']}")
        asked = ("--resamples=50", "--batch_size=16", f"--out={out}", "--quiet")
        assert _command("evaluate", *words, *asked) == 0

        found = json.loads(out.read_text())["values"]
        (values,) = report["values"][task]["1"].values()
        for name, value in values.items():
            for end in ("value", "low", "high"):
                assert found[name][end] == pytest.approx(value[end], rel=1e-4), name
        assert ("confusion" in json.loads(out.read_text())) == (task == "wear")


def _rows(out: pathlib.Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ages_are_predicted_in_months_and_with_the_sex_if_it_is_known(
    work: pathlib.Path, finger: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
):
    told = tmp_path / "told.csv"
    told.write_text("file,sex\n0.png,F\nelsewhere.png,M\n")
    model = f"--model={work / 'runs/age'}"

    def predict(name: str, *options: str) -> list[dict[str, str]]:
        out = tmp_path / name
        assert _command("predict", model, f"--out={out}", *options, str(finger)) == 0
        return _rows(out)

    untold = predict("untold")
    table = predict("table", f"--second_table={told}")
    girls = predict("girls", "--second_input=F")

    assert set(untold[0]) >= {f"value:{AGE}", "unit", "second"}
    assert [row["second"] for row in table] == ["F", ""]
    values = [
        [float(row[f"value:{AGE}"]) for row in rows] for rows in (untold, table, girls)
    ]
    assert values[1][0] == values[2][0] != values[0][0]
    assert values[1][1] == values[0][1] != values[2][1]
    assert untold[0]["unit"] == "months"
    assert "Of 1 of 2 it is not known which of F, M they are" in capsys.readouterr().out
    found = mtpret_jax.load(work / "runs/age").predict(str(finger / "0.png"), "F")
    assert found["value"][AGE] == pytest.approx(values[2][0], rel=1e-5)


def test_a_class_that_the_model_is_not_told_is_refused(
    work: pathlib.Path, finger: pathlib.Path, tmp_path: pathlib.Path, capsys: Any
):
    def refused(run: str, *options: str) -> str:
        words = (f"--model={work / 'runs' / run}", f"--out={tmp_path / 'out'}")
        assert _command("predict", *words, *options, str(finger)) != 0
        return capsys.readouterr().err

    assert "--second_input: 'boy' is not one of ['F', 'M']" in refused(
        "age", "--second_input=boy"
    )
    assert "'F' is not one of []" in refused("wear", "--second_input=F")
    table = tmp_path / "told.csv"
    table.write_text("file,gender\n0.png,F\n")
    assert "has no column 'sex'" in refused("age", f"--second_table={table}")


def test_grades_are_predicted_with_their_probabilities(
    work: pathlib.Path, finger: pathlib.Path, tmp_path: pathlib.Path
):
    words = (f"--model={work / 'runs/wear'}", f"--out={tmp_path / 'out'}", "--quiet")
    assert _command("predict", *words, str(finger)) == 0

    for row in _rows(tmp_path / "out"):
        chances = [float(row[f"probability:{grade}"]) for grade in "01234"]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == str(int(np.searchsorted(np.cumsum(chances), 0.5)))
        assert row["calibrated:0"] == ""


def test_grades_are_exported_and_a_head_that_is_told_more_is_not(
    work: pathlib.Path, tmp_path: pathlib.Path
):
    export_folder.write(work, "wear", tmp_path / "wear")
    facts = json.loads((tmp_path / "wear" / "config.json").read_text())
    assert facts["torchvision"]["resnet"]["num_classes"] == 4
    assert facts["class_names"] == ["0", "1", "2", "3", "4"]
    assert facts["id2label"] == {str(n): f"above {n}" for n in range(4)}

    with pytest.raises(ValueError, match="trained a head that is told more than the"):
        export_folder.write(work, "age", tmp_path / "age")
