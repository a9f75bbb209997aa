"""Files with digests: old or new after a kill, and one line on a full disk."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from tfds_builders import whole


def test_what_is_written_is_read_and_a_change_is_told(tmp_path):
    path = tmp_path / "a.json"
    whole.write_json(path, {"value": 1})
    assert whole.read_json(path) == {"value": 1}
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, check=False)
    assert done.returncode == 0

    path.write_text(path.read_text().replace("1", "3"))

    with pytest.raises(whole.DamagedError, match=r"a\.json: damaged, its SHA-256"):
        whole.read_json(path)


def test_a_kill_before_the_file_is_in_place_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    whole.write(path, "old")
    whole.note(tmp_path, {"a.txt": "0" * 64})  # As far as a kill lets it come.

    assert whole.read(path) == b"old"
    whole.write(path, "new")
    assert whole.read(path) == b"new"


def test_a_list_that_a_kill_cut_short_is_gone_on_with(tmp_path):
    whole.write(tmp_path / "a", "a")
    with (tmp_path / whole.SUMS).open("a") as file:
        file.write("0123")

    whole.write(tmp_path / "b", "b")

    assert whole.read(tmp_path / "a") == b"a"
    assert whole.read(tmp_path / "b") == b"b"


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def noted(*given, name=name, call=call):
            done.append(name)
            return call(*given)

        monkeypatch.setattr(os, name, noted)

    whole.place(tmp_path / "a", b"a")

    assert done == ["fsync", "replace", "fsync"]


def test_arrays_are_the_same_and_no_pickle(tmp_path):
    whole.write_arrays(tmp_path / "a.npz", {"x": np.arange(5)})

    np.testing.assert_array_equal(
        whole.read_arrays(tmp_path / "a.npz")["x"], np.arange(5)
    )
    np.savez(tmp_path / "b.npz", x=np.array([{}], object))
    with pytest.raises(whole.DamagedError, match=r"b\.npz: damaged, not arrays"):
        whole.read_arrays(tmp_path / "b.npz")


def test_a_full_disk_is_one_line_with_path_and_advice(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"a can't be written: no room.*Free space"):
            whole.write(tmp_path / "a", b"a" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("verb", ["config", "data"])
def test_a_stop_at_the_very_end_changes_no_exit_code(verb):
    """A signal that comes while Python ends."""
    program = (
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "from mtpret_jax import main\n"
        f"sys.argv = ['mtpret_jax', '{verb}', '--help']\n"
        "main.run()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
