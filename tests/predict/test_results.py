"""The lines that `predict` goes on from: none is taken for whole that is not."""

import resource
import signal

import pytest

from mtpret_jax.inference import results
from tfds_builders import whole


def test_a_line_without_its_checksum_is_damaged_unless_the_folder_is_older(tmp_path):
    kept = results.Results(tmp_path, {"model": "m"})
    kept.add({"file": "a.png", "status": "done", "p": 0.5})
    path = tmp_path / results.LINES
    path.write_text(path.read_text().replace("crc32", "crc33"))

    with pytest.raises(ValueError, match="line 1: damaged"):
        results.Results(tmp_path, {"model": "m"})

    path.write_text('{"file": "a.png", "status": "done", "p": 0.5}\n')
    (tmp_path / whole.SUMS).unlink()
    (row,) = results.Results(tmp_path, {"model": "m"}).rows()
    assert row == {"file": "a.png", "status": "done", "p": 0.5}


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    kept = results.Results(tmp_path, {"model": "m"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for name, write in {
            results.LINES: lambda: kept.add({"file": "a" * 2000, "status": "done"}),
            "masks/.*png": lambda: kept.write("masks", "a", b"a" * 2000),
        }.items():
            with pytest.raises(OSError, match=rf"{name} can't be written: no room"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
