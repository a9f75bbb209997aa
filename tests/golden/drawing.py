"""Weights and images drawn from names, and golden files read and written; NumPy only.

Weights are the same wherever they are drawn, so a golden file keeps names, shapes and
results alone. The scripts of this folder (`python tests/golden`) write what the tests
read.
"""

import dataclasses
import math
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent
SAMPLES = 8  # numbers kept of each tensor, channels kept of each level
EPSILON = float(np.finfo(np.float32).eps)

Arrays = Mapping[str, np.ndarray]


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1), float32, from a name alone.

    NumPy promises that the raw bits of PCG64 stay as they are; its distributions may
    change from version to version.
    """
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    unit = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    return (2 * unit - 1).reshape(shape)


def draw(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by torchvision's names, of a size that keeps features near 1."""
    drawn = {}
    for name, shape in shapes.items():
        numbers = uniform(name, shape)
        if len(shape) > 1:
            numbers *= math.sqrt(3 / math.prod(shape[1:]))  # deviation 1 / sqrt(fan in)
        elif name.endswith(("running_var", "weight")):
            numbers = 1 + numbers / 2
        else:
            numbers /= 2
        drawn[name] = numbers.astype(np.float32)
    return drawn


def fill(network: Any) -> dict[str, tuple[int, ...]]:
    """Draws the weights of a PyTorch module, and returns their shapes by name."""
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    drawn = draw(shapes)
    network.load_state_dict(
        {name: tensor.new_tensor(drawn[name]) for name, tensor in state.items()},
        strict=False,
    )
    return shapes


def state(network: Any) -> dict[str, np.ndarray]:
    """Weights and running statistics of a PyTorch module."""
    return {
        name: tensor.numpy().copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def statistics(tensors: Arrays) -> dict[str, np.ndarray]:
    """The running statistics among them."""
    return {name: array for name, array in tensors.items() if ".running_" in name}


def gradients(network: Any) -> dict[str, np.ndarray]:
    """Of the last backward pass of a PyTorch module."""
    return {name: x.grad.numpy().copy() for name, x in network.named_parameters()}


def images(count: int, size: int, name: str = "images") -> np.ndarray:
    """Grey images of noise, float32 [count, size, size, 1]."""
    return 2 * uniform(name, (count, size, size, 1))


def kept(level: np.ndarray) -> np.ndarray:
    """Some channels of a level [..., C], evenly spaced."""
    return level[..., :: max(1, level.shape[-1] // SAMPLES)]


def digest(tensors: Arrays) -> np.ndarray:
    """Each tensor's root mean square and some of its numbers, [tensors by name, 9].

    The numbers are evenly spaced; of a smaller tensor some come twice.
    """
    rows = []
    for name in sorted(tensors):
        flat = np.asarray(tensors[name], np.float64).ravel()
        places = np.linspace(0, flat.size - 1, SAMPLES).astype(int)
        rows.append([math.sqrt(np.square(flat).mean()), *flat[places]])
    return np.array(rows)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, each row (axis 0) relative to its largest number."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        raise ValueError(f"error: found shape {found.shape}, wanted {wanted.shape}.")
    rows = wanted.reshape(len(wanted), -1)
    difference = np.abs(found.reshape(rows.shape) - rows).max(1)
    return float((difference / np.maximum(np.abs(rows).max(1), 1e-30)).max())


@dataclasses.dataclass(frozen=True)
class Golden:
    """What PyTorch computed in float64.

    Attributes:
      shapes: Of its tensors, by name.
      arrays: Its results, as float32.
      rounding: `error` of PyTorch's own float32 against them, at least one step of
        float32: how far two right programs may be apart.
    """

    shapes: Mapping[str, tuple[int, ...]]
    arrays: Arrays
    rounding: Mapping[str, float]


def store(
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    exact: Arrays,
    single: Arrays,
) -> None:
    """Writes `<name>.npz` from the same results in float64 and in float32."""
    rounding = {key: max(error(single[key], exact[key]), EPSILON) for key in exact}
    for key, value in rounding.items():
        print(f"{name:12} {key:24} float32 differs by {value:.1e}")  # noqa: T201
    lines = [f"{key} {'x'.join(map(str, shapes[key]))}" for key in sorted(shapes)]
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        tensors=np.array(lines),
        rounding=np.array([f"{key} {value!r}" for key, value in rounding.items()]),
        **{key: np.asarray(array, np.float32) for key, array in exact.items()},
    )


def load(name: str) -> Golden:
    """Reads `<name>.npz`."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    shapes = {}
    for line in arrays.pop("tensors"):
        key, sides = str(line).split(" ")
        shapes[key] = tuple(int(side) for side in sides.split("x") if side)
    split = [str(line).split(" ") for line in arrays.pop("rounding")]
    return Golden(shapes, arrays, {key: float(value) for key, value in split})
