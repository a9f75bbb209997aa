"""The lines that `predict` goes on from: none is taken for whole that is not."""

import pytest

from mtpret_jax.predict import journal
from tfds_builders import whole


def test_a_line_without_its_checksum_is_damaged_unless_the_folder_is_older(tmp_path):
    kept = journal.Journal(tmp_path, {"model": "m"})
    kept.add({"file": "a.png", "status": "done", "p": 0.5})
    path = tmp_path / journal.LINES
    path.write_text(path.read_text().replace("crc32", "crc33"))

    with pytest.raises(ValueError, match="line 1: damaged"):
        journal.Journal(tmp_path, {"model": "m"})

    path.write_text('{"file": "a.png", "status": "done", "p": 0.5}\n')
    (tmp_path / whole.SUMS).unlink()
    (row,) = journal.Journal(tmp_path, {"model": "m"}).rows()
    assert row == {"file": "a.png", "status": "done", "p": 0.5}
