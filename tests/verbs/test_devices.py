"""What a verb says where JAX_PLATFORMS names a device that is not there."""

import os
import subprocess
import sys

import pytest

COMMANDS = {
    "train": [
        "train",
        "--config=configs/tiny.py:demo",
        "--workdir={0}",
        "--data_dir={0}",
    ],
    "evaluate": ["evaluate", "--model={0}", "--set={0}"],
    "export": ["export", "--workdir={0}", "--run=contrastive", "--out={0}/out"],
    "config check": ["config", "check", "--config=configs/tiny.py:demo"],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_device_that_is_not_there_is_told_in_one_line(verb: str, tmp_path):
    arguments = [part.format(tmp_path) for part in COMMANDS[verb]]

    done = subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", *arguments],
        env=os.environ | {"JAX_PLATFORMS": "rocm"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "Error: JAX_PLATFORMS is 'rocm', but JAX finds no such device"
    )
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
