"""Trackers: they change nothing of a run, and what they were told is read back.

Without a network. Run by `make extras-test`, which has all extras in one place.
"""

import importlib
import json
import logging
import pathlib
import struct
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax.training import trackers

mlflow: Any = importlib.import_module("mlflow")
wandb_messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
REPOSITORY = pathlib.Path(__file__).parent.parent.parent
STEPS = 4
BLOCK = 32768  # bytes of a block of wandb's files


def make_config():
    """One class task on phantoms."""
    config = schema.defaults()
    config.backbone.update(name="resnet10", width=8, in_channels=1)
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=32, train=16, validation=8, test=8
    )
    config.tasks.finding = schema.task(
        kind="classification",
        dataset="chest",
        target="finding",
        image_size=32,
        batch_size=8,
    )
    config.runs.run = schema.run(
        stage="finetune",
        steps=STEPS,
        log_every=1,
        checkpoint_every=2,
        finetune=dict(task="finding"),
    )
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trackers")


@pytest.fixture(scope="module")
def plain(folder):
    mtpret_jax.train(make_config(), folder / "plain", folder / "data")
    return folder / "plain"


@pytest.fixture(scope="module")
def tracked(folder, plain):
    """Stopped after two steps by its own log, then resumed."""
    config = make_config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trackers.Trackers, "add", _stop_at(2))
        with pytest.raises(KeyboardInterrupt):
            mtpret_jax.train(
                config, folder / "tracked", folder / "data", track=["wandb", "mlflow"]
            )
    mtpret_jax.train(
        config, folder / "tracked", folder / "data", track=["wandb", "mlflow"]
    )
    return folder / "tracked"


def _stop_at(last: int):
    """Like `add`, but Ctrl-C comes with the line after `last` steps."""
    add = trackers.Trackers.add

    def call(self, step, scalars):
        if step > last:
            raise KeyboardInterrupt
        add(self, step, scalars)

    return call


def log(workdir: pathlib.Path) -> list[dict[str, float]]:
    lines = (workdir / "runs/run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_gives_the_same_bytes_with_and_without(plain, tracked):
    for file in ("metrics.jsonl", "predictions/finding/test.npz"):
        one, two = ((place / "runs/run" / file) for place in (plain, tracked))
        assert one.read_bytes() == two.read_bytes()
    one, two = (mtpret_jax.load(place / "runs/run").tree for place in (plain, tracked))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not (plain / "runs/run/trackers.json").exists()


def test_mlflow_knows_every_value_and_how_the_run_ended(tracked):
    client = mlflow.MlflowClient(f"sqlite:///{tracked / 'mlflow.db'}")
    (experiment,) = (
        one for one in client.search_experiments() if one.name == "mtpret_jax"
    )

    (run,) = client.search_runs([experiment.experiment_id])

    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tracked/run"
    assert run.data.params["finetune.task"] == "finding"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    told = {one.step: one.value for one in history}
    assert told == {line["step"]: line["train/loss"] for line in log(tracked)}


def test_wandb_knows_every_value_under_one_name(tracked):
    folders = sorted((tracked / "wandb").glob("offline-run-*"))
    kept = json.loads((tracked / "runs/run/trackers.json").read_text())

    told: dict[int, float] = {}
    for folder in folders:
        (file,) = folder.glob("*.wandb")
        assert file.stem == f"run-{kept['wandb']}"
        for record in records(file):
            if record.WhichOneof("record_type") == "history":
                row = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                if "train/loss" in row:
                    told[row["_step"]] = row["train/loss"]

    assert len(folders) == 2
    assert told == {line["step"]: line["train/loss"] for line in log(tracked)}


def records(file: pathlib.Path):
    """What a file of Weights & Biases holds: chunks in blocks, as LevelDB's logs."""
    content, at, data = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := BLOCK - at % BLOCK) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # Whole, or the last chunk.
            record = wandb_messages.Record()
            record.ParseFromString(data)
            yield record
            data = b""


def test_a_tracker_that_fails_ends_itself_and_not_the_run(
    folder, plain, monkeypatch, caplog
):
    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(trackers.MlflowTracker, "add", fail)
    with caplog.at_level(logging.WARNING):
        mtpret_jax.train(
            make_config(), folder / "failed", folder / "data", track=["mlflow"]
        )

    assert (plain / "runs/run/metrics.jsonl").read_bytes() == (
        folder / "failed/runs/run/metrics.jsonl"
    ).read_bytes()
    said = [line for line in caplog.messages if "mlflow failed" in line]
    assert said == [
        "run: mlflow failed, and is told no more of this run: the disk is full"
    ]


def test_a_wrong_name_or_a_missing_library_stops_before_anything(
    folder, tmp_path, monkeypatch
):
    with pytest.raises(ValueError, match="--track: 'tensorbored' is none of wandb"):
        mtpret_jax.train(
            make_config(), tmp_path / "w", folder / "data", track=["tensorbored"]
        )
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mtpret_jax\[wandb\]'"):
        mtpret_jax.train(
            make_config(), tmp_path / "w", folder / "data", track=["wandb"]
        )

    assert not (tmp_path / "w").exists()


def test_without_a_tracker_none_is_imported():
    program = (
        "import sys, mtpret_jax; mtpret_jax.train; "
        "print([name for name in ('wandb', 'mlflow') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "module",
    ["apache_beam", "pydicom", "gdcm", "safetensors", "sphinx", "wandb", "mlflow"],
)
def test_all_extras_are_there_together(module):
    importlib.import_module(module)
