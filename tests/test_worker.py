"""Runs shared by several processes: each is done once, also when one of them dies."""

import collections
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.experiment import locks, run, schedule, workshop
from mtpret_jax.study import run_record
from mtpret_jax.training import preemption

REPOSITORY = pathlib.Path(__file__).parents[1]
STEPS = 8
CONFIG = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

def get_config():
    config = tiny.get_config("demo")
    row = config.runs.scratch_missing_tooth.to_dict()
    row.update(steps={steps}, log_every=1, checkpoint_every=2)
    row["finetune"]["batch_norm_batches"] = 0
    with config.unlocked():
        for table in (config.tasks, config.datasets, config.runs):
            for name in list(table):
                if name not in ("missing_tooth", "head"):
                    del table[name]
        config.runs.start = tiny.schema.run(**row | {{"arm": "scratch"}})
        for seed in range(3):
            more = {{"seed": seed, "arm": f"arm{{seed}}", "init_from": "start"}}
            config.runs[f"run{{seed}}"] = tiny.schema.run(**row | more)
    config.report.update(bootstrap=5, samples=1)
    return config
"""
RUNS = ["start", *(f"run{seed}" for seed in range(3))]


def start(config: pathlib.Path, workdir: pathlib.Path, *flags: str) -> subprocess.Popen:
    """The command in a process of its own, on one CPU device."""
    command = [sys.executable, "-m", "mtpret_jax.main", f"--config={config}"]
    command += [f"--workdir={workdir}", f"--data_dir={workdir.parent / 'data'}"]
    environment = dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY))
    log_path = workdir.parent / f"log{len(list(workdir.parent.glob('log*')))}"
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [*command, *flags], env=environment, stdout=log, stderr=log, cwd=REPOSITORY
        )


def begun(log: pathlib.Path) -> list[str]:
    """The runs that the process of a log has begun."""
    return re.findall(r"; next: (\w+)$", log.read_text(), re.M)


def work_in_hand(workdir: pathlib.Path, log: pathlib.Path) -> str | None:
    """The run that the process of a log is in the middle of."""
    for name in begun(log)[-1:]:
        folder = workdir / "runs" / name
        lines = folder / "metrics.jsonl"
        is_at_work = lines.exists() and not (folder / "run.json").exists()
        if is_at_work and lines.read_text().count("\n") >= 3:
            return name
    return None


def kill_in_the_middle(process: subprocess.Popen, workdir: pathlib.Path) -> str:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        name = work_in_hand(workdir, workdir.parent / "log0")
        if name is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return name
        assert process.poll() is None, "The process ended before it could be killed."
        time.sleep(0.005)
    raise TimeoutError("The process never came to the middle of a run.")


@pytest.mark.slow
def test_two_processes_share_the_runs_and_one_is_killed(tmp_path):
    """Both begin at once, where nothing is prepared."""
    config = tmp_path / "shared.py"
    tiny = str(REPOSITORY / "configs" / "tiny.py")
    config.write_text(CONFIG.format(tiny=tiny, steps=STEPS))
    workdir = tmp_path / "shared"
    processes = [start(config, workdir) for _ in range(2)]

    killed = kill_in_the_middle(processes[0], workdir)
    processes.append(start(config, workdir))  # Somebody comes later.
    ends = [process.wait(timeout=600) for process in processes[1:]]

    logs = sorted(tmp_path.glob("log*"))
    assert ends == [0, 0], "".join(log.read_text()[-3000:] for log in logs)
    did = [begun(log) for log in logs]
    expected = dict.fromkeys(RUNS, 1) | {killed: 2}
    assert collections.Counter(itertools.chain(*did)) == expected
    for name in RUNS:
        folder = workdir / "runs" / name
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [*range(1, STEPS + 1)]
        assert json.loads((folder / "run.json").read_text())["finished"]
    report = json.loads((workdir / "report.json").read_text())
    assert report["unfinished"] == []
    assert list(report["runs"]) == RUNS
    assert sum(map(bool, did)) >= 2


@pytest.mark.slow
def test_processes_with_devices_of_their_own_share_the_runs(tmp_path):
    config = tmp_path / "side_by_side.py"
    tiny = str(REPOSITORY / "configs" / "tiny.py")
    config.write_text(CONFIG.format(tiny=tiny, steps=3))
    groups = ("0,1,2,3", "4,5,6,7")

    one = start(config, tmp_path / "one", f"--devices={groups[0]}")
    assert one.wait(timeout=600) == 0, (tmp_path / "log0").read_text()[-3000:]
    workdir = tmp_path / "both"
    both = [start(config, workdir, f"--devices={group}") for group in groups]
    ends = [process.wait(timeout=600) for process in both]

    logs = [tmp_path / "log1", tmp_path / "log2"]
    assert ends == [0, 0], "".join(log.read_text()[-3000:] for log in logs)
    did = [begun(log) for log in logs]
    assert sorted(itertools.chain(*did)) == sorted(RUNS)
    assert all(did)
    assert json.loads((workdir / "versions.json").read_text())["devices"] == 4
    for name in RUNS:
        metrics = [
            (tmp_path / folder / "runs" / name / "metrics.jsonl").read_text()
            for folder in ("one", "both")
        ]
        assert metrics[0] == metrics[1], name


def table(**parents: str) -> Any:
    """A shop without anything but runs and their starts."""
    runs = {
        name: schema.RunConfig(
            init_from=parent, steps=100, finetune=schema.FinetuneConfig(task="it")
        )
        for name, parent in parents.items()
    }
    return schema.ExperimentConfig(runs=runs)


def ended(**facts: Any) -> run_record.RunRecord:
    """The record of a run of 100 steps in a minute, unless it is said otherwise."""
    values: dict[str, Any] = dict(
        name="it",
        stage="finetune",
        arm="",
        task="it",
        tasks=("it",),
        seed=0,
        labels={},
        learning_rate={},
        parent=None,
        pools=(),
        steps=100,
        parameters=1,
        seconds=60.0,
        resumed_at=0,
    )
    return run_record.RunRecord(**values | facts)


@pytest.mark.smoke
def test_a_record_comes_back_from_json_as_it_was():
    plain = ended()
    tested = ended(selection="last", best_step=3, frozen={"images": 4})

    for record in (plain, tested):
        values = json.loads(json.dumps(record.to_json()))
        assert run_record.RunRecord.from_json(values, "run.json") == record
    assert "best_value" not in plain.to_json()
    assert tested.to_json()["best_value"] is None
    assert "best_dice_of_grid" not in tested.to_json()


@pytest.mark.smoke
def test_a_record_of_another_version_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^it/run\.json: written by another version"):
        run_record.RunRecord.from_json({"finished": True}, "it/run.json")


@pytest.fixture
def make_shop(tmp_path, monkeypatch):
    """A work folder whose runs are done by writing `run.json`."""
    done = []

    def make(fails=(), **parents):
        shop = workshop.Workshop(
            config=table(**parents),
            workdir=epath.Path(tmp_path) / "table",
            folders={},
            mesh=None,
            tasks={},
            shard=None,
        )

        def do(made):
            shop, name = made.shop, made.name
            done.append(name)
            if name in fails:
                raise FloatingPointError("the loss is nan")
            facts = ended().to_json()
            (shop.run_folder(name) / "run.json").write_text(json.dumps(facts))

        monkeypatch.setattr(run.Run, "do", do)
        return shop, done

    def init(made, shop, name):
        made.shop, made.name = shop, name

    monkeypatch.setattr(run.Run, "__init__", init)
    monkeypatch.setattr(locks, "POLL", 0.0)
    return make


@pytest.mark.smoke
def test_runs_are_done_in_order_and_ended_ones_skipped(make_shop):
    shop, done = make_shop(first="", second="first", third="")

    assert schedule.do_all(shop) is False
    assert done == ["first", "second", "third"]
    assert schedule.do_all(shop) is False
    assert len(done) == 3


@pytest.mark.smoke
def test_a_run_that_fails_keeps_only_what_needs_it_from_being_done(make_shop):
    shop, done = make_shop(
        fails=("first", "other"), first="", second="first", third="", other=""
    )

    with pytest.raises(FloatingPointError, match="the loss is nan") as error:
        schedule.do_all(shop)

    assert done == ["first", "third", "other"]
    notes = " ".join(error.value.__notes__)
    assert "In run 'first'." in notes
    assert "Runs that failed, too: ['other']." in notes
    assert not locks.is_held(shop.run_folder("first"))  # Another may try.


@pytest.mark.smoke
def test_a_run_that_is_stopped_is_free_for_others_at_once(make_shop, monkeypatch):
    shop, done = make_shop(first="", second="")

    def do(made):
        done.append(made.name)
        assert locks.is_held(shop.run_folder(made.name))
        raise preemption.Preempted("Step 3")

    monkeypatch.setattr(run.Run, "do", do)

    with pytest.raises(preemption.Preempted):
        schedule.do_all(shop)

    assert done == ["first"]  # The others are not begun.
    assert not locks.is_held(shop.run_folder("first"))


@pytest.mark.smoke
def test_what_others_do_is_waited_for_and_what_needs_it_left_for_later(
    make_shop, monkeypatch
):
    shop, done = make_shop(first="", second="first", third="")
    lock = locks.take(shop.run_folder("first"))
    naps = []

    def nap(_):
        naps.append(list(done))
        if len(naps) == 3:
            facts = ended().to_json()
            (shop.run_folder("first") / "run.json").write_text(json.dumps(facts))
            lock.lock.release()

    monkeypatch.setattr(schedule.time, "sleep", nap)

    assert schedule.do_all(shop) is False  # The last one, "second", was its own.
    assert naps == [["third"]] * 3
    assert done == ["third", "second"]


@pytest.mark.smoke
def test_a_run_that_ends_while_its_lock_is_taken_is_not_done_again(
    make_shop, monkeypatch
):
    shop, done = make_shop(first="", second="")
    take = locks.take

    def late(folder):
        facts = ended().to_json()
        if folder.name == "first":
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "run.json").write_text(json.dumps(facts))
        return take(folder)

    monkeypatch.setattr(locks, "take", late)

    schedule.do_all(shop)

    assert done == ["second"]
    assert not locks.is_held(shop.run_folder("first"))


@pytest.mark.smoke
def test_the_time_to_go_comes_from_runs_of_the_same_kind():
    runs = {
        "long": schema.RunConfig(stage="contrastive", steps=1000),
        "chest": schema.RunConfig(finetune=schema.FinetuneConfig(task="chest")),
        "chest2": schema.RunConfig(
            steps=200, finetune=schema.FinetuneConfig(task="chest")
        ),
        "hand": schema.RunConfig(steps=10, finetune=schema.FinetuneConfig(task="hand")),
        "turns": schema.RunConfig(
            stage="continual",
            steps=5,
            continual=schema.ContinualConfig(tasks=("a", "b"), rounds=3),
        ),
    }
    done = {
        "long": ended(steps=1000, seconds=5000.0),  # 5 s a step
        "chest": ended(resumed_at=50, seconds=100.0),  # 2 s
    }

    found = schedule.remaining_seconds(runs, done)

    # Of the kind and task 200 steps, of the kind 10, of any 30 at 3.5 s.
    assert found == pytest.approx(200 * 2 + 10 * 2 + 30 * 3.5)
    assert schedule.remaining_seconds(runs, {}) is None
    assert (
        schedule.remaining_seconds({"long": runs["long"]}, {"long": done["long"]}) == 0
    )


@pytest.mark.smoke
def test_the_line_of_progress(make_shop):
    shop, _ = make_shop(first="", second="", third="")
    assert schedule.progress(shop) == "table: 0 of 3 runs"
    facts = ended(seconds=3600.0).to_json()
    shop.run_folder("first").mkdir(parents=True)
    (shop.run_folder("first") / "run.json").write_text(json.dumps(facts))

    assert schedule.progress(shop) == "table: 1 of 3 runs, about 2:00 h left"
    held = [locks.take(shop.run_folder(name)) for name in ("second", "third")]
    assert schedule.progress(shop) == "table: 1 of 3 runs, about 1:00 h left"
    for lock in held:
        lock.lock.release()
