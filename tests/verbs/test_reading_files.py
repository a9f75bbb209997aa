"""`predict` and `embed` as commands: what they say, how they end, how they go on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mtpret_jax import main
from mtpret_jax.inference import results
from tests.predict import conftest as models
from tfds_builders.images import reader
from tfds_builders.phantom_xray import simulator

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a classifier."""
    return models.make(tmp_path_factory.mktemp("model"), "classification")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Folder of a detector."""
    return models.make(tmp_path_factory.mktemp("model"), "detection")


@pytest.fixture
def scans(tmp_path):
    """Three pictures; one is no picture, and one's name begins with a hyphen."""
    folder = tmp_path / "scans"
    folder.mkdir()
    shot = simulator.simulate("chest", size=80, seed=1, split_index=0, index=0)
    for name in ("a.png", "-b.png"):
        (folder / name).write_bytes(reader.encode_png(shot.image))
    (folder / "c.png").write_bytes(b"no picture")
    return folder


def end(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main.run([str(argument) for argument in arguments])
    return ended.value.code


def test_predict_says_what_it_did_and_names_what_it_skipped(
    detector, scans, tmp_path, capsys
):
    out = tmp_path / "out"

    code = end(
        *("predict", f"--model={detector}", "--task=task"),
        *(f"--out={out}", "--overlays", "--batch_size=2", scans),
    )

    told = capsys.readouterr()
    assert code == 3
    assert told.out.splitlines()[-1] == f"2 done, 1 skipped: {out}"
    assert f"Skipped '{scans / 'c.png'}': not a PNG" in told.err
    assert len(list((out / "overlays").glob("*.png"))) == 2
    assert (out / results.TABLE).read_text().count("\n") == 4


def test_embed_says_what_it_did(model, scans, tmp_path, capsys):
    out = tmp_path / "features.npz"

    code = end("embed", f"--model={model}", f"--out={out}", scans / "a.png")

    assert code == 0
    assert f"1 done, 0 skipped: {out}" in capsys.readouterr().out
    with np.load(out) as found:
        assert found["embedding"].shape == (1, 64)


def test_quiet_commands_say_only_what_is_wrong(model, scans, tmp_path, capsys):
    code = end(
        "predict", "--quiet", f"--model={model}", f"--out={tmp_path / 'o'}", scans
    )

    told = capsys.readouterr()
    assert code == 3
    assert told.out == ""
    assert [line.split(" ")[0] for line in told.err.splitlines()] == ["Skipped"]


def test_names_after_two_hyphens_may_begin_with_one(
    model, scans, tmp_path, monkeypatch
):
    monkeypatch.chdir(scans)

    code = end("predict", f"--model={model}", f"--out={tmp_path / 'o'}", "--", "-b.png")

    assert code == 0


@pytest.mark.parametrize("out", ["scans", "."])
def test_pictures_in_the_folder_of_results_are_no_input(
    out, model, scans, monkeypatch, capsys
):
    monkeypatch.chdir(scans.parent)

    code = end("predict", f"--model={model}", f"--out={out}", "scans")

    assert code == 1
    told = capsys.readouterr().err
    assert f"All pictures in scans lie in --out={out}" in told
    assert len(told.splitlines()) == 1


@pytest.mark.slow
def test_a_command_that_is_stopped_ends_with_75_and_goes_on(model, scans, tmp_path):
    count = 1000  # Some seconds of work.
    for number in range(count):
        os.link(scans / "a.png", scans / f"{number:04d}.png")
    (scans / "c.png").unlink()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mtpret_jax.main", "predict", f"--model={model}"]
    command += [f"--out={out}", "--batch_size=2", str(scans)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": ""}
    lines = out / results.LINES

    def start():
        return subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True
        )

    process = start()
    while not (lines.exists() and lines.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert told.splitlines()[-1] == "Stopped. The same command goes on from here."
    before = lines.read_text().count("\n")
    assert 0 < before < count

    process = start()
    process.communicate(timeout=120)

    assert process.returncode == 0
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == len({row["file"] for row in rows}) == count + 2


def catches(process, number):
    """Whether a process has a handler of a signal, as Linux tells."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def test_a_command_that_is_stopped_at_its_start_ends_with_75():
    process = subprocess.Popen(
        [sys.executable, "-m", "mtpret_jax.main", "config", "check"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
    )
    while not catches(process, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # While it imports.
    _, told = process.communicate(timeout=60)

    assert process.returncode == 75
    assert told == b"Stopped. Give the same command again.\n"
