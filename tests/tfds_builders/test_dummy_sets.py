"""Sets are built and read where neither the package, JAX nor TensorFlow exists."""

import pathlib
import re
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
SCRIPT = "tests/tfds_builders/dummy_sets.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_sets_are_built_and_read_in_clean_processes(tmp_path: pathlib.Path):
    done = _run("--seconds=0.05", f"--folder={tmp_path}", "mura", "tbx11k")

    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w+) +(\d+)/(\d+)/(\d+) +([\d,]+)$", done.stdout, re.M)
    assert [row[0] for row in rows] == ["mura", "tbx11k"]
    assert all(int(row[1]) > 40 and int(row[2]) > 10 for row in rows)
    assert "jax, jaxlib, flax, tensorflow, torch absent" in done.stdout
    assert (tmp_path / "data" / "mura" / "dummy" / "1.0.0" / "index.csv").is_file()
