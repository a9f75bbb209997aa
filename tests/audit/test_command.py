"""The command: by config, by folders, and its one-line errors."""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.cli import data_audit

REPOSITORY = pathlib.Path(__file__).parents[2]


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    return subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", "data", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.fixture
def folder(
    prepare: Callable[..., pathlib.Path], pictures: list[np.ndarray]
) -> pathlib.Path:
    rows = [
        ("a.png", pictures[0], "train", "1"),
        ("b.png", pictures[0], "test", "2"),
        ("c.png", pictures[1], "val", "3"),
    ]
    return prepare("mine", rows)


def test_folders_are_audited_and_the_list_written(
    folder: pathlib.Path, tmp_path: pathlib.Path
):
    done = _call(f"--out={tmp_path / 'out'}", str(folder))

    assert done.returncode == 0, done.stderr
    assert "Excluded from the pool of stage 1: 1 training image." in done.stdout
    assert "What it cannot find" in done.stdout
    lines = (tmp_path / "out" / "exclusions.csv").read_text().splitlines()
    assert lines[1] == "mine,a.png,same pixels,mine,b.png,test,0"


def test_a_folder_that_may_not_be_written_ends_in_one_line(
    folder: pathlib.Path, tmp_path: pathlib.Path
):
    (tmp_path / "file").touch()

    done = _call(f"--out={tmp_path / 'file' / 'out'}", str(folder))

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_the_sets_of_a_config_are_audited(
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
):
    config = schema.defaults()
    config.datasets.mine = schema.dataset("xray_folder", folder="x")
    out = str(tmp_path / "out")

    call = {"config": config, "folders": [], "out": out}

    data_audit.run(argparse.Namespace(data_dir=str(folder.parents[2]), **call))

    said = capsys.readouterr().out.splitlines()
    assert "  mine (xray_folder, splits official): train 1, " in said[1]
    with pytest.raises(FileNotFoundError, match="Dataset 'mine' is not prepared"):
        data_audit.run(argparse.Namespace(data_dir=str(tmp_path), **call))


def test_sets_of_one_name_are_told_apart_by_their_builders(folder: pathlib.Path):
    other = folder.parents[1] / "else" / "mine" / "1.0.0"

    names = list(data_audit.folder_sets([str(folder), str(other)]))

    assert names == [f"xray_folder/mine/{folder.name}", "else/mine/1.0.0"]


def test_neither_config_nor_folders_is_a_usage_error(tmp_path: pathlib.Path):
    done = _call(f"--out={tmp_path}")

    assert done.returncode == 2
    assert done.stderr.startswith("Error: Name either a config")
