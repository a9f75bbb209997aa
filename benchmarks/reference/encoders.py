# pyright: reportMissingImports=false
"""Features of one published encoder with drawn weights, by PyTorch.

Run by `benchmarks.encoders`: `encoders.py LIBRARY ENCODER IMAGES RESULTS`, two `.npz`.
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
import make_vit_networks_goldens as vits  # noqa: E402

_TIMM = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
    "vit_tiny": "deit_tiny_patch16_224",
    "vit_small": "deit_small_patch16_224",
    "vit_base": "deit_base_patch16_224",
}
_VITS = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def network(library: str, encoder: str) -> Any:
    """A network of a library, without its last layer; names as it has them."""
    name, _, family = encoder.partition(",")
    if family.startswith("eva_x"):
        size = _VITS[name.removeprefix("vit_")]
        return vits.eva_x(*size, normed=family.endswith("normed"))
    if library == "timm":
        import timm

        return timm.create_model(_TIMM.get(name, name), num_classes=0)
    if library == "torchvision":
        import torchvision

        made = getattr(torchvision.models, name)()
        if name.startswith("convnext"):
            made.classifier[2] = torch.nn.Identity()
        else:
            last = "classifier" if name.startswith("densenet") else "fc"
            setattr(made, last, torch.nn.Identity())
        return made
    return _transformers(name.removeprefix("vit_"), family)


def _transformers(size: str, family: str) -> Any:
    import transformers

    if not family:
        timms = network("timm", size)
        widths = [info["num_chs"] for info in timms.feature_info]
        depths = [len(stage.blocks) for stage in timms.stages]
        config = transformers.DINOv3ConvNextConfig(hidden_sizes=widths, depths=depths)
        return transformers.DINOv3ConvNextModel(config)
    width, depth, heads = _VITS[size]
    options = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
    }
    if family == "dinov3":
        name, more = "DINOv3ViT", {"intermediate_size": 4 * width}
        more["num_register_tokens"] = 4
    else:
        name = "Dinov2" + ("WithRegisters" if family.endswith("registers") else "")
        more = {"patch_size": 14, "image_size": 518}
    config = getattr(transformers, name + "Config")(**options, **more)
    return getattr(transformers, name + "Model")(config)


def main(library: str, encoder: str, images: str, results: str) -> None:
    """Writes names and shapes, pooled features in float64 and float32, and seconds."""
    grey = np.load(images)["images"]
    arrays: dict[str, Any] = {}
    for dtype, name in ((torch.float64, "exact"), (torch.float32, "single")):
        made = network(library, encoder).to(dtype).eval()
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
