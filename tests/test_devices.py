"""Runs whose batches do not divide over all devices, in one process and in two."""

import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import jax
import pytest

from mtpret_jax import config as schema
from mtpret_jax.config import rules
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.training import sharding

REPOSITORY = pathlib.Path(__file__).parents[1]
TINY = REPOSITORY / "configs" / "tiny.py"


def odd_batches() -> Any:
    """The demo shrunk to a run of each stage, no batch of which divides by 8."""
    spec = importlib.util.spec_from_file_location("tiny_of_devices", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("demo")
    kept = ("contrastive", "continual", "scratch_missing_tooth")
    with config.unlocked():
        for name in set(config.runs) - set(kept):
            del config.runs[name]
        del config.tasks["opacity"]
    config.tasks.missing_tooth.update(batch_size=12, microbatches=2)
    config.tasks.mandible.batch_size = 4
    config.runs.contrastive.contrastive.update(batch_size=12, queue_size=24)
    config.runs.continual.continual.update(
        tasks=("missing_tooth", "mandible"), rounds=1
    )
    for row in config.runs.values():
        row.update(steps=2)
        row.optimizer.learning_rate = 0.001
    config.report.update(bootstrap=5, samples=1)
    return config


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((8,), 8), ((16, 24), 8), ((6,), 2), ((12, 4), 4), ((7,), 1)],
)
def test_a_mesh_has_as_many_devices_as_share_every_batch(sizes, expected):
    mesh = sharding.fit_mesh(sizes)

    assert mesh.devices.flat[:].tolist() == jax.devices()[:expected]


@pytest.mark.smoke
def test_a_run_of_several_tasks_has_one_mesh():
    config = schema.parse(odd_batches())

    found = {name: rules.shares(config, name) for name in config.runs}

    task = "config.tasks.{}.batch_size / microbatches"
    assert found == {
        "contrastive": {"config.runs.contrastive.contrastive.batch_size": 12},
        "continual": {task.format("missing_tooth"): 6, task.format("mandible"): 4},
        "scratch_missing_tooth": {task.format("missing_tooth"): 6},
    }


def lines(workdir: pathlib.Path, run: str) -> list[dict[str, float]]:
    text = (workdir / "runs" / run / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_a_part_of_the_devices_gives_the_numbers_of_one(tmp_path, monkeypatch, caplog):
    config = schema.parse(odd_batches())
    folders = preparation.prepare(config.datasets, tmp_path / "data")

    workfolder.run(config, tmp_path / "part", folders)
    one = sharding.make_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "fit_mesh", lambda sizes: one)
    workfolder.run(config, tmp_path / "one", folders)

    assert (
        "Run 'continual' uses 2 of 8 devices, which share its batches evenly; "
        "multiples of 8 would use all (config.tasks.missing_tooth.batch_size / "
        "microbatches: 6, config.tasks.mandible.batch_size / microbatches: 4)."
    ) in caplog.messages
    for run in config.runs:
        part, whole = lines(tmp_path / "part", run), lines(tmp_path / "one", run)
        assert [line["step"] for line in part] == [line["step"] for line in whole]
        for found, wanted in zip(part, whole, strict=True):
            assert found.keys() == wanted.keys()
            for name, value in found.items():
                if not name.startswith("validation"):
                    assert value == pytest.approx(wanted[name], rel=0.01), name
    # Two steps were trained: a batch of each task is validated.
    folder = tmp_path / "part" / "runs" / "continual"
    matrix = json.loads((folder / "forgetting.json").read_text())
    positives = matrix["measured_on"]["missing_tooth"]["positives"]
    assert 0 < positives < 10
    assert matrix["measured_on"] == {
        "missing_tooth": {
            **{"split": "validation", "records": 10, "whole": 10, "of": 10},
            **{"positives": positives, "is_enough": False},
        },
        "mandible": {
            **{"split": "validation", "records": 4, "whole": 10, "of": 10},
            **{"positives": 10, "is_enough": False},
        },
    }
    # What is forgotten is told of the whole split, after a task's own segments.
    assert [list(row["whole"]) for row in matrix["segments"][:1]] == [
        [matrix["segments"][0]["task"]]
    ]
    assert set(matrix["segments"][-1]["whole"]) == {"missing_tooth", "mandible"}
    labels = json.loads((folder / "run.json").read_text())["labels"]
    assert labels["mandible"]["validation"]["records"] == 4
    assert "10 of 10" in (tmp_path / "part" / "report.html").read_text()


CONFIG = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

def get_config():
    config = tiny.get_config("demo")
    config.input.workers = 1
    row = config.runs.scratch_missing_tooth.to_dict() | {{"arm": ""}}
    row.update(steps=4, checkpoint_every=2)
    row["optimizer"]["learning_rate"] = 0.001
    task = config.tasks.missing_tooth.to_dict()
    with config.unlocked():
        for table in (config.tasks, config.datasets, config.runs):
            for name in list(table):
                if name != "head":
                    del table[name]
        config.tasks.even = tiny.schema.task(**task)
        config.tasks.odd = tiny.schema.task(**task | {{"batch_size": 7}})
        for name, task, start in (
            ("apart", "odd", ""), ("together", "even", "apart"),
            ("after", "odd", "together"),
        ):
            finetune = row["finetune"] | {{"task": task}}
            changes = {{"init_from": start, "finetune": finetune}}
            config.runs[name] = tiny.schema.run(**row | changes)
        config.runs.apart.update(steps=150, checkpoint_every=150)  # Time to stop it.
    return config
"""


# Background jobs of a shell, and so tests that it runs there, ignore Ctrl-C.
HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def start(
    folder: pathlib.Path, workdir: str, *, devices: int, flags: tuple[str, ...] = ()
) -> subprocess.Popen:
    """The command on some CPU devices, its words in a log of its own."""
    (folder / "config.py").write_text(CONFIG.format(tiny=str(TINY)))
    command = [sys.executable, "-c", HEEDING, "-m", "mtpret_jax.main"]
    command += [f"--config={folder / 'config.py'}", f"--workdir={folder / workdir}"]
    flag = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flag, "PYTHONPATH": str(REPOSITORY)}
    number = len(list(folder.glob("*.log")))
    with (folder / f"{number}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, f"--data_dir={folder / 'data'}", *flags],
            env=environment,
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def start_two(folder: pathlib.Path) -> list[subprocess.Popen]:
    """Two processes of one program, with a device each."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    cluster = ("--distributed", f"--coordinator=127.0.0.1:{port}", "--processes=2")
    return [
        start(folder, "two", devices=1, flags=(*cluster, f"--process={index}"))
        for index in range(2)
    ]


def ends(processes: list[subprocess.Popen]) -> list[int]:
    """Exit codes; what does not end in time is killed."""
    deadline = time.monotonic() + 400
    try:
        return [
            each.wait(timeout=max(deadline - time.monotonic(), 1)) for each in processes
        ]
    finally:
        for each in processes:
            each.kill()
            each.wait()


def workers(process: subprocess.Popen) -> list[int]:
    """The processes that read for a process."""
    threads = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    found = [(thread / "children").read_text().split() for thread in threads]
    return [int(word) for words in found for word in words]


def logs(folder: pathlib.Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))


@pytest.mark.slow
def test_two_processes_do_alike_what_they_cannot_share_and_stop_in_it(tmp_path):
    assert ends([start(tmp_path, "one", devices=1)]) == [0], logs(tmp_path)
    processes = start_two(tmp_path)
    written = tmp_path / "two" / "runs" / "apart" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while not written.exists() or not written.read_text():
        assert [each.poll() for each in processes] == [None, None], logs(tmp_path)
        assert time.monotonic() < deadline
        time.sleep(0.01)

    readers = [worker for process in processes for worker in workers(process)]
    for process in processes:  # As at a terminal, workers and all.
        os.killpg(process.pid, signal.SIGINT)
    stopped = ends(processes)
    assert stopped == [75, 75], logs(tmp_path)
    done = written.read_text().count("\n")
    assert logs(tmp_path).count(f"Stopped. Step {done} of run 'apart' is saved.") == 2
    assert readers
    while any(pathlib.Path(f"/proc/{worker}").exists() for worker in readers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ends(start_two(tmp_path)) == [0, 0], logs(tmp_path)

    # Alone it is the same run, bit for bit; together sums have another order.
    assert lines(tmp_path / "two", "apart") == lines(tmp_path / "one", "apart")
    for name in ("together", "after"):
        two, one = (lines(tmp_path / folder, name) for folder in ("two", "one"))
        for found, wanted in zip(two, one, strict=True):
            assert found["train/loss"] == pytest.approx(wanted["train/loss"], rel=0.01)
    report = json.loads((tmp_path / "two" / "report.json").read_text())
    assert report["unfinished"] == []
