"""README's commands, as they stand there, on the folder that the first one writes."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
LONGEST = 220  # lines
# Behind README's config: its sizes and steps, shrunk; one task of the last stage.
SHRUNK = """
import importlib.util

whole = get_config
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


def get_config(arg: str = ""):
    config = whole(arg)
    config.backbone.update(name="resnet18", width=8)
    config.report.bootstrap = 20
    config.datasets.mine.options.image_size = tiny.SIZE
    for row in config.tasks.values():
        tiny._shrink_task(row)
    for name in [name for name in config.runs if name.startswith("scratch_")]:
        del config.runs[name]
    for name in ("mtpret_finding", "mtpret_lungs"):
        del config.runs[name]
    config.runs.continual.continual.tasks = ("opacity",)
    for row in config.runs.values():
        tiny._shrink_run(row)
    return config
"""
# Exit code 3: files were skipped, as README says of the folder it simulates.
SKIPPING = ("predict", "embed")


def blocks(language: str) -> list[str]:
    """The blocks of README in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands() -> list[list[str]]:
    """The words of each command of ours, in order."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if each and each[0] in ("python", "mtpret_jax")]


def test_it_can_be_read_in_one_sitting():
    assert len(README.splitlines()) <= LONGEST


def test_the_commands_of_make_are_those_that_are_tried():
    makers = [line for line in "".join(blocks("bash")).splitlines() if "make " in line]
    demo = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    # The notebooks train the demonstration, shrunk; `.ci/run` gives `make test`.
    assert [line.split()[1] for line in makers] == ["demo", "test"]
    assert "mtpret_jax.main --config=configs/demo.py" in demo.stdout
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.slow
def test_every_command_does_what_it_says(tmp_path):
    config = next(block for block in blocks("python") if "get_config" in block)
    tiny = str(REPOSITORY / "configs" / "tiny.py")
    (tmp_path / "mine.py").write_text(config + SHRUNK.format(tiny=tiny))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": ""}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    for words in commands():
        ours = words[0] == "mtpret_jax"
        done = run(*(["-m", "mtpret_jax.main"] if ours else []), *words[1:])
        assert done.returncode == (3 if words[1] in SKIPPING else 0), done.stderr

    with np.load(tmp_path / "features.npz") as found:
        assert len(found["embedding"]) == 300
        assert len(found["skipped"]) == 1
    got = ["report.html", "report.json", "config.json", "versions.json"]
    got += ["runs/contrastive/backbone", "runs/mtpret_opacity/predictions"]
    assert all((tmp_path / "runs" / "mine" / name).exists() for name in got)
    assert (tmp_path / "exported" / "model.safetensors").is_file()
    program = next(block for block in blocks("python") if "mtpret_jax.load" in block)
    done = run("-c", program)
    assert done.returncode == 0, done.stderr
