"""Files of weights: reads safetensors and, with PyTorch, .pth; writes safetensors."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from tfds_builders import whole

# Of two networks of one training: the one that is not handed on, and the one that is.
_INSTEAD = {"encoder_k": "encoder_q", "student": "teacher"}
_WRAPPERS = (
    "state_dict",
    "model",
    "teacher",
)  # where training scripts keep the weights
# Before it, a file could run code in spite of `weights_only`: CVE-2025-32434.
_SAFE_TORCH = (2, 6)
_CONVERT = (
    "python -c \"import torch, safetensors.torch; w = torch.load('weights.pth', "
    "map_location='cpu', weights_only=True); w = w.get('state_dict', w); "
    "safetensors.torch.save_file({k: v.clone().contiguous() for k, v in w.items()}, "
    "'weights.safetensors')\""
)
_SAFETENSORS_DTYPES: Mapping[str, type] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclasses.dataclass(frozen=True, eq=False)
class TensorFile:
    """A file of named tensors.

    Attributes:
      name: Name of the file, without its folder.
      sha256: Digest of its bytes, hexadecimal.
      tensors: Arrays as stored, of any shape and dtype.
      left_out: Names of a second network beside the one that its authors hand on: of
        MoCo's key encoder, of a student beside its teacher.
    """

    name: str
    sha256: str
    tensors: Mapping[str, np.ndarray]
    left_out: tuple[str, ...] = ()


class _Refused(ValueError):
    """A file is damaged, or holds more than tensors; the message is a clause."""


def read(path: epath.PathLike) -> TensorFile:
    """Reads a whole file of weights; runs nothing of it.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged or holds anything but named tensors, or if the
        library that reads it is missing or can be made to run code.
    """
    path = epath.Path(path)
    where = os.fspath(path)
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f"No file of weights '{where}'.")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if path.name in whole.digests(path.parent):  # Of a folder that was exported.
        whole.compare(path, digest)
    try:
        if path.suffix == ".safetensors":
            tensors = _read_safetensors(content)
        else:
            tensors = _read_torch(content, where)
    except _Refused as error:
        raise ValueError(
            f"{where}: this file of weights was not read: {error}. Expected a .pth or "
            ".pt of torch.save(model.state_dict(), path), or a .safetensors, with "
            "tensors alone; nothing of the file was run."
        ) from error
    left_out = tuple(sorted(name for name in tensors if _is_second(name, tensors)))
    kept = {name: array for name, array in tensors.items() if name not in left_out}
    return TensorFile(path.name, digest, kept, left_out)


def _is_second(name: str, tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether an array is of a network that another one is handed on instead of."""
    parts = name.split(".")
    return any(
        second in parts
        and ".".join(first if part == second else part for part in parts) in tensors
        for second, first in _INSTEAD.items()
    )


def write(
    path: epath.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> TensorFile:
    """Writes a .safetensors file, and reads it again to see that it is right.

    Args:
      path: A file that is not there yet.
      tensors: Arrays of a dtype that safetensors knows.
      metadata: Kept in the file's head.

    Raises:
      FileExistsError: If there is such a file.
      OSError: If what is on disk is not what was written.
      ValueError: If the library for safetensors is missing.
    """
    path = epath.Path(path)
    if path.exists():
        raise FileExistsError(f"{os.fspath(path)} is there already; it stays.")
    rows = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    content = _safetensors().numpy.save(rows, dict(metadata))  # as it lies in memory
    whole.write(path, _in_order(content))
    found = read(path)
    wrong = sorted(found.tensors.keys() ^ tensors.keys()) + [
        name
        for name, array in found.tensors.items()
        if name in tensors and not _same(array, tensors[name])
    ]
    if wrong:
        raise OSError(
            f"{os.fspath(path)} does not hold what was written to it: {wrong[:5]} "
            f"({len(wrong)} in all) differ. Is the disk full, or broken?"
        )
    return found


def _in_order(content: bytes) -> bytes:
    """The same file with its metadata by name: the library leaves that to chance."""
    start = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:start])
    head["__metadata__"] = dict(sorted(head.get("__metadata__", {}).items()))
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # Tensors lie at multiples of 8.
    return len(text).to_bytes(8, "little") + text + content[start:]


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    kinds = (one.dtype, one.shape) == (other.dtype, other.shape)
    return kinds and one.tobytes() == other.tobytes()


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ValueError(
            "A .safetensors file needs a library: pip install safetensors."
        ) from error
    return safetensors


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    library = _safetensors()
    try:
        parts = library.deserialize(content)
    except library.SafetensorError as error:
        raise _Refused(f"it is not a whole safetensors file ({error})") from error
    tensors = {}
    for name, part in parts:
        if part["dtype"] not in _SAFETENSORS_DTYPES:
            raise _Refused(
                f"'{name}' is of type {part['dtype']}; known are "
                f"{sorted(_SAFETENSORS_DTYPES)}"
            )
        dtype = np.dtype(_SAFETENSORS_DTYPES[part["dtype"]])
        flat = np.frombuffer(part["data"], dtype.newbyteorder("<"))
        tensors[name] = flat.reshape(part["shape"])
    return tensors


def _read_torch(content: bytes, where: str) -> dict[str, np.ndarray]:
    """The tensors of a file of `torch.save`."""
    torch = _torch(where)
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises almost anything on damaged files.
        # Its own message tells how to run the file all the same.
        named = re.search(r"GLOBAL (\S+)", str(error))
        told = f"'{named[1]}'" if named else type(error).__name__
        raise _Refused(f"it is damaged, or holds more than tensors: {told}") from error
    for wrapper in _WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            value = value[wrapper]
    if not isinstance(value, dict) or not value:
        raise _Refused(f"it holds a {type(value).__name__}, not a table of tensors")
    others = [
        str(name)
        for name, entry in value.items()
        if not isinstance(name, str) or not isinstance(entry, torch.Tensor)
    ]
    if others:
        raise _Refused(f"it holds more than tensors: {others[:5]}")
    return {name: _array(torch, name, tensor) for name, tensor in value.items()}


def _torch(where: str) -> Any:
    """PyTorch, which is not a dependency of ours."""
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{where}: reading a .pth or .pt needs PyTorch: pip install 'torch>=2.6'. "
            f"Or make a .safetensors of it where PyTorch is: {_CONVERT}"
        ) from error
    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    if version < _SAFE_TORCH:
        raise ValueError(
            f"{where}: PyTorch {torch.__version__} can be made to run code by a file "
            "of weights (CVE-2025-32434): pip install 'torch>=2.6'."
        )
    return torch


def _array(torch: Any, name: str, tensor: Any) -> np.ndarray:
    try:
        if tensor.dtype == torch.bfloat16:  # NumPy has none of its own.
            return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.detach().numpy()
    except (RuntimeError, TypeError) as error:
        raise _Refused(
            f"'{name}' is of type {tensor.dtype}, {tensor.layout}"
        ) from error
