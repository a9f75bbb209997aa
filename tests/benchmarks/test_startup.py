"""The command is watched until its steps are done, and its parts are told apart."""

import dataclasses

import pytest

from benchmarks import watched_run
from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation


def _experiment() -> schema.ExperimentConfig:
    options = {"image_size": 32, "train": 16, "validation": 8, "test": 8}
    task = schema.TaskConfig(
        dataset="chest", target="finding", image_size=32, batch_size=8
    )
    finetune = schema.FinetuneConfig(task="finding", batch_norm_batches=0)
    return schema.ExperimentConfig(
        backbone=schema.BackboneConfig(name="resnet18", width=4),
        datasets={"chest": schema.DatasetConfig("phantom_xray", options)},
        tasks={"finding": task},
        runs={"run": schema.RunConfig(stage="finetune", finetune=finetune)},
    )


def test_parts_are_the_time_since_the_part_before():
    seconds = dict(zip(watched_run.PARTS, (1.0, 1.5, 3.5, 4.0, 9.0), strict=True))
    one = {"seconds": seconds, "step_seconds": 0.1, "peak_mib": 100.0}
    one |= {"device_peak_mib": 0.0, "device": "cpu"}
    slower = one | {"seconds": {part: 2 * value for part, value in seconds.items()}}

    found = watched_run.summary([one, slower, slower])

    assert found["first_step_seconds"]["median"] == 18.0
    assert [part["median"] for part in found["seconds"].values()] == [2, 1, 4, 1, 10]
    assert found["seconds"]["imports"]["low"] == 1.0
    assert len(watched_run.row("any", found)) == len(watched_run.HEAD)


@pytest.mark.slow
def test_the_command_ends_after_its_steps_and_tells_its_parts(tmp_path):
    config = _experiment()
    preparation.prepare(config.datasets, tmp_path / "data")

    found = watched_run.start(config, tmp_path, workdir="work", cache="cache", steps=2)

    times = [found["seconds"][part] for part in watched_run.PARTS]
    assert times == sorted(times)
    assert 0 < found["step_seconds"] < times[-1]
    assert found["peak_mib"] > 100
    assert any((tmp_path / "cache").iterdir())
    assert not (tmp_path / "work" / "runs" / "run" / "run.json").exists()


def test_a_command_that_fails_says_why(tmp_path):
    config = dataclasses.replace(_experiment(), datasets={})

    with pytest.raises(RuntimeError, match=r"before its step 3.*chest"):
        watched_run.start(config, tmp_path, workdir="work", cache="cache")
