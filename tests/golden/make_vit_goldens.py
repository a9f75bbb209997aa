# pyright: reportMissingImports=false
"""Vision transformers of timm and transformers: features and gradients of two blocks.

One file for each of `CASES`, a narrow network of one family in one library:
`own/...`: normalised patches (a map) and pooled features of images of the size that the
network was made for; `other/...`: the same of images of another size, one side shorter
and one longer, for which positions are resampled. `train/gradients`: of half the mean
squared distance of map and pooled features to drawn ones, at the other size.

`positions`: learned positions of a square grid resampled by PyTorch to several grids.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import drawing
import numpy as np

WIDTH, DEPTH, HEADS, BATCH = 24, 2, 2, 2
GRID, OTHER_GRID = 4, (3, 5)  # patches
RESAMPLED = ((4, 4), (3, 5), (7, 2), (16, 9))
# Without rotation a key's bias changes no softmax: its gradient is rounding alone.
UNUSED = ("attention.k_proj.bias",)


@dataclasses.dataclass(frozen=True)
class Case:
    """A reference network.

    Attributes:
      family: Of `mtpret_jax.models.vit_families.FAMILIES`.
      layout: Of `mtpret_jax.weights.vit_names.LAYOUTS`.
      patch: Pixels.
      make: The network.
      norm_after_pool: Whether it is the mean that the reference normalises.
    """

    family: str
    layout: str
    patch: int
    make: Callable[[], Any]
    norm_after_pool: bool = False


def _timm(**options: Any) -> Any:
    from timm.models import vision_transformer

    return vision_transformer.VisionTransformer(
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
        **options,
    )


def _eva(**options: Any) -> Any:
    from timm.models import eva

    return eva.Eva(
        img_size=16 * GRID,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
        use_rot_pos_emb=True,
        **options,
    )


def _eva_x(**options: Any) -> Any:
    return _eva(
        mlp_ratio=4 * 2 / 3, swiglu_mlp=True, ref_feat_shape=(GRID, GRID), **options
    )


def _timm_dinov3(**options: Any) -> Any:
    import functools

    import timm.layers

    return _eva(
        qkv_bias=True,
        init_values=1e-5,
        rope_type="dinov3",
        rope_temperature=100,
        rope_rotate_half=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        use_fc_norm=False,
        global_pool="token",
        norm_layer=functools.partial(timm.layers.LayerNorm, eps=1e-5),
        **options,
    )


def _transformers(name: str, **options: Any) -> Any:
    import transformers

    config = getattr(transformers, name + "Config")(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        attn_implementation="eager",
        **options,
    )
    return getattr(transformers, name + "Model")(config)


_DINOV2 = {"patch_size": 14, "image_size": 14 * GRID}
_TIMM_DINOV2 = {"patch_size": 14, "img_size": 14 * GRID, "init_values": 1e-5}
CASES = {
    "vit_deit": Case("deit", "timm", 16, lambda: _timm(img_size=16 * GRID)),
    "vit_mae_finetuned": Case(
        "mae_finetuned",
        "timm_pooled",
        16,
        lambda: _timm(img_size=16 * GRID, global_pool="avg"),
        norm_after_pool=True,
    ),
    "vit_dinov2": Case(
        "dinov2", "dinov2_hf5", 14, lambda: _transformers("Dinov2", **_DINOV2)
    ),
    "vit_dinov2_registers": Case(
        "dinov2_registers",
        "dinov2_hf5",
        14,
        lambda: _transformers("Dinov2WithRegisters", num_register_tokens=4, **_DINOV2),
    ),
    "vit_dinov2_timm": Case("dinov2", "timm", 14, lambda: _timm(**_TIMM_DINOV2)),
    "vit_dinov2_registers_timm": Case(
        "dinov2_registers",
        "timm",
        14,
        lambda: _timm(reg_tokens=4, no_embed_class=True, **_TIMM_DINOV2),
    ),
    "vit_eva_x": Case("eva_x", "eva_timm", 16, _eva_x, norm_after_pool=True),
    "vit_eva_x_normed": Case(
        "eva_x_normed",
        "eva_timm_apart",
        16,
        lambda: _eva_x(qkv_fused=False, scale_mlp=True),
        norm_after_pool=True,
    ),
    "vit_dinov3": Case(
        "dinov3",
        "dinov3_hf5",
        16,
        lambda: _transformers(
            "DINOv3ViT", num_register_tokens=4, intermediate_size=4 * WIDTH
        ),
    ),
    "vit_dinov3_gated": Case(
        "dinov3_gated",
        "dinov3_timm",
        16,
        lambda: _timm_dinov3(swiglu_mlp=True, swiglu_align_to=8),
    ),
}


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by the reference's names; none near 0 or 1 but by chance.

    Tokens and positions are as large as patches, and layer scales 1/2, so that a wrong
    one shows.
    """
    drawn = drawing.draw(shapes)
    for name, shape in shapes.items():
        if name.endswith(("_token", "_tokens", "pos_embed", "position_embeddings")):
            drawn[name] = drawing.uniform(name, shape)
        elif name.endswith(("gamma", "lambda1", "gamma_1", "gamma_2")):
            drawn[name] = 0.5 + drawing.uniform(name, shape) / 4
    return drawn


def images(patch: int, grid: tuple[int, int]) -> np.ndarray:
    """Grey images of noise of so many patches, float32 [B, H, W, 1]."""
    rows, columns = grid
    return 2 * drawing.uniform("images", (BATCH, rows * patch, columns * patch, 1))


def digest(gradients: dict[str, np.ndarray]) -> np.ndarray:
    """See `drawing.digest`; of those that are more than rounding."""
    return drawing.digest(
        {name: x for name, x in gradients.items() if not name.endswith(UNUSED)}
    )


def _outputs(case: Case, network: Any, image: Any) -> tuple[Any, Any]:
    """Normalised patches [B, h, w, D] and pooled features [B, D]."""
    rows, columns = image.shape[2] // case.patch, image.shape[3] // case.patch
    if hasattr(network, "forward_features"):
        tokens = network.forward_features(image)
    else:
        tokens = network(image).last_hidden_state
    cells = tokens[:, -rows * columns :]
    if case.norm_after_pool:
        pooled, cells = network.fc_norm(cells.mean(1)), network.fc_norm(cells)
    else:
        pooled = tokens[:, 0]
    return cells.reshape(len(cells), rows, columns, -1), pooled


def _results(case: Case, network: Any, dtype: Any) -> dict[str, np.ndarray]:
    import torch

    arrays = {}
    for size, grid in (("own", (GRID, GRID)), ("other", OTHER_GRID)):
        channels = images(case.patch, grid).transpose(0, 3, 1, 2).repeat(3, axis=1)
        cells, pooled = _outputs(case, network, torch.tensor(channels, dtype=dtype))
        arrays[f"{size}/cells"] = cells.detach().numpy()
        arrays[f"{size}/pooled"] = pooled.detach().numpy()
        if size == "other":
            loss = 0
            for name, found in (("cells", cells), ("pooled", pooled)):
                target = drawing.uniform(name, tuple(found.shape))
                difference = found - found.new_tensor(target)
                loss = loss + difference.square().mean() / 2
            network.zero_grad()
            loss.backward()
            gradients = {
                name: x.grad.numpy().copy()
                for name, x in network.named_parameters()
                if x.grad is not None
            }
            arrays["train/gradients"] = digest(gradients)
    return arrays


def _make_case(name: str, case: Case) -> None:
    import torch

    shapes, results = {}, []
    for dtype in (torch.float64, torch.float32):
        network = case.make().eval().to(dtype)
        shapes = {
            key: tuple(tensor.shape) for key, tensor in network.state_dict().items()
        }
        drawn = draw(shapes)
        network.load_state_dict(
            {key: torch.tensor(x, dtype=dtype) for key, x in drawn.items()}
        )
        results.append(_results(case, network, dtype))
    drawing.store(name, shapes, *results)


def _make_positions() -> None:
    import torch

    side, width = 6, 3
    results = []
    for dtype in (torch.float64, torch.float32):
        table = torch.tensor(drawing.uniform("positions", (side * side, width)))
        square = table.to(dtype).reshape(1, side, side, width).permute(0, 3, 1, 2)
        arrays = {}
        for antialias in (False, True):
            for rows, columns in RESAMPLED:
                found = torch.nn.functional.interpolate(
                    square, (rows, columns), mode="bicubic", antialias=antialias
                )
                key = f"{'antialias' if antialias else 'plain'}/{rows}x{columns}"
                arrays[key] = found.permute(0, 2, 3, 1).reshape(-1, width).numpy()
        results.append(arrays)
    drawing.store("positions", {"positions": (side * side, width)}, *results)


def main() -> None:
    """Writes every file."""
    for name, case in CASES.items():
        _make_case(name, case)
    _make_positions()


if __name__ == "__main__":
    main()
