"""What a process opens for all runs of a config, and which work folders it refuses."""

import collections
import importlib.util
import json
import pathlib
import subprocess
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation, run, workfolder

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[schema.ExperimentConfig, dict[str, Any]]:
    """The tiny demonstration, all stages and kinds of task, and its prepared sets."""
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny_of_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = schema.parse(module.get_config("demo"))
    folder = tmp_path_factory.mktemp("data")
    return config, preparation.prepare(config.datasets, folder)


def test_each_split_is_opened_once_a_process(demo, tmp_path, monkeypatch):
    config, folders = demo
    opened = collections.Counter()
    read = sources.open_prepared

    def count(folder, split, manifest=""):
        opened[str(folder), split] += 1
        return read(folder, split, manifest)

    def do(made):
        """Reads all that a run does, but takes no step."""
        tasks = made.row.tasks or [made.row.stage]
        for stream in made.feed.streams(dict.fromkeys(tasks, 0)).values():
            stream.close()
        splits = (
            ("validation", "test") if made.row.options.is_tested else ("validation",)
        )
        for task in made.row.tasks:
            for split in splits:
                made.feed.split(task, split).close()
                made.feed.labels(task, split)
        made.folder.mkdir(parents=True, exist_ok=True)
        (made.folder / "run.json").write_text("{}")

    monkeypatch.setattr(sources, "open_prepared", count)
    monkeypatch.setattr(run.Run, "do", do)
    monkeypatch.setattr(workfolder.schedule, "progress", lambda shop: "")
    monkeypatch.setattr(workfolder, "_report", lambda shop: {})

    workfolder.run(config, tmp_path / "work", folders)

    assert len(opened) == 7  # of three sets; no task is learnt from the hands
    assert set(opened.values()) == {1}


def test_a_work_folder_of_an_older_version_is_refused_in_one_line(demo, tmp_path):
    config, folders = demo
    (tmp_path / "versions.json").write_text(json.dumps({"compute_dtype": "float32"}))

    with pytest.raises(ValueError, match="was begun by another version") as refused:
        workfolder.run(config, tmp_path, folders)

    assert "\n" not in str(refused.value)


def test_the_commit_of_the_code_is_known_where_there_is_one(tmp_path, monkeypatch):
    is_cloned = (pathlib.Path(__file__).parents[1] / ".git").exists()
    assert (workfolder._commit() is not None) == is_cloned
    package = tmp_path / "project" / "mtpret_jax"
    package.mkdir(parents=True)
    monkeypatch.setattr(workfolder, "__file__", str(package / "room" / "file.py"))
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")

    def git(*words):
        command = ["git", "-C", str(package.parent), *identity, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert workfolder._commit() is None
    (package / "experiment.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "Begin")
    git("tag", "-m", "A name that hides the hash", "v1")
    head = git("rev-parse", "HEAD")
    assert workfolder._commit() == head
    (package / "experiment.py").write_text("2")
    assert workfolder._commit() == f"{head}+"
