"""Damaged folders of models: refused in one line that names the file, and cheaply."""

import json
import os
import shutil
import zipfile

import numpy as np
import orbax.checkpoint as ocp
import pytest

from mtpret_jax import main
from mtpret_jax.inference import golden, loader


@pytest.fixture
def folder(model_folder, tmp_path):
    """The backbone folder of a classifier, to be damaged, without its digests."""
    shutil.copytree(
        model_folder("classification"),
        tmp_path / "run",
        ignore=shutil.ignore_patterns("SHA256SUMS"),
    )
    return tmp_path / "run" / "backbone"


def refused(folder, match, error=ValueError):
    with pytest.raises(error, match=match) as raised:
        loader.load(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def describe(folder, **changes):
    """Changes entries of the description; None takes one out."""
    path = folder / "backbone.json"
    described = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: v for name, v in described.items() if v is not None})
    )


@pytest.mark.parametrize(
    "name",
    ["network", "tasks", "prepared", "class_names", "decisions", "fit", "mtpret_jax"],
)
def test_a_description_that_lacks_something_is_refused(name, folder):
    describe(folder, **{name: None})

    found = refused(folder, rf"/backbone\.json: it lacks {name}\. It is damaged")

    assert found.endswith("Copy it again, or do the run, or the export, again.")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prepared": {}}, "prepared: nothing in it"),
        ({"image_size": {}}, "image_size: nothing in it"),
        ({"image_size": {"task": 0}}, "image_size.task: expected 1 to 8192, got 0"),
        ({"image_size": {"task": -5}}, "image_size.task: expected 1 to 8192, got -5"),
        ({"image_size": {"task": 100_000}}, "expected 1 to 8192, got 100000"),
        ({"image_size": {"task": "64"}}, "image_size.task: expected int, got '64'"),
        ({"class_names": {"tusk": ["a", "b"]}}, "Did you mean 'task'"),
        ({"fit": "padd"}, "fit: got 'padd'"),
        ({"decisions": {"task": {"thresholds": {"tusk": 0.5}}}}, "decisions.task"),
        ({"prepared": {"task": {"longest_side": 9, "bit_depth": 12}}}, "bit_depth of"),
    ],
)
def test_a_description_that_no_run_writes_is_refused(change, told, folder):
    describe(folder, **change)

    assert told in refused(folder, r"/backbone\.json: ")


@pytest.mark.parametrize(
    "content", [b"", b'{"fit": "p', b"\xff\xfe\0", b"[1]", b"[" * 99_999]
)
def test_a_description_that_is_no_table_is_refused(content, folder):
    (folder / "backbone.json").write_bytes(content)

    refused(folder, r"/backbone\.json: .* Copy the folder again")


def cut(path):
    path.write_bytes(path.read_bytes()[:30])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("", shutil.rmtree),
        ("_METADATA", os.remove),
        ("_METADATA", cut),
        ("manifest.ocdbt", os.remove),
        ("manifest.ocdbt", cut),
    ],
)
def test_arrays_that_are_not_whole_are_refused(name, damage, folder):
    damage(folder / "arrays" / name)

    refused(folder, r"/arrays: missing, damaged or not whole .* Copy the folder again")


def test_cut_numbers_are_refused(folder):
    for path in (folder / "arrays").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    refused(folder, r"/arrays: missing, damaged or not whole")


def test_arrays_of_another_shape_are_refused_before_they_are_read(folder, monkeypatch):
    described = json.loads((folder / "backbone.json").read_text())
    describe(folder, network=described["network"] | {"width": 16})

    def read(*_, **__):
        raise AssertionError("was read")

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "restore", read)
    refused(
        folder, r"/arrays: .* has shape \(8,\) in the file, \(16,\) in backbone\.json"
    )


def test_arrays_of_another_network_name_both_sides(folder):
    described = json.loads((folder / "backbone.json").read_text())
    describe(folder, network=described["network"] | {"name": "resnet50"})

    found = refused(
        folder, r"/arrays: the file lacks \['backbone\.model_state\.layer1_0\.bn3"
    )

    assert "(165 in all) and has [] (0 in all) that backbone.json does not" in found


def repack(folder, name, content):
    """Puts an entry into the golden file, or another in its place."""
    path = folder / golden.FILE
    with zipfile.ZipFile(path) as archive:
        entries = {each: archive.read(each) for each in archive.namelist()}
    entries[name] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, value in entries.items():
            archive.writestr(each, value)


def test_a_golden_array_that_would_fill_the_memory_is_not_unpacked(folder, monkeypatch):
    repack(folder, "task/embedding.npy", bytes(40 << 20))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: np.zeros(2))

    refused(folder, r"/golden\.npz: damaged \(task/embedding\.npy would be 41,943,040")


def test_another_golden_array_is_not_looked_at(folder):
    repack(folder, "task/huge.npy", bytes(40 << 20))

    assert loader.load(folder).task == "task"


def test_a_golden_picture_of_another_size_is_refused_before_a_network_runs(folder):
    describe(folder, image_size={"task": 8000})

    refused(folder, r"/golden\.npz: .* expected an embedding and an input of 8000")


def test_a_missing_model_is_told_what_to_give(tmp_path):
    found = refused(tmp_path, "No finished backbone", FileNotFoundError)

    assert found.endswith(
        "Give the folder of a run that has ended, or an exported folder."
    )


def test_the_command_says_it_in_one_line(folder, tmp_path, capsys):
    describe(folder, decisions=None)
    arguments = ["predict", f"--model={folder}", f"--out={tmp_path / 'out'}"]
    (tmp_path / "a.png").write_bytes(b"")

    with pytest.raises(SystemExit) as ended:
        main.run([*arguments, str(tmp_path / "a.png")])

    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {folder / 'backbone.json'}: it lacks decisions.")
