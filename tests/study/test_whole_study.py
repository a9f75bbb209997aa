"""A small study by its command, to the predictions of every cell; then one anew."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from mtpret_jax import config as schema
from mtpret_jax.study import plan

REPOSITORY = pathlib.Path(__file__).parents[2]


def _run(folder: pathlib.Path) -> pathlib.Path:
    """Two tasks, three arms, half of the labels, one seed, on one CPU device."""
    command = [
        *(sys.executable, "-m", "mtpret_jax.main"),
        "--config=configs/tiny.py:study",
        "--config.study.tasks=('opacity', 'fracture')",
        "--config.study.arms=('scratch', 'control', 'mtpret')",
        "--config.study.fractions=(0.5,)",
        "--config.study.seeds=(1,)",
        "--config.study.claims=('mtpret - scratch',)",
        f"--workdir={folder / 'work'}",
        f"--data_dir={folder / 'data'}",
    ]
    environment = dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "work"


def _ends(runs: pathlib.Path) -> dict[str, float]:
    return {path.parent.name: path.stat().st_mtime for path in runs.glob("*/run.json")}


def _predicted(run: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("predictions/*/test*")}


@pytest.mark.slow
def test_every_cell_is_done_once(tmp_path: pathlib.Path):
    workdir = _run(tmp_path)

    # The whole comparison is told from the folder alone.
    config = schema.parse(json.loads((workdir / "config.json").read_text()))
    cells = plan.cells(config)
    assert {(cell.arm, cell.task) for cell in cells} == {
        (arm, task)
        for arm in ("scratch", "control", "mtpret")
        for task in ("opacity", "fracture")
    }
    ends = _ends(workdir / "runs")
    assert set(ends) == set(config.runs)
    for cell in cells:
        folder = workdir / "runs" / cell.run
        assert json.loads((folder / "run.json").read_text())["task"] == cell.task
        for file in ("test.npz", "test.linear.npz", "test.knn.npz"):
            assert (folder / "predictions" / cell.task / file).exists(), file
    assert (workdir / "audit" / "audit.json").exists()
    # A study has a report of its own kind.
    assert (workdir / "study.html").exists()
    assert not (workdir / "report.json").exists()
    told = json.loads((workdir / "study.json").read_text())
    assert told["unfinished"] == []
    rows = [row for claim in told["claims"] for row in claim["rows"]]
    assert [(row["task"], row["seeds"]) for row in rows] == [
        ("opacity", [0]),
        ("fracture", [0]),
    ]
    assert set(told["frozen"]["fracture"]["0.5"]["mtpret"]) == {"linear", "knn"}

    # What is done again comes out the same, and nothing else is done again.
    again = workdir / "runs" / "mtpret.fracture.f50.s0"
    first = _predicted(again)
    assert first
    shutil.rmtree(again)
    _run(tmp_path)
    assert _predicted(again) == first
    assert ends.pop(again.name) < _ends(workdir / "runs").pop(again.name)
    assert ends.items() <= _ends(workdir / "runs").items()
