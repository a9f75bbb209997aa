# pyright: reportMissingImports=false
"""A narrow Swin transformer of timm: levels, pooled features, gradients.

`own/...` and `other/...`: images of two sizes; windows divide the maps of the first,
not of the second. Levels 1 to 3 are normalised without parameters, as ours are.
`train/gradients`: of half the mean squared distance of the last level and the pooled
features to drawn ones, at the second size.
`swin_networks`: names and shapes of whole sizes, as timm saves them.
"""

from typing import Any

import drawing
import numpy as np

WIDTH, DEPTHS, HEADS, WINDOW, BATCH = 8, (2, 1, 1, 2), (1, 2, 2, 4), 3, 2
SIZES = {"own": (96, 96), "other": (80, 112)}  # pixels
NETWORKS = {
    "base": "swin_base_patch4_window7_224",
    "large": "swin_large_patch4_window12_384",
}


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by timm's names; offsets' biases as large as scores."""
    drawn = drawing.draw(shapes)
    for name, shape in shapes.items():
        if name.endswith("relative_position_bias_table"):
            drawn[name] = drawing.uniform(name, shape)
    return drawn


def images(size: str) -> np.ndarray:
    """Grey images of noise, float32 [B, H, W, 1]."""
    return 2 * drawing.uniform("images", (BATCH, *SIZES[size], 1))


def _network(size: str) -> Any:
    from timm.models import swin_transformer

    return swin_transformer.SwinTransformer(
        img_size=SIZES[size],
        embed_dim=WIDTH,
        depths=DEPTHS,
        num_heads=HEADS,
        window_size=WINDOW,
        num_classes=0,
        drop_path_rate=0.0,
    )


def _results(size: str, weights: dict[str, np.ndarray], dtype: Any) -> dict[str, Any]:
    import torch

    network = _network(size).eval().to(dtype)
    network.load_state_dict(
        {key: torch.tensor(x, dtype=dtype) for key, x in weights.items()}
    )
    channels = images(size).transpose(0, 3, 1, 2).repeat(3, axis=1)
    level = network.patch_embed(torch.tensor(channels, dtype=dtype))
    arrays = {}
    for number, stage in enumerate(network.layers, start=1):
        level = stage(level)
        if number < len(DEPTHS):
            normed = torch.nn.functional.layer_norm(level, level.shape[-1:])
            arrays[f"{size}/level{number}"] = drawing.kept(normed.detach().numpy())
    last = network.norm(level)
    pooled = last.mean((1, 2))
    arrays[f"{size}/level4"] = drawing.kept(last.detach().numpy())
    arrays[f"{size}/pooled"] = pooled.detach().numpy()
    if size == "other":
        loss = 0
        for name, found in (("last", last), ("pooled", pooled)):
            target = found.new_tensor(drawing.uniform(name, tuple(found.shape)))
            loss = loss + (found - target).square().mean() / 2
        loss.backward()
        arrays["train/gradients"] = drawing.digest(drawing.gradients(network))
    return arrays


def main() -> None:
    """Writes every file."""
    import timm
    import torch

    state = _network("own").state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    results = [
        _results("own", draw(shapes), dtype) | _results("other", draw(shapes), dtype)
        for dtype in (torch.float64, torch.float32)
    ]
    drawing.store("swin", shapes, *results)
    networks = {}
    with torch.device("meta"):
        for size, name in NETWORKS.items():
            whole = timm.create_model(name, num_classes=0).state_dict()
            lines = [
                f"{key} {'x'.join(map(str, whole[key].shape))}" for key in sorted(whole)
            ]
            networks[size] = np.array("\n".join(lines))
    np.savez_compressed(drawing.FOLDER / "swin_networks.npz", **networks)


if __name__ == "__main__":
    main()
