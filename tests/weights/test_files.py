"""Files of weights: what PyTorch saved is read; nothing in a file is ever run."""

import importlib.util
import io
import json
import pathlib
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from mtpret_jax.weights import files, pickled

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SAVED = ("torch_zip.pth", "torch_legacy.pth")
_SPEC = importlib.util.spec_from_file_location(
    "make_saved_goldens", GOLDEN / "make_saved_goldens.py"
)
goldens = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(goldens)


def archive(program, parts=None, *, compression=zipfile.ZIP_STORED, order=b"little"):
    """A zip file as `torch.save` lays it out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as written:
        written.writestr("mine/data.pkl", program)
        written.writestr("mine/byteorder", order)
        for key, content in (parts or {}).items():
            written.writestr(f"mine/data/{key}", content)
    return stream.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(*values):
    return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"


def one_tensor(*, numel=6, offset=0, shape=(2, 3), stride=(3, 1), kind="FloatStorage"):
    """The pickle of `{"a": tensor}`."""
    return (
        b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text("0")
        + text("cpu") + b"J" + struct.pack("<i", numel) + b"tQJ"
        + struct.pack("<i", offset) + numbers(*shape) + numbers(*stride)
        + b"\x89}tRs."
    )  # fmt: skip


SIX = np.arange(6, dtype=np.float32)


def write(folder, content, name="mine.pth"):
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path):
    with pytest.raises(ValueError, match="was not read: ") as raised:
        files.read(path)
    assert "nothing of the file was run" in str(raised.value)
    return str(raised.value).split("was not read: ")[1]


@pytest.mark.parametrize("name", SAVED)
def test_what_pytorch_saved_is_read(name):
    found = files.read(GOLDEN / name)

    assert found.name == name
    wanted = goldens.saved_values()
    assert list(found.tensors) == list(wanted)
    for key, array in wanted.items():
        dtype = ml_dtypes.bfloat16 if key == "bfloat16" else array.dtype
        assert found.tensors[key].dtype == dtype
        np.testing.assert_array_equal(found.tensors[key].astype(array.dtype), array)
    assert "torch" not in sys.modules


def test_big_endian_numbers_are_turned(tmp_path):
    content = archive(one_tensor(), {"0": SIX.astype(">f4").tobytes()}, order=b"big")

    found = files.read(write(tmp_path, content)).tensors["a"]

    np.testing.assert_array_equal(found, SIX.reshape(2, 3))


def test_tensors_that_share_numbers_share_memory(tmp_path):
    program = one_tensor()[:-1] + one_tensor()[3:].replace(text("a"), text("b"))

    found = files.read(write(tmp_path, archive(program, {"0": SIX.tobytes()}))).tensors

    assert np.shares_memory(found["a"], found["b"])


def safetensors_file(tensors):
    """The bytes of a safetensors file, by its description."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in tensors.items():
        content = array.tobytes()
        places = [len(data), len(data) + len(content)]
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": places,
        }
        data += content
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


def test_safetensors_are_read_in_every_precision(tmp_path):
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {
        "whole": ("F32", grid),
        "half": ("F16", grid.astype(np.float16)),
        "brain": ("BF16", grid.astype(ml_dtypes.bfloat16)),
        "double": ("F64", grid.astype(np.float64)),
        "count": ("I64", np.asarray(7, np.int64)),
    }
    path = write(tmp_path, safetensors_file(tensors), "mine.safetensors")

    found = files.read(path).tensors

    assert set(found) == set(tensors)
    for name, (_, array) in tensors.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_damaged_safetensors_and_unknown_types_are_refused(tmp_path):
    whole = safetensors_file({"a": ("F32", SIX)})
    for content in (b"", whole[:5], whole[:-1], b"\xff" * 8 + whole[8:], whole + b"x"):
        found = refused(write(tmp_path, content, "mine.safetensors"))
        assert found.startswith("it is no whole safetensors file")

    odd = safetensors_file({"a": ("F8_E4M3", np.zeros(2, np.uint8))})
    found = refused(write(tmp_path, odd, "mine.safetensors"))
    assert found.startswith("'a' is of type F8_E4M3; known are ['BF16', 'BOOL'")


def test_a_missing_library_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = write(tmp_path, safetensors_file({"a": ("F32", SIX)}), "mine.safetensors")

    with pytest.raises(ValueError, match="pip install safetensors"):
        files.read(path)


class Call:
    """Pickles into a call of any function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


class Thing:
    """Pickles into an object of a class."""

    def __init__(self):
        self.attribute = 1


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


def test_a_program_in_a_file_is_refused_and_not_run(tmp_path):
    target = tmp_path / "run"
    programs = list(harmful(target))
    pickle.loads(programs[2])
    assert target.read_text() == "run"  # So a reader that runs pickles would show here.
    target.unlink()

    for program in programs:
        for content in (archive(program), program, legacy(program)):
            refused(write(tmp_path, content))
    assert not target.exists()


def legacy(program, keys=()):
    """The older format, without its storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    start = b"".join(pickle.dumps(part, 2) for part in head)
    return start + program + pickle.dumps(list(keys), 2)


def test_what_is_not_a_tensor_is_named(tmp_path):
    found = refused(write(tmp_path, archive(pickle.dumps({"a": Thing()}, 2))))
    assert "Thing'" in found or "copyreg" in found

    scalar = pickle.dumps({"state_dict": {}, "best": np.float64(1)}, 2)
    found = refused(write(tmp_path, archive(scalar)))
    assert found.startswith("it wants to call 'numpy")
    assert "torch.save(model.state_dict(), path)" in found

    found = refused(write(tmp_path, archive(pickle.dumps({"a": 1}, 2))))
    assert found.startswith("it holds more than tensors: ['a']")
    found = refused(write(tmp_path, archive(pickle.dumps([1], 2))))
    assert found.startswith("it holds a list, no table of names")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(offset=1), "a tensor of shape (2, 3) is beyond its storage"),
        (dict(stride=(4, 1)), "a tensor of shape (2, 3) is beyond its storage"),
        (dict(shape=(2**30, 2**30), stride=(0, 0)), "is beyond its storage"),
        (dict(shape=(2,)), "a tensor has shape (2,) and strides (3, 1)"),
        (dict(shape=(-2, 3)), "a size or place is -2"),
        (dict(numel=7), "its storage '0' has 24 bytes, not the 7 numbers of float32"),
        (dict(kind="QInt8Storage"), "it holds numbers of type 'torch.QInt8Storage'"),
    ],
)
def test_a_tensor_must_lie_within_its_storage(options, reason, tmp_path):
    content = archive(one_tensor(**options), {"0": SIX.tobytes()})

    assert reason in refused(write(tmp_path, content))


def test_parts_that_are_missing_or_compressed_are_named(tmp_path):
    whole = {"0": SIX.tobytes()}
    found = refused(write(tmp_path, archive(one_tensor())))
    assert found.startswith("its part 'data/0' is missing")
    packed = archive(one_tensor(), whole, compression=zipfile.ZIP_DEFLATED)
    assert "is compressed" in refused(write(tmp_path, packed))
    odd = archive(one_tensor(), whole, order=b"odd")
    assert "its byte order is b'odd'" in refused(write(tmp_path, odd))
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as written:
        written.writestr("readme.txt", "hello")
    found = refused(write(tmp_path, plain.getvalue()))
    assert found.startswith("it is a zip archive, but not of torch.save")


def test_a_page_or_pointer_in_place_of_the_file_is_refused(tmp_path):
    for content in (b"", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/"):
        found = refused(write(tmp_path, content))
        assert found.startswith("it is not a file of torch.save")
    with pytest.raises(FileNotFoundError, match="No file of weights"):
        files.read(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="No file of weights"):
        files.read(tmp_path)


def nested(start, end):
    """A program of 40 values, each of which holds the one before three times."""
    program = b"\x80\x02" + text("a") + b"q\x000"
    for number in range(40):
        before = b"h" + bytes([number])
        program += start + before * 3 + end + b"q" + bytes([number + 1]) + b"0"
    return program + b"h\x28"


def test_a_small_file_takes_neither_all_memory_nor_all_time(tmp_path):
    """Three to the power of 40 entries, were they ever counted out."""
    lists, tuples = nested(b"](", b"e"), nested(b"", b"\x87")
    natural = b"ctorch\nSize\n(" + lists[2:] + b"\x85tR."
    key = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + lists[2:]
    programs = [
        lists + b".",
        tuples + b".",
        b"}" + tuples[2:] + b"K\x01s.",
        b"ccollections\nOrderedDict\n((" + tuples[2:] + b"K\x01tttR.",
        natural,
        key + text("cpu") + b"K\x01tQ.",
        lists + b"\x93.",
        lists + text("b") + b"\x93.",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x02\x8e" + struct.pack("<Q", 2**60) + b"x.",
        b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
        b"]" * 100_000 + b"a" * 99_999 + b".",
    ]

    for program in programs:
        for content in (archive(program), program, legacy(program, ["0"])):
            refused(write(tmp_path, content))


def outcome(path):
    """`read`, or the message of the error."""
    try:
        files.read(path)
    except ValueError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("name", SAVED)
def test_damaged_files_end_in_one_clear_error_or_are_read(name, tmp_path):
    """Cut at every seventh byte; then 400 times, up to three bytes changed."""
    whole = (GOLDEN / name).read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        damaged.append(bytes(content))

    outcomes = [outcome(write(tmp_path, content)) for content in damaged]

    assert all(o == "read" or "was not read: " in o for o in outcomes)
    assert outcomes.count("read") < 200  # Numbers of the old format have no checksum.


def test_pickles_of_every_protocol_are_understood():
    value = {
        "text": "å", "long": 2**70, "negative": -3, "real": 0.25, "none": None,
        "flags": [True, False], "nested": ({"a": (1, 2, 3, 4)}, ()), "bytes": b"ab",
    }  # fmt: skip

    for protocol in range(6):
        if protocol < 3:
            value.pop("bytes", None)  # Older protocols write them as a call.
        stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
        assert pickled.load(stream, {}, lambda _: None) == value
        assert stream.read() == b"rest"
        value["bytes"] = b"ab"
