"""A library's own network for a file of weights, where the library is installed.

PyTorch and the libraries are no dependencies of ours: they are asked for by name.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import (
    arrays,
    files,
    layout_convnext,
    layout_swin,
    layout_vit,
)

Tensors = Mapping[str, np.ndarray]
_MASK_TOKEN = re.compile(r"(embeddings\.)?mask_token")
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+\.)")  # of FSDP, as `layout_vit` reads them
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A library's network with a file's weights.

    Attributes:
      library: Name and version.
      pooled: Images, float32 [B, H, W, 1], to what stands for each, float32 [B, D].
    """

    library: str
    pooled: Callable[[np.ndarray], np.ndarray]


def load(
    tensors: Tensors, options: Mapping[str, Any], read: arrays.Converted, where: str
) -> Reference:
    """Builds the reference and loads the file into it, every tensor that it has.

    Args:
      tensors: By the names of the file.
      options: What `config.backbone` needs; see `identity.Identity`.
      read: What our own reader made of the file.
      where: Begins a message: the file.

    Raises:
      ValueError: If the library is not installed or has no such network, or names or
        shapes do not fit its own.
    """
    library, name, make = _choose(tensors, options, where)
    module, torch = _library(library, where), _library("torch", where)
    kept = {
        name.removeprefix(read.prefix): _tensor(torch, array)
        for name, array in tensors.items()
        if name not in read.left_out or _MASK_TOKEN.fullmatch(name)
    }
    try:
        with torch.random.fork_rng(devices=[]):
            network, lacks = make(module, torch, name, kept)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{where}: {library} {module.__version__} does not take it: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    if lacks:
        raise ValueError(
            f"{where}: the file and {library} {module.__version__} differ in names: "
            f"{lacks[:5]} ({len(lacks)} in all)."
        )
    network.eval()

    def pooled(image: np.ndarray) -> np.ndarray:
        channels = options["in_channels"]
        given = torch.from_numpy(image.transpose(0, 3, 1, 2).repeat(channels, 1))
        with torch.inference_mode():
            found = network(given)
        found = getattr(found, "pooler_output", found)
        return found.flatten(1).float().numpy()

    return Reference(f"{library} {module.__version__}", pooled)


def _choose(
    tensors: Tensors, options: Mapping[str, Any], where: str
) -> tuple[str, str, Callable[..., Any]]:
    """The library, the name of the network in it, and what makes that."""
    name, channels = options["name"], options["in_channels"]
    kind, _, size = name.partition("_")
    if kind.startswith("resnet"):
        if options["width"] != 64:
            raise ValueError(
                f"{where}: torchvision has no ResNet of width {options['width']}."
            )
        return "torchvision", name, functools.partial(_torchvision, channels)
    if kind.startswith("densenet"):
        return "torchvision", name, functools.partial(_torchvision, channels)
    if kind == "convnext":
        layout = layout_convnext.FAMILY.identify(tensors, where).layout
        if layout == "torchvision":
            return "torchvision", name, functools.partial(_torchvision, channels)
        if layout.startswith("hf"):
            title = "ConvNext" if layout == "hf" else "DINOv3ConvNext"
            depths, widths = _stages(tensors, where)
            settings = {"depths": depths, "hidden_sizes": widths}
            settings["num_channels"] = channels
            return "transformers", title, functools.partial(_transformers, settings)
        return "timm", name, functools.partial(_timm, {"in_chans": channels})
    if kind == "swin":
        window = layout_swin.identify(tensors, where).window
        settings = {"in_chans": channels, "window_size": window}
        settings["img_size"] = 32 * window
        name = f"swin_{size}_patch4_window7_224"
        return "timm", name, functools.partial(_timm, settings)
    return _choose_vit(tensors, options, where)


def _stages(tensors: Tensors, where: str) -> tuple[list[int], list[int]]:
    found = layout_convnext.FAMILY.identify(tensors, where)
    return list(found.depths), [found.width << level for level in range(4)]


# Arguments of timm's classes, by family.
_EVA_X = {"mlp_ratio": 8 / 3, "swiglu_mlp": True, "use_rot_pos_emb": True}
_DINOV3 = {
    "init_values": 1e-5,
    "use_rot_pos_emb": True,
    "rope_type": "dinov3",
    "rope_temperature": 100,
    "rope_rotate_half": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
    "global_pool": "token",
}
_DINOV2 = {"init_values": 1e-5}
_TIMM_VITS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "deit": ("VisionTransformer", {}),
    "mae": ("VisionTransformer", {"global_pool": "avg", "fc_norm": False}),
    "mae_finetuned": ("VisionTransformer", {"global_pool": "avg"}),
    "dinov2": ("VisionTransformer", _DINOV2),
    "dinov2_registers": (
        "VisionTransformer",
        _DINOV2 | {"reg_tokens": 4, "no_embed_class": True},
    ),
    "eva_x": ("Eva", _EVA_X),
    "eva_x_normed": ("Eva", _EVA_X | {"qkv_fused": False, "scale_mlp": True}),
    "dinov3": ("Eva", _DINOV3),
    "dinov3_gated": ("Eva", _DINOV3 | {"swiglu_mlp": True, "swiglu_align_to": 8}),
}


def _choose_vit(
    tensors: Tensors, options: Mapping[str, Any], where: str
) -> tuple[str, str, Callable[..., Any]]:
    read = layout_vit.read(tensors, where)
    kernel = read.arrays[layout_vit.PATCHES].shape
    width, channels, patch = kernel[0], kernel[1], kernel[-1]
    depth = len({n.split(".")[1] for n in read.arrays if n.startswith("blocks.")})
    side, family = 224, options["family"]
    if "positions" in read.arrays:
        side = patch * round((len(read.arrays["positions"]) - 1) ** 0.5)
    if "hf" in read.layouts[0]:
        settings = {
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": width // 64,
            "num_channels": channels,
            "patch_size": patch,
            "image_size": side,
        }
        if family.startswith("dinov3"):
            settings["num_register_tokens"] = 4
            hidden = read.arrays["blocks.0.mlp.fc2.weight"].shape[1]
            settings["intermediate_size"] = hidden
            if family == "dinov3_gated":
                settings |= {"use_gated_mlp": True, "hidden_act": "silu"}
            title = "DINOv3ViT"
        else:
            title = "Dinov2WithRegisters" if family.endswith("registers") else "Dinov2"
        return "transformers", title, functools.partial(_transformers, settings)
    name, settings = _TIMM_VITS[family]
    settings = dict(settings) | {
        "img_size": side,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // 64,
        "num_classes": 0,
    }
    if family.startswith("eva"):
        settings["ref_feat_shape"] = (side // patch, side // patch)
        if any(".mlp.w1." in key for key in tensors):  # Gate and values apart.
            settings["swiglu_align_to"] = 8
    if family.startswith("dinov3"):
        settings["qkv_bias"] = any("bias" in n for n in tensors if ".attn.q" in n)
    return "timm", name, functools.partial(_timm_vit, settings)


def _torchvision(
    channels: int, module: Any, torch: Any, name: str, kept: dict[str, Any]
) -> tuple[Any, list[str]]:
    if hasattr(module.models, name):
        network = getattr(module.models, name)()
    else:  # the ResNet of ten layers, which torchvision makes but does not name
        network = module.models.ResNet(module.models.resnet.BasicBlock, [1, 1, 1, 1])
    if name.startswith("resnet"):
        stem, network.fc = ("conv1",), torch.nn.Identity()
        first = network.conv1
    elif name.startswith("densenet"):
        stem, network.classifier = ("features", "conv0"), torch.nn.Identity()
        first = network.features.conv0
        kept = {_OLD_DENSENET.sub(r"\1", key): x for key, x in kept.items()}
    else:
        stem, network.classifier[2] = ("features", "0", "0"), torch.nn.Identity()
        first = network.features[0][0]
    if channels != first.in_channels:
        made = torch.nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,
            first.stride,
            first.padding,
            bias=first.bias is not None,
        )
        setattr(network.get_submodule(".".join(stem[:-1])), stem[-1], made)
    return network, _load(network, kept)


def _timm(
    settings: dict[str, Any], module: Any, _: Any, name: str, kept: dict[str, Any]
) -> tuple[Any, list[str]]:
    network = module.create_model(name, num_classes=0, **settings)
    code = importlib.import_module(type(network).__module__)
    return network, _load(network, code.checkpoint_filter_fn(kept, network))


def _timm_vit(
    settings: dict[str, Any], module: Any, torch: Any, name: str, kept: dict[str, Any]
) -> tuple[Any, list[str]]:
    if "rope_type" in settings:
        norm = functools.partial(module.layers.LayerNorm, eps=1e-5)
        settings = settings | {"norm_layer": norm}
    where = {"Eva": "eva", "VisionTransformer": "vision_transformer"}[name]
    code = importlib.import_module(f"timm.models.{where}")
    network = getattr(code, name)(**settings)
    if "register_tokens" in kept or "ref_feat_shape" in settings:
        kept.setdefault("mask_token", kept["cls_token"])  # By it timm knows authors'.
    kept = {_CHUNK.sub(r"blocks.\1", key): x for key, x in kept.items()}
    return network, _load(network, code.checkpoint_filter_fn(kept, network))


def _transformers(
    settings: dict[str, Any], module: Any, _: Any, title: str, kept: dict[str, Any]
) -> tuple[Any, list[str]]:
    """By `from_pretrained`, which knows the names that it had in other versions."""
    module.utils.logging.disable_progress_bar()
    config = getattr(module, title + "Config")(**settings)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        saved = {key: x.numpy() for key, x in kept.items()}
        path = os.path.join(folder, "model.safetensors")
        files.write(path, saved, {"format": "pt"})
        network, told = getattr(module, title + "Model").from_pretrained(
            folder, output_loading_info=True
        )
    lacks = [*told["missing_keys"], *told["unexpected_keys"], *told["mismatched_keys"]]
    return network, [str(key) for key in lacks if not _is_left_out(str(key))]


def _load(network: Any, kept: dict[str, Any]) -> list[str]:
    """Loads tensors; gives the names that one side alone has, if they compute."""
    told = network.load_state_dict(kept, strict=False)
    lacks = [*told.missing_keys, *told.unexpected_keys]
    return sorted(key for key in lacks if not _is_left_out(key))


def _is_left_out(key: str) -> bool:
    return bool(_MASK_TOKEN.fullmatch(key)) or key.endswith(arrays.COUNTER)


def _tensor(torch: Any, array: np.ndarray) -> Any:
    is_number = array.dtype.kind in "fV"  # bfloat16 is of kind V
    return torch.from_numpy(array.astype(np.float32) if is_number else array.copy())


def _library(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{where}: the reference is {name}'s, which can't be imported here "
            f"({error}): pip install {name}. `weights identify` needs none."
        ) from error
