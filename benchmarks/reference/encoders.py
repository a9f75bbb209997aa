# pyright: reportMissingImports=false
"""Features of one published encoder with drawn weights, by PyTorch.

Run by `benchmarks.encoders`: `encoders.py LIBRARY SIZE IMAGES RESULTS`, two `.npz`.
"""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any

import numpy as np
import torch

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

import drawing  # noqa: E402


def network(library: str, size: str) -> Any:
    """A network of a library, without its last layer; names as it has them."""
    if library == "timm":
        import timm

        return timm.create_model(size, num_classes=0)
    if library == "torchvision":
        import torchvision

        made = getattr(torchvision.models, size)()
        if size.startswith("densenet"):
            made.classifier = torch.nn.Identity()
        else:
            made.classifier[2] = torch.nn.Identity()
        return made
    import transformers

    timms = network("timm", size)
    widths = [info["num_chs"] for info in timms.feature_info]
    depths = [len(stage.blocks) for stage in timms.stages]
    config = transformers.DINOv3ConvNextConfig(hidden_sizes=widths, depths=depths)
    return transformers.DINOv3ConvNextModel(config)


def main(library: str, size: str, images: str, results: str) -> None:
    """Writes names and shapes, pooled features in float64 and float32, and seconds."""
    grey = np.load(images)["images"]
    arrays: dict[str, Any] = {}
    for dtype, name in ((torch.float64, "exact"), (torch.float32, "single")):
        made = network(library, size).to(dtype).eval()
        shapes = drawing.fill(made)
        image = torch.tensor(grey.transpose(0, 3, 1, 2), dtype=dtype)
        image = image.expand(-1, 3, -1, -1)
        with torch.inference_mode():
            for _ in range(2):  # The first call is slower.
                start = time.perf_counter()
                pooled = made(image)
                arrays["seconds"] = time.perf_counter() - start
        pooled = getattr(pooled, "pooler_output", pooled)
        arrays[name] = pooled.numpy()
    lines = [f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items()]
    np.savez(results, tensors=np.array(lines), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
