# pyright: reportMissingImports=false
"""`vit_networks`: names and shapes of whole vision transformers, as they are saved.

Of published sizes, by `layout/family/size`; no numbers.
"""

import json
import pathlib
import struct
import tempfile
from typing import Any

import drawing
import numpy as np


def _saved(model: Any) -> dict[str, list[int]]:
    """Names and shapes as `save_pretrained` writes them, which differ from memory's."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        data = (pathlib.Path(folder) / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return {key: row["shape"] for key, row in header.items() if key != "__metadata__"}


def eva_x(width: int, depth: int, heads: int, *, normed: bool) -> Any:
    """EVA-X as timm has it; its base size is normed within each MLP."""
    from timm.models import eva

    return eva.Eva(
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        num_classes=0,
        mlp_ratio=4 * 2 / 3,
        swiglu_mlp=True,
        scale_mlp=normed,
        qkv_fused=not normed,
        use_rot_pos_emb=True,
        ref_feat_shape=(14, 14),
    )


def _published() -> dict[str, dict[str, Any]]:
    """Whole networks: layout/family/size to names and shapes."""
    import timm
    import torch
    import transformers

    sizes = {"small": (384, 12, 6), "base": (768, 12, 12)}
    networks = {
        "timm/deit/tiny": "deit_tiny_patch16_224",
        "timm/deit/small": "deit_small_patch16_224",
        "timm/deit/base": "deit_base_patch16_224",
        "timm/mae/large": "vit_large_patch16_224.mae",
        "timm/dinov2/small": "vit_small_patch14_dinov2",
        "timm/dinov2/large": "vit_large_patch14_dinov2",
        "timm/dinov2_registers/base": "vit_base_patch14_reg4_dinov2",
        "dinov3_timm/dinov3/small": "vit_small_patch16_dinov3_qkvb",
        "dinov3_timm/dinov3/base": "vit_base_patch16_dinov3_qkvb",
        "dinov3_timm/dinov3/large": "vit_large_patch16_dinov3_qkvb",
        "dinov3_timm/dinov3_gated/small": "vit_small_plus_patch16_dinov3_qkvb",
    }
    found: dict[str, dict[str, Any]] = {}
    with torch.device("meta"):
        for key, name in networks.items():
            found[key] = timm.create_model(name, num_classes=0).state_dict()
        for size, (width, depth, heads) in {"tiny": (192, 12, 3), **sizes}.items():
            base = size == "base"
            key = "eva_timm_apart/eva_x_normed" if base else "eva_timm/eva_x"
            made = eva_x(width, depth, heads, normed=base)
            found[f"{key}/{size}"] = made.state_dict()
    shapes = {
        key: {name: list(tensor.shape) for name, tensor in state.items()}
        for key, state in found.items()
    }
    for size, (width, depth, heads) in sizes.items():
        options = {
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
        }
        dinov2 = {"patch_size": 14, "image_size": 518, **options}
        makers = {
            "dinov2_hf/dinov2": ("Dinov2", dinov2),
            "dinov2_hf/dinov2_registers": ("Dinov2WithRegisters", dinov2),
            "dinov3_hf/dinov3": (
                "DINOv3ViT",
                {"num_register_tokens": 4, "intermediate_size": 4 * width, **options},
            ),
        }
        for key, (name, settings) in makers.items():
            config = getattr(transformers, name + "Config")(**settings)
            model = getattr(transformers, name + "Model")(config)
            shapes[f"{key}/{size}"] = _saved(model)
    return shapes


def main() -> None:
    """Writes the file."""
    networks = {}
    for key, shapes in _published().items():
        lines = [
            f"{name} {'x'.join(map(str, shapes[name]))}" for name in sorted(shapes)
        ]
        networks[key] = np.array("\n".join(lines))
    np.savez_compressed(drawing.FOLDER / "vit_networks.npz", **networks)


if __name__ == "__main__":
    main()
