# pyright: reportMissingImports=false
"""Files of `torch.save`, read with PyTorch: tensors alone; nothing in them is run."""

import importlib.util
import io
import pathlib
import pickle
import struct
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from mtpret_jax.weights import files

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SAVED = ("torch_zip.pth", "torch_legacy.pth")
_SPEC = importlib.util.spec_from_file_location(
    "make_saved_goldens", GOLDEN / "make_saved_goldens.py"
)
goldens = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(goldens)


def write(folder, content, name="mine.pth"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", SAVED)
def test_what_pytorch_saved_is_read(name):
    found = files.read(GOLDEN / name)

    wanted = goldens.saved_values()
    assert list(found.tensors) == list(wanted)
    for key, array in wanted.items():
        dtype = ml_dtypes.bfloat16 if key == "bfloat16" else array.dtype
        assert found.tensors[key].dtype == dtype
        np.testing.assert_array_equal(found.tensors[key].astype(array.dtype), array)


def test_the_line_that_makes_safetensors_of_a_file_does(tmp_path):
    (tmp_path / "weights.pth").write_bytes((GOLDEN / SAVED[0]).read_bytes())
    line = files._CONVERT.replace("python", sys.executable, 1)

    subprocess.run(line, shell=True, check=True, cwd=tmp_path)

    there, here = (
        files.read(path).tensors
        for path in (GOLDEN / SAVED[0], tmp_path / "weights.safetensors")
    )
    assert there.keys() == here.keys()
    for name, array in there.items():
        np.testing.assert_array_equal(here[name], array)


def outcome(path):
    """`read`, or the message of the error."""
    try:
        files.read(path)
    except ValueError as error:
        return str(error)
    return "read"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def archive(program):
    """A zip file as `torch.save` lays it out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as written:
        written.writestr("mine/data.pkl", program)
        written.writestr("mine/byteorder", b"little")
        written.writestr("mine/version", b"3")
    return stream.getvalue()


def legacy(program):
    """The older format, without its storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    start = b"".join(pickle.dumps(part, 2) for part in head)
    return start + program + pickle.dumps([], 2)


class Call:
    """Pickles into a call of any function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


def harmful(target):
    """Programs that would write the file `target` if they were run."""
    write = Call(pathlib.Path.write_text, target, "run")
    line = f"open({str(target)!r}, 'w').write('run')"
    yield from (pickle.dumps({"state_dict": {"a": write}}, p) for p in range(6))
    yield pickle.dumps(Call(exec, line), 2)
    yield pickle.dumps(Call(eval, line), 4)
    yield pickle.dumps(Call(getattr, Call(__import__, "os"), "system"), 2)
    yield b"c__builtin__\nexec\n(" + text(line) + b"tR."
    yield b"(c__builtin__\nexec\n" + text(line) + b"o."
    yield b"(" + text(line) + b"i__builtin__\nexec\n."
    yield b"c__builtin__\nexec\n(" + text(line) + b"t\x81."
    yield b"\x80\x02\x82\x01."
    yield (
        b"\x80\x02ccollections\nOrderedDict\n}" + text("__init__") + text(line) + b"sb."
    )
    # A call hidden in what a permitted call is given, and in a reference to data.
    yield (
        b"ctorch._utils\n_rebuild_parameter\n(c__builtin__\nexec\n("
        + text(line)
        + b"tR\x89}tR."
    )
    yield b"(" + text("storage") + b"c__builtin__\nexec\n" + text("0") * 2 + b"K\x01tQ."


def test_a_program_in_a_file_is_refused_and_not_run(tmp_path, monkeypatch):
    # Which PyTorch heeds only where a caller leaves the choice to it.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    target = tmp_path / "run"
    programs = list(harmful(target))
    pickle.loads(programs[2])
    assert target.read_text() == "run"  # So a reader that runs pickles would show here.
    target.unlink()

    for program in programs:
        for content in (archive(program), program, legacy(program)):
            told = outcome(write(tmp_path, content))
            assert "was not read: " in told
            assert "\n" not in told
            assert "weights_only" not in told
    assert not target.exists()


@pytest.mark.parametrize("name", SAVED)
def test_damaged_files_end_in_one_clear_error_or_are_read(name, tmp_path):
    """Cut at every fiftieth byte; then 100 times, up to three bytes changed."""
    whole = (GOLDEN / name).read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(0, len(whole), 50)]
    for _ in range(100):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        damaged.append(bytes(content))

    outcomes = [outcome(write(tmp_path, content)) for content in damaged]

    assert all(o == "read" or "was not read: " in o for o in outcomes)
    assert outcomes.count("read") < 60  # Numbers have no checksum that is looked at.
