"""`runs`: what lies in work folders, told from small files in little time."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.experiment import listing


def make_config(**options: Any) -> dict[str, Any]:
    """Two runs of one task, as a work folder's config.json has them."""
    config: Any = schema.defaults()
    config.datasets.chest = schema.dataset("phantom_xray", body="chest")
    config.tasks.opacity = schema.task(kind="classification", dataset="chest")
    for arm in ("scratch", "mtpret"):
        config.runs[arm] = schema.run(
            stage="finetune",
            arm=arm,
            steps=20,
            finetune=dict(task="opacity"),
            **options,
        )
    return schema.as_dict(schema.parse(config))


def make_workdir(
    folder: pathlib.Path,
    values: dict[str, float],
    *,
    metric: str = "auroc",
    digest: str = "a",
    **options: Any,
) -> pathlib.Path:
    """A work folder in which the runs that `values` names have ended."""
    (folder / "runs").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(make_config(**options)))
    (folder / "versions.json").write_text(json.dumps({"layout": 3, "jax": "0.12"}))
    for name, value in values.items():
        (folder / "runs" / name).mkdir()
        record = {
            "steps": 20,
            "seconds": 90.0,
            "labels": {"opacity": {"validation": {"sha256": digest}}},
            "metric": metric,
            "higher_is_better": metric != "mae",
            "best_value": value,
        }
        (folder / "runs" / name / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def say(capsys):
    """Calls `runs ...` and gives what it prints."""

    def call(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as end:
            main.run(["runs", *arguments])
        said = capsys.readouterr()
        assert end.value.code == code, said.err
        return said.err if code else said.out

    return call


def test_a_list_has_a_line_for_each_run(say, tmp_path):
    folder = make_workdir(tmp_path / "deep" / "down" / "work", {"scratch": 0.75})
    (folder / "runs" / "mtpret").mkdir()
    log = folder / "runs" / "mtpret" / "metrics.jsonl"
    log.write_text('{"step": 6}\n{"step": 9}\n{"st')

    heads, scratch, mtpret = say("ls", str(tmp_path)).splitlines()

    assert heads.split()[:4] == ["FOLDER", "RUN", "STATE", "STAGE"]
    told = " ".join(scratch.split()[1:11])
    assert told == "scratch done finetune scratch opacity 0 20/20 auroc 0.75 1.5"
    told = " ".join(mtpret.split()[1:9])
    assert told == "mtpret begun finetune mtpret opacity 0 9/20 -"


def test_a_run_without_files_waits_and_json_says_the_same(say, tmp_path):
    make_workdir(tmp_path / "work", {"mtpret": 0.5})

    found = json.loads(say("ls", str(tmp_path), "--json", "--sort=value"))

    assert [(row["run"], row["state"]) for row in found] == [
        ("mtpret", "done"),
        ("scratch", "waiting"),
    ]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "{}", "an entry is missing"),
        ("config.json", "[1]", "indices must be"),
        ("versions.json", '{"layout": 2}', "of another version"),
        ("versions.json", None, "versions.json is missing"),
        ("runs/scratch/run.json", '{"steps": 3}', "an entry is missing"),
        ("runs/scratch/run.json", "\x00", "run.json is damaged"),
    ],
)
def test_what_is_damaged_is_a_line(say, tmp_path, file, content, why):
    make_workdir(tmp_path / "good", {"scratch": 0.5})
    bad = make_workdir(tmp_path / "bad", {"scratch": 0.5})
    if content is None:
        (bad / file).unlink()
    else:
        (bad / file).write_text(content)

    lines = say("ls", str(tmp_path)).splitlines()

    (line,) = [line for line in lines if "damaged: " in line]
    assert str(bad) in line
    assert why in line
    assert sum(f"{tmp_path}/good " in line for line in lines) == 2


@pytest.mark.parametrize(("metric", "best"), [("auroc", "mtpret"), ("mae", "scratch")])
def test_the_best_is_chosen_in_the_metrics_direction(say, tmp_path, metric, best):
    values = {"scratch": 0.5, "mtpret": 0.75}
    make_workdir(tmp_path / "work", values, metric=metric)
    make_workdir(tmp_path / "other", {"mtpret": 0.6}, metric=metric, digest="b")

    (one, two) = json.loads(say("best", str(tmp_path), "--json"))

    assert (one["run"], one["rivals"], one["value"]) == ("mtpret", 1, 0.6)
    assert (two["run"], two["rivals"]) == (best, 2)
    assert "opacity  " + f"{metric} 0.6" in say("best", str(tmp_path))


def test_a_run_is_shown_with_what_its_report_measured(say, tmp_path):
    folder = make_workdir(tmp_path / "work", {"scratch": 0.75})
    cell = dict(arm="scratch", task="opacity", fraction=1.0, seed=0, run="scratch")
    measured = {"auroc": {"value": 0.7, "low": 0.6, "high": 0.8}}
    values = {"opacity": {"1": {"scratch": measured}}}
    (folder / "report.json").write_text(json.dumps(dict(cells=[cell], values=values)))

    said = say("show", str(folder / "runs" / "scratch"))

    assert "auroc 0.75" in said
    assert "0.7 (0.6 to 0.8)" in said
    assert "run.steps" in said
    assert "datasets.chest.options.body" in said
    assert "run.stage" not in said  # its default
    assert "version jax" in said


def test_two_runs_are_told_apart_by_what_they_do_not_share(say, tmp_path):
    one = make_workdir(tmp_path / "one", {"scratch": 0.75})
    two = make_workdir(tmp_path / "two", {"scratch": 0.5}, label_fraction=0.1)

    lines = say("diff", f"{one}/runs/scratch", f"{two}/runs/scratch").splitlines()

    assert lines[1].split() == ["validation", "auroc", "0.75", "auroc", "0.5"]
    assert [line.split() for line in lines[2:]] == [
        ["options", "run.label_fraction", "-", "0.1"]
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "{0}/none"], "no such folder"),
        (["ls", "{0}"], "no work folder"),
        (["best", "{0}/work"], "no ended run has a value"),
        (["show", "{0}/work"], "Give the folder of one"),
        (["show", "{0}/work/runs/wrong"], "no run 'wrong'; it has scratch, mtpret"),
    ],
)
def test_mistakes_are_told_in_one_line(say, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    if "work" in arguments[1]:
        make_workdir(tmp_path / "work", {})

    said = say(*(part.format(tmp_path) for part in arguments), code=1)

    assert words in said
    assert said.count("\n") == 1


def test_a_thousand_work_folders_are_listed_in_a_second(tmp_path):
    """Processor's time of a whole process; alone it takes less than half a second."""
    first = make_workdir(tmp_path / "w0", {"scratch": 0.5, "mtpret": 0.6})
    for number in range(1, 1000):
        folder = tmp_path / f"w{number}"
        folder.mkdir()
        for path in first.rglob("*"):
            target = folder / path.relative_to(first)
            if path.is_dir():
                target.mkdir()
            else:
                os.link(path, target)
    before = os.times()

    done = subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", "runs", "ls", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    after = os.times()
    used = after.children_user + after.children_system
    assert len(done.stdout.splitlines()) == 2001
    assert used - before.children_user - before.children_system < 2.0


def test_listing_loads_no_jax():
    program = (
        "import sys; from mtpret_jax.cli import runs_best, runs_diff, runs_ls, "
        "runs_show; print([m for m in ('jax', 'flax', 'tensorflow_datasets', 'grain') "
        "if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


def test_rows_of_a_deep_folder_are_not_looked_for(tmp_path):
    make_workdir(tmp_path / "a" / "b" / "c" / "d" / "work", {})

    with pytest.raises(FileNotFoundError, match="no work folder"):
        listing.find([tmp_path])
