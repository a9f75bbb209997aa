# pyright: reportMissingImports=false
"""Two small files of `torch.save`, in the zip format and in the older one.

`saved_values` describes what they hold; the tests read them without PyTorch.
"""

import pathlib
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent


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
    """Writes both files."""
    import torch

    _save(torch)


if __name__ == "__main__":
    main()
