"""A simulated radiograph and what a network makes of it, kept with every backbone.

Whoever loads the network does both again, so that another version of a library, a
damaged file or a forgotten step of pre-processing is found before the first real image.
"""

from __future__ import annotations

import importlib.resources
import io
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import types
from mtpret_jax.data import transforms
from mtpret_jax.inference import answers, description, networks, preprocessing
from mtpret_jax.training import sharding
from tfds_builders import whole

FILE = "golden.npz"
_CHEST = "golden.png"
# float32 sums in another order change the seventh digit; dozens of layers, more.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
INPUT_TOLERANCE = 1e-2  # a grey level of 255: another OpenCV rounds otherwise
_COMPARED = (
    "embedding",
    *(n for row in answers.ANSWERS.values() for n in row.compared),
)
_HEADROOM = 1 << 20  # bytes of an array beyond one number for each pixel
PIXELS = 0.01  # share of a mask that may change class


def chest() -> np.ndarray:
    """A chest of `phantom_xray`, uint8 [H, W]."""
    content = (importlib.resources.files("mtpret_jax.inference") / _CHEST).read_bytes()
    return transforms.decode(np.frombuffer(content, np.uint8))


def outputs(
    network: networks.Network, tree: types.Tree, preparation: preprocessing.Preparation
) -> dict[str, np.ndarray]:
    """What the network makes of the chest: `input`, `embedding` and the task's own.

    Computed in full precision, on accelerators too.
    """
    image, _ = preparation(chest())
    with jax.default_matmul_precision("highest"):
        found = jax.jit(network)(tree, image[np.newaxis])
    return {"input": image} | comparable(found)


def comparable(found: answers.Outputs) -> dict[str, np.ndarray]:
    """What can be compared of a batch of one, without the batch axis."""
    arrays = {name: np.asarray(found[name][0]) for name in _COMPARED if name in found}
    if "score" in found:  # Slots without a box hold anything.
        arrays["score"] = np.where(found["valid"][0], arrays["score"], 0.0)
    return arrays


def write(folder: epath.Path, found: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes the outputs of each task ("" for none) beside the backbone."""
    arrays = {
        f"{task}/{name}": array
        for task, named in found.items()
        for name, array in named.items()
    }
    whole.write_arrays(folder / FILE, arrays)


def write_all(
    folder: epath.Path, tree: types.Tree, described: description.Description
) -> None:
    """Computes and writes them for each task of a backbone that was handed over.

    Args:
      folder: The backbone's.
      tree: What `types.Stage.hand_over` gives.
      described: What the model is.
    """
    tree = sharding.fetch({part: tree[part] for part in ("backbone", "heads")})
    found, heads = {}, list(described.class_names)
    for task in heads if len(heads) == 1 else [*heads, ""]:
        found[task] = outputs(
            networks.build(described, task),
            networks.part(tree, task),
            preprocessing.Preparation.of(described, task),
        )
    write(folder, found)


def read(
    folder: epath.Path, task: str, shape: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """What `write` wrote of a task for an input of `shape`.

    An array of another name, or larger than such a task's, is not unpacked.

    Raises:
      FileNotFoundError: If the folder has no such file.
      ValueError: If the file is damaged or knows no such task.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: no {FILE}, by which a network is checked. It was made by a "
            "version before 0.1; train or export it again."
        )
    content = whole.read(path, "Copy the folder again, or train or export it again.")
    found, most = {}, 4 * math.prod(shape) + _HEADROOM
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name in ("input", *_COMPARED):
                entry = f"{task}/{name}"
                if entry not in arrays.files:
                    continue
                size = arrays.zip.getinfo(f"{entry}.npy").file_size
                if size > most:
                    raise ValueError(f"{entry}.npy would be {size:,} bytes")
                found[name] = arrays[entry]
                if found[name].dtype.kind not in "fiu":
                    raise ValueError(f"{entry}.npy does not hold numbers")
    except Exception as error:  # NumPy raises almost anything on damaged archives.
        raise ValueError(
            f"{path}: damaged ({error}). Copy the folder again, or do the run, or the "
            "export, again."
        ) from error
    kept = found["input"].shape if "input" in found else None
    if kept != shape or "embedding" not in found:
        raise ValueError(
            f"{path}: of task '{task}' it has {sorted(found)}, the input {kept}; "
            f"expected an embedding and an input of {shape[0]} pixels. One of the "
            "folder's files is damaged or of another run: copy it again."
        )
    return found


def check(
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    *,
    dtype: str,
    where: str,
) -> float:
    """Compares outputs with those that were written.

    Args:
      expected: Those that `read` gives.
      found: Those that `outputs` gives now.
      dtype: Type of the network's products.
      where: What a message begins with.

    Returns:
      The largest difference of the embedding, over its largest number.

    Raises:
      ValueError: If they differ by more than rounding.
    """
    differences: dict[str, tuple[float, float]] = {}
    for name, wanted in expected.items():
        got = found.get(name)
        if got is None or got.shape != wanted.shape:
            shape = None if got is None else got.shape
            raise ValueError(f"{where}: {name} is {shape}, expected {wanted.shape}.")
        allowed = INPUT_TOLERANCE if name == "input" else TOLERANCE[dtype]
        differences[name] = (_difference(wanted, got), allowed)
    # The input first: where it differs, so does all that follows.
    for name, (difference, allowed) in differences.items():
        limit = PIXELS if _is_mask(expected[name]) else allowed
        if not difference <= limit:  # NaN too.
            what = "the pre-processing" if name == "input" else f"the {name}"
            raise ValueError(
                f"{where}: {what} of the golden image differs by {difference:.2g} "
                f"from what was kept with the weights (at most {limit:.2g}). The files "
                "are damaged, or a library computes otherwise than in training: "
                "versions are in versions.json of the work folder."
            )
    return differences["embedding"][0]


def _is_mask(array: np.ndarray) -> bool:
    """Whether an output is a mask of class indices: all others are real numbers."""
    return array.dtype.kind in "iu"


def _difference(wanted: np.ndarray, got: np.ndarray) -> Any:
    if _is_mask(wanted):
        return float((wanted != got).mean())
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    return float(np.abs(wanted - got).max(initial=0.0)) / scale
