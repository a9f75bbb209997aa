"""The whole work folder: every stage and the report, and resuming after a kill."""

import filecmp
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath

from benchmarks import flips
from mtpret_jax import config as schema
from mtpret_jax.cli import command, evaluate
from mtpret_jax.experiment import locks, preparation
from mtpret_jax.training import checkpoint

REPOSITORY = pathlib.Path(__file__).parent.parent
RESUME_CONFIG = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

def get_config():
    config = tiny.get_config("demo")
    kept = ("contrastive", "continual", "scratch_opacity", "mtpret_opacity")
    with config.unlocked():
        for name in list(config.runs):
            if name not in kept:
                del config.runs[name]
    config.runs.contrastive.steps = 8
    config.runs.continual.steps = 3
    config.runs.continual.continual.tasks = ("missing_tooth", "mandible")
    for name in kept[2:]:
        config.runs[name].update(steps=8, evaluate_every=3)
    config.runs.mtpret_opacity.finetune.update(ema=0.5, layer_decay=0.8)
    more = config.runs.contrastive.to_dict()
    more.update(init_from="contrastive", steps=1)
    more["contrastive"]["carry_memory"] = True
    with config.unlocked():
        config.runs.more = tiny.schema.run(**more)
    config.tasks.missing_tooth.update(
        class_weights="balanced", label_smoothing=0.1, mixup=0.4, flip_at_test=True
    )
    config.tasks.mandible.flip_at_test = True
    config.tasks.opacity.balanced_sampling = True
    for row in config.runs.values():
        row.checkpoint_every = 2
    config.runs.contrastive.checkpoint_every = 100  # Saved when stopped only.
    return config
"""


def run_command(config: pathlib.Path, workdir: pathlib.Path, data: pathlib.Path):
    """Starts the command in a process of its own, on one CPU device."""
    environment = dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY))
    command = [
        sys.executable,
        "-m",
        "mtpret_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
        f"--data_dir={data}",
    ]
    with (workdir.parent / f"{workdir.name}.log").open("ab") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=REPOSITORY
        )


def finish(process: subprocess.Popen, workdir: pathlib.Path) -> None:
    log = workdir.parent / f"{workdir.name}.log"
    assert process.wait(timeout=600) == 0, log.read_text()[-3000:]


def end_at(
    process: subprocess.Popen,
    path: pathlib.Path,
    step: int,
    how: signal.Signals = signal.SIGKILL,
) -> int:
    """Ends the process once `path` tells of `step` steps; gives its exit code."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        lines = path.read_text().count("\n") if path.exists() else 0
        if lines >= step:
            process.send_signal(how)
            return process.wait(timeout=120)
        assert process.poll() is None, "The process ended before it could be killed."
        time.sleep(0.005)
    raise TimeoutError(f"{path} never reached step {step}.")


def stop_and_find_saved(
    process: subprocess.Popen, workdir: pathlib.Path, run: str, step: int
) -> None:
    """Ends the process by SIGTERM, and looks for what it promises to save."""
    folder = workdir / "runs" / run
    code = end_at(process, folder / "metrics.jsonl", step, signal.SIGTERM)

    log = (workdir.parent / f"{workdir.name}.log").read_text()
    assert code == 75, log[-3000:]
    assert "Traceback" not in log
    done = (folder / "metrics.jsonl").read_text().count("\n")
    said = f"Stopped. Step {done} of run '{run}' is saved. The same command goes on"
    assert said in log.splitlines()[-1]
    saved = [path.name for path in (folder / "checkpoints").iterdir()]
    assert str(done) in saved
    assert not locks.is_held(epath.Path(folder))


def assert_same_files(one: pathlib.Path, other: pathlib.Path, names: list[str]):
    for name in names:
        assert filecmp.cmp(one / name, other / name, shallow=False), name


def leaves(tree, prefix=""):
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from leaves(tree[name], f"{prefix}/{name}")
    else:
        yield prefix, np.asarray(tree)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where things lie: config, data, and an uninterrupted work folder."""
    root = tmp_path_factory.mktemp("experiment")
    config = root / "resume.py"
    config.write_text(
        RESUME_CONFIG.format(tiny=str(REPOSITORY / "configs" / "tiny.py"))
    )
    data, whole = root / "data", root / "whole"
    finish(run_command(config, whole, data), whole)
    return config, data, whole


@pytest.mark.slow
def test_three_stages_and_the_report(folders):
    config, data, whole = folders

    report = json.loads((whole / "report.json").read_text())

    assert set(report["tasks"]) == {"opacity"}
    task = report["tasks"]["opacity"]
    assert task["images"] == 12
    values = report["values"]["opacity"]["1"]
    assert set(values) == {"scratch", "mtpret"}
    assert all(task["primary"] in arm for arm in values.values())
    assert [claim["name"] for claim in report["claims"]] == ["mtpret - scratch"]
    assert len(report["forgetting"]["continual"]["segments"]) == 4
    assert report["unfinished"] == []
    page = (whole / "report.html").read_text()
    assert "data:image/png" in page
    links = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)', page)
    assert links == []  # It stands alone.

    # Of a run that has ended its backbone stays.
    for run in (whole / "runs").iterdir():
        assert (run / "backbone" / "backbone.json").exists(), run
        assert not (run / "checkpoints").exists(), run

    # A second call finds everything done, and gives back what a kill had kept.
    left = whole / "runs" / "contrastive" / "checkpoints" / "8"
    left.mkdir(parents=True)
    tested = whole / "runs" / "scratch_opacity" / "predictions" / "opacity"
    before = (tested / "test.npz").stat().st_mtime_ns
    finish(run_command(config, whole, data), whole)
    assert (tested / "test.npz").stat().st_mtime_ns == before
    assert not left.parent.exists()


@pytest.mark.slow
def test_evaluating_a_run_again_gives_the_figures_of_the_report(folders, tmp_path):
    """By the verb, from the backbone alone, on the same split."""
    _, data, whole = folders
    name, out = "mtpret_opacity", tmp_path / "measured.json"
    (prepared,) = (data / "phantom_xray" / "chest").iterdir()
    report = json.loads((whole / "report.json").read_text())

    code = command.run(
        evaluate,
        "evaluate",
        [
            f"--model={whole / 'runs' / name}",
            f"--set={prepared}",
            f"--resamples={report['interval']['resamples']}",
            f"--seed={report['seed']}",
            f"--out={out}",
        ],
    )

    assert code == 0
    found = json.loads(out.read_text())
    task = report["tasks"]["opacity"]
    assert (found["images"], found["groups"]) == (task["images"], task["groups"])
    values = report["values"]["opacity"]["1"]["mtpret"]
    assert found["values"].keys() == values.keys()
    for key, value in found["values"].items():
        for end in ("value", "low", "high"):
            assert value[end] == pytest.approx(values[key][end], abs=1e-5), key
    assert found["warnings"] == []


@pytest.mark.slow
def test_pre_training_goes_on_with_key_encoder_and_queue(folders):
    """The queue holds two batches: one step overwrites the older half."""
    _, _, whole = folders

    first, _ = checkpoint.load_backbone(whole / "runs/contrastive/backbone", {})
    more, description = checkpoint.load_backbone(whole / "runs/more/backbone", {})

    assert description["parent"] == "contrastive"
    rows = len(first["memory"]["queue"]) // 2
    assert first["memory"]["pointer"] == 0
    assert more["memory"]["pointer"] == rows
    np.testing.assert_array_equal(
        more["memory"]["queue"][rows:], first["memory"]["queue"][rows:]
    )
    # The key encoder moved by 1 % of the way (momentum 0.99), not back to a copy.
    slow = first["memory"]["key_params"]["backbone"]["conv1"]["kernel"]
    fast = first["backbone"]["params"]["conv1"]["kernel"]
    expected = 0.99 * slow + 0.01 * fast
    found = more["memory"]["key_params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_killed_run_ends_like_an_uninterrupted_one(folders, tmp_path):
    config, data, whole = folders
    killed = tmp_path / "killed"
    steps = {"contrastive": 8, "continual": 12, "mtpret_opacity": 8}
    rng = np.random.default_rng(0)

    # Told to end, it ends in its own time; then killed, where chance wants it.
    stop_and_find_saved(run_command(config, killed, data), killed, "contrastive", 2)
    for run, count in steps.items():
        process = run_command(config, killed, data)
        target = int(rng.integers(count // 2, count))
        end_at(process, killed / "runs" / run / "metrics.jsonl", target)
    finish(run_command(config, killed, data), killed)

    # metrics.jsonl holds every step's loss and a digest of the records it saw.
    for run in steps:
        assert_same_files(
            whole / "runs" / run, killed / "runs" / run, ["metrics.jsonl"]
        )
        one, _ = checkpoint.load_backbone(whole / "runs" / run / "backbone", {})
        other, _ = checkpoint.load_backbone(killed / "runs" / run / "backbone", {})
        pairs = zip(leaves(one), leaves(other), strict=True)
        for (name, array), (other_name, other_array) in pairs:
            assert name == other_name
            np.testing.assert_array_equal(array, other_array, err_msg=name)
    matrix = ["runs/continual/forgetting.json"]
    assert_same_files(whole, killed, matrix)
    predictions = "runs/mtpret_opacity/predictions/opacity/test.npz"
    with np.load(whole / predictions) as one, np.load(killed / predictions) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    reports = [json.loads((w / "report.json").read_text()) for w in (whole, killed)]
    one, other = (each["values"]["opacity"]["1"]["mtpret"] for each in reports)
    assert one == other


@pytest.mark.slow
def test_a_preparation_that_is_told_to_end_does(folders, tmp_path):
    config, data = tmp_path / "many.py", tmp_path / "data"
    many = "config.datasets.head.options.train = 20_000\n    return config"
    config.write_text(folders[0].read_text().replace("return config", many))
    process = run_command(config, tmp_path / "told", data)
    deadline = time.monotonic() + 120
    while not list(data.glob("**/*.partial")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)

    process.send_signal(signal.SIGTERM)

    log = tmp_path / "told.log"
    assert process.wait(timeout=60) == 75, log.read_text()[-3000:]
    last = log.read_text().splitlines()[-1]
    assert last == "Stopped. The same command goes on from here."


@pytest.mark.slow
def test_no_flipped_bit_and_no_cut_goes_unnoticed(folders, tmp_path):
    """Damaged files that a command reads again: told by name, never taken for whole."""
    _, data, whole = folders
    config = schema.parse(json.loads((whole / "config.json").read_text()))
    prepared = preparation.prepare(config.datasets, data)
    targets = flips.make(config, whole, prepared, tmp_path)

    found = list(flips.try_all(targets, 20, seed=1))

    wrong = [row for row in found if row[1] in ("silent", "traceback", "unnamed")]
    assert not wrong
    assert sum(row[1] == "refused" for row in found) > 10
