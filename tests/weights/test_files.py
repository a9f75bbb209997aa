"""Files of weights: what PyTorch saved is read; nothing in a file is ever run."""

import json
import pathlib
import pickle
import struct
import sys
import types

import ml_dtypes
import numpy as np
import pytest

from mtpret_jax.weights import files

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SAVED = ("torch_zip.pth", "torch_legacy.pth")
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


def test_of_two_networks_of_one_training_the_one_handed_on_is_read(tmp_path):
    names = ("module.encoder_q.a", "module.encoder_k.a", "module.encoder_k.b", "queue")
    tensors = dict.fromkeys(names, ("F32", SIX))
    path = write(tmp_path, safetensors_file(tensors), "mine.safetensors")

    found = files.read(path)

    # `b` is of one network alone, so that nothing says which.
    assert set(found.tensors) == {names[0], names[2], names[3]}
    assert found.left_out == (names[1],)


def test_damaged_safetensors_and_unknown_types_are_refused(tmp_path):
    whole = safetensors_file({"a": ("F32", SIX)})
    for content in (b"", whole[:5], whole[:-1], b"\xff" * 8 + whole[8:], whole + b"x"):
        found = refused(write(tmp_path, content, "mine.safetensors"))
        assert found.startswith("it is not a whole safetensors file")

    odd = safetensors_file({"a": ("F8_E4M3", np.zeros(2, np.uint8))})
    found = refused(write(tmp_path, odd, "mine.safetensors"))
    assert found.startswith("'a' is of type F8_E4M3; known are ['BF16', 'BOOL'")


def test_a_missing_library_is_named_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = write(tmp_path, safetensors_file({"a": ("F32", SIX)}), "mine.safetensors")

    with pytest.raises(ValueError, match="pip install safetensors"):
        files.read(path)


def test_a_pth_without_pytorch_is_told_how_to_be_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    for name in SAVED:
        with pytest.raises(
            ValueError, match=r"pip install 'torch>=2\.6'\. Or"
        ) as raised:
            files.read(GOLDEN / name)
        assert str(raised.value).startswith(f"{GOLDEN / name}: ")
        assert "\n" not in str(raised.value)
        assert 'python -c "import torch, safetensors.torch; ' in str(raised.value)


class Torch(types.ModuleType):
    """Says that it is PyTorch, and notes how it is asked to load."""

    Tensor = np.ndarray
    bfloat16 = "bfloat16"

    def __init__(self, version, value=None):
        super().__init__("torch")
        self.__version__ = version
        self.asked = []
        self._value = value

    def load(self, file, **options):
        self.asked.append((file.read(), options))
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu124", "2.4.0a0"])
def test_a_pytorch_that_a_file_can_make_run_code_is_not_asked(
    version, tmp_path, monkeypatch
):
    torch = Torch(version)
    monkeypatch.setitem(sys.modules, "torch", torch)

    with pytest.raises(ValueError, match="CVE-2025-32434"):
        files.read(write(tmp_path, b"weights"))

    assert not torch.asked


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "3.0.0a0+git1"])
def test_pytorch_is_asked_for_tensors_alone(version, tmp_path, monkeypatch):
    torch = Torch(version, {"epoch": 3, "state_dict": {}})
    monkeypatch.setitem(sys.modules, "torch", torch)

    assert refused(write(tmp_path, b"weights")).startswith("it holds a dict, not a")

    assert torch.asked == [(b"weights", {"map_location": "cpu", "weights_only": True})]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1], "it holds a list, not a table of tensors"),
        ({"a": 1}, "it holds more than tensors: ['a']"),
        ({"state_dict": {}, "best": 1}, "it holds a dict, not a table of tensors"),
        (EOFError("Ran out of input"), "holds more than tensors: EOFError"),
        (
            pickle.UnpicklingError(
                "Re-running with weights_only=False.\n Unsupported global: GLOBAL "
                "posix.system was not an allowed global by default."
            ),
            "holds more than tensors: 'posix.system'",
        ),
    ],
)
def test_what_is_not_a_tensor_is_named(value, told, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", Torch("2.6.0", value))

    found = refused(write(tmp_path, b"weights"))

    assert told in found
    assert "weights_only" not in found


def test_a_file_that_is_not_there_is_told(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match="No file of weights"):
            files.read(path)
