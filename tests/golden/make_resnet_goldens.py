# pyright: reportMissingImports=false
"""Makes the reference arrays of the residual networks, with torch and torchvision.

    pip install torch torchvision
    python tests/golden/make_resnet_goldens.py

Writes beside itself, for each network, `<name>.npz`: names and shapes of torchvision's
tensors, and the features that it computes of two images with the weights of `draw`.
Also two small files of `torch.save`, in the zip format and in the older one, whose
content `saved_values` describes. The tests read all of that without torch.
"""

import math
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent
NETWORKS = ("resnet18", "resnet50")
IMAGE_SIZE = 64  # pixels
CHANNELS_KEPT = 8  # of each level, evenly spaced; `pooled` is kept whole


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1), float32, from a tensor's name alone.

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
        numbers = _uniform(name, shape)
        if len(shape) == 4:
            numbers *= math.sqrt(3 / math.prod(shape[1:]))  # deviation 1 / sqrt(fan in)
        elif name.endswith(("running_var", "weight")):
            numbers = 1 + numbers / 2
        else:
            numbers /= 2
        drawn[name] = numbers.astype(np.float32)
    return drawn


def images() -> np.ndarray:
    """Grey images, float32 [2, IMAGE_SIZE, IMAGE_SIZE, 1]."""
    return 2 * _uniform("images", (2, IMAGE_SIZE, IMAGE_SIZE, 1))


def kept(level: np.ndarray) -> np.ndarray:
    """Some channels of a level [B, H, W, C]."""
    return level[..., :: level.shape[-1] // CHANNELS_KEPT]


def saved_values() -> dict[str, np.ndarray]:
    """What the two files of `torch.save` hold; bfloat16 is given as float32."""
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        "plain": grid,
        "transposed": grid.T,
        "part": grid[1:3, 2:5],  # shares the storage of `plain`
        "double": np.array([0.1, -2.5], np.float64),
        "half": np.array([0.1, 65504], np.float16),
        "bfloat16": np.array([1.0, -0.15625], np.float32),
        "count": np.asarray(7, np.int64),
        "flags": np.asarray([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.array([[1, 2], [3, 4]], np.float32),
    }


def _save(torch: Any) -> None:
    values = saved_values()
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    tensors["transposed"] = tensors["plain"].t()
    tensors["part"] = tensors["plain"][1:3, 2:5]
    tensors["bfloat16"] = tensors["bfloat16"].to(torch.bfloat16)
    tensors["parameter"] = torch.nn.Parameter(tensors["parameter"])
    module = torch.nn.Linear(1, 1)
    state = module.state_dict()  # An ordered dict with attributes, as models give.
    state.clear()
    state.update(tensors)
    checkpoint = {"state_dict": state, "epoch": 3, "arch": "none", "best": 0.5}
    torch.save(checkpoint, FOLDER / "torch_zip.pth")
    torch.save(
        checkpoint, FOLDER / "torch_legacy.pth", _use_new_zipfile_serialization=False
    )


def main() -> None:
    """Writes every file."""
    import torch
    import torchvision

    _save(torch)
    torch.set_grad_enabled(False)
    image = torch.from_numpy(images().transpose(0, 3, 1, 2).repeat(3, axis=1))
    for name in NETWORKS:
        network = getattr(torchvision.models, name)(weights=None).eval()
        shapes = {
            key: tuple(tensor.shape)
            for key, tensor in network.state_dict().items()
            if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
        }
        drawn = {key: torch.from_numpy(value) for key, value in draw(shapes).items()}
        network.load_state_dict(drawn, strict=False)
        hidden = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        arrays = {}
        for level in range(1, 5):
            hidden = getattr(network, f"layer{level}")(hidden)
            arrays[f"level{level}"] = kept(hidden.permute(0, 2, 3, 1).numpy())
        arrays["pooled"] = hidden.mean((2, 3)).numpy()
        names = [f"{key} {'x'.join(map(str, shapes[key]))}" for key in sorted(shapes)]
        np.savez_compressed(FOLDER / f"{name}.npz", tensors=names, **arrays)


if __name__ == "__main__":
    main()
