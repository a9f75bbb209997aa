"""Reads the tensors of a file that `torch.save` wrote, without PyTorch.

Both formats: a zip archive with a pickle and one entry for each storage, and the older
row of pickles with the storages at the end. Nothing of the file is run; see `pickled`.
"""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from mtpret_jax.weights import pickled

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
DTYPES: Mapping[str, Any] = {
    "torch.DoubleStorage": np.float64,
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": ml_dtypes.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
}
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A flat run of numbers elsewhere in the file."""

    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class _View:
    """A tensor: a part of a storage and its shape."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def load(content: bytes) -> Any:
    """The value that was saved, its tensors as NumPy arrays.

    Args:
      content: Of the whole file.

    Returns:
      Dicts, lists, tuples, numbers and text as saved, an ordered dict as a dict.

    Raises:
      Refused: If it holds anything but those and tensors, or is damaged; the message
        is a clause that begins with the reason.
    """
    try:
        if content[:4] == b"PK\x03\x04":
            return _load_zip(content)
        return _load_legacy(content)
    except pickled.Refused:
        raise
    except _BROKEN as error:  # What zipfile and NumPy make of nonsense.
        raise pickled.Refused(f"it is damaged or not whole ({error})") from error


def _load_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise pickled.Refused("it is a zip archive, but not of torch.save")
        folder = pickles[0].removesuffix("data.pkl")

        def read(name: str) -> bytes:
            entry = entries.get(folder + name)
            if entry is None:
                raise pickled.Refused(f"its part '{name}' is missing")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise pickled.Refused(f"its part '{name}' is compressed")
            return archive.read(entry)

        # Files of PyTorch before 2.1 do not say; they were little-endian.
        order = read("byteorder") if folder + "byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            raise pickled.Refused(f"its byte order is {order[:20]!r}")
        value = _unpickle(io.BytesIO(read("data.pkl")))
        return _with_arrays(
            value, lambda storage: read(f"data/{storage.key}"), order.decode()
        )


def _load_legacy(content: bytes) -> Any:
    stream = io.BytesIO(content)
    if content[:1] != b"\x80" or _unpickle(stream) != _LEGACY_MAGIC:
        raise pickled.Refused("it is not a file of torch.save")
    version, system = _unpickle(stream), _unpickle(stream)
    if version != _LEGACY_VERSION or not isinstance(system, dict):
        raise pickled.Refused("its format is not the known one")
    order = "little" if system.get("little_endian", True) else "big"
    value = _unpickle(stream)
    keys = _unpickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise pickled.Refused("its list of storages is damaged")
    storages = {storage.key: storage for storage in _storages(value)}
    parts = {}
    for key in keys:
        if key not in storages:
            raise pickled.Refused(f"its storage '{key}' belongs to no tensor")
        count = int.from_bytes(stream.read(8), order, signed=True)
        if count != storages[key].numel:
            raise pickled.Refused(f"its storage '{key}' is damaged or not whole")
        parts[key] = stream.read(count * storages[key].dtype.itemsize)
    return _with_arrays(value, lambda storage: parts.get(storage.key, b""), order)


def _unpickle(stream: io.BytesIO) -> Any:
    return pickled.load(stream, _CALLS, _storage)


def _storage(reference: Any) -> _Storage:
    """The storage that a pickle refers to."""
    kind, name, key, _, numel = reference[:5]
    whole = len(reference) == 5 or reference[5:] == (None,)
    plain = isinstance(key, (str, int)) and isinstance(name, pickled.Name)
    if kind != "storage" or not whole or not plain:
        raise pickled.Refused("it refers to something other than a storage")
    if name.text not in DTYPES:
        raise pickled.Refused(
            f"it holds numbers of type '{name.text}'; known are {sorted(DTYPES)}"
        )
    return _Storage(str(key), np.dtype(DTYPES[name.text]), _natural(numel))


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _View:
    """What `torch._utils._rebuild_tensor_v2` is given; checked against the storage."""
    if not isinstance(storage, _Storage):
        raise pickled.Refused("a tensor has no storage")
    shape = tuple(_natural(side) for side in shape)
    stride = tuple(_natural(step) for step in stride)
    offset = _natural(offset)
    if len(shape) != len(stride) or len(shape) > 16:
        raise pickled.Refused(f"a tensor has shape {shape} and strides {stride}")
    if math.prod(shape):
        last = offset + sum(
            (side - 1) * step for side, step in zip(shape, stride, strict=True)
        )
        if last >= storage.numel or math.prod(shape) > storage.numel:
            raise pickled.Refused(f"a tensor of shape {shape} is beyond its storage")
    return _View(storage, offset, shape, stride)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return pickled.table(pairs)


def _size(sides: Any = ()) -> tuple[int, ...]:
    return tuple(_natural(side) for side in sides)


_CALLS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


def _natural(value: Any) -> int:
    if type(value) is not int:  # What else it is may be too long to print.
        raise pickled.Refused(f"a size or place is a {type(value).__name__}")
    if not 0 <= value < 2**62:
        raise pickled.Refused(f"a size or place is {value}")
    return value


def _storages(value: Any) -> list[_Storage]:
    found: list[_Storage] = []
    _mapped(value, lambda view: found.append(view.storage))
    return found


def _with_arrays(value: Any, read: Callable[[_Storage], bytes], order: str) -> Any:
    """`value` with an array in place of each view."""
    flat: dict[str, np.ndarray] = {}

    def array(view: _View) -> np.ndarray:
        storage = view.storage
        if storage.key not in flat:
            content = read(storage)
            if len(content) != storage.numel * storage.dtype.itemsize:
                raise pickled.Refused(
                    f"its storage '{storage.key}' has {len(content)} bytes, not the "
                    f"{storage.numel} numbers of {storage.dtype}"
                )
            if storage.dtype == np.bool_:
                flat[storage.key] = np.frombuffer(content, np.uint8) != 0
            else:
                numbers = np.frombuffer(content, storage.dtype)
                flat[storage.key] = numbers.byteswap() if order == "big" else numbers
        numbers = flat[storage.key]
        if numbers.dtype != storage.dtype or numbers.size != storage.numel:
            raise pickled.Refused(f"its storage '{storage.key}' has two types")
        steps = tuple(step * numbers.itemsize for step in view.stride)
        # Not copied: many views of one storage cost no more than the file.
        return np.lib.stride_tricks.as_strided(
            numbers[view.offset :], view.shape, steps, writeable=False
        )

    return _mapped(value, array)


def _mapped(value: Any, change: Callable[[_View], Any]) -> Any:
    """Applies `change` to every view inside dicts, lists and tuples, once to each."""
    done: dict[int, Any] = {}  # So that what is shared many times over costs once.

    def go(value: Any, depth: int) -> Any:
        if depth > 50:
            raise pickled.Refused("it is nested too deep")
        if not isinstance(value, (_View, dict, list, tuple)):
            return value
        if id(value) not in done:
            if isinstance(value, _View):
                done[id(value)] = change(value)
            elif isinstance(value, dict):
                found = {key: go(entry, depth + 1) for key, entry in value.items()}
                done[id(value)] = found
            else:
                found = [go(entry, depth + 1) for entry in value]
                done[id(value)] = type(value)(found)
        return done[id(value)]

    return go(value, 0)
