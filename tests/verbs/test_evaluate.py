"""`evaluate` looks at --out before anything is computed."""

import pytest

from mtpret_jax import main


def said(capsys, out):
    with pytest.raises(SystemExit) as ended:
        main.run(["evaluate", "--model=nowhere", "--set=nowhere", f"--out={out}"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_file_is_not_written_over(tmp_path, capsys):
    (tmp_path / "a.json").write_text("mine")

    assert f"--out: {tmp_path}/a.json is there" in said(capsys, tmp_path / "a.json")


def test_a_place_below_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "a.json").write_text("mine")

    found = said(capsys, tmp_path / "a.json" / "b" / "c.json")

    assert f"--out: {tmp_path}/a.json is no folder that can be written to." in found


def test_a_place_that_is_not_there_yet_is_no_mistake(tmp_path, capsys):
    found = said(capsys, tmp_path / "new" / "c.json")

    assert "No finished backbone" in found
    assert list(tmp_path.iterdir()) == []
