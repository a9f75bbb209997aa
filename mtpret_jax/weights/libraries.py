"""Which network of another library is a backbone of ours, and how it is built there.

| library      | families                                                           |
|--------------|--------------------------------------------------------------------|
| torchvision  | ResNet: see `layouts`; ConvNeXt, DenseNet                          |
| timm         | ConvNeXt, DenseNet, Swin, ViT                                      |
| transformers | ViT of the families DINOv2 and DINOv3; without a head              |

`docs/load_exported.py` builds what the arguments here say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.models import positions, vit_families
from mtpret_jax.weights import layout_convnext

LIBRARIES = ("timm", "torchvision", "transformers")
Tree = Any
Arguments = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone in another library.

    Attributes:
      library: Its name.
      layout: A row of the layouts of `bodies.write`.
      arguments: What builds it, as JSON has it.
      head: What the names of a dense layer on its pooled features begin with; "" if
        the network has none.
    """

    library: str
    layout: str
    arguments: Arguments
    head: str = ""

    def facts(self, classes: int) -> Arguments:
        """What `config.json` says of how it is built, for a head of so many classes."""
        if self.library == "transformers":  # Whose own config.json has them so.
            return {"library": self.library} | self.arguments
        return {
            "library": self.library,
            self.library: self.arguments | {"num_classes": classes},
        }


def find(
    options: schema.BackboneConfig, side: int, library: str = ""
) -> Network | None:
    """The network of a library that is a backbone of ours.

    Args:
      options: Those of the backbone.
      side: Side of the square images, pixels.
      library: One of `LIBRARIES`; "" for the first that has it.

    Returns:
      None for a ResNet: it is torchvision's, with any head; see `layouts`.

    Raises:
      ValueError: If the library has no such network.
    """
    found = [row for name, row in _MAKERS.items() if options.name.startswith(name)]
    if not found:
        raise ValueError(f"export: no other library has the backbone '{options.name}'.")
    makers = found[0]
    library = library or next(iter(makers))
    if library not in makers:
        raise ValueError(
            f"--layout: '{options.name}' is not written as {library} has it; expected "
            f"one of {list(makers)}."
        )
    make = makers[library]
    return make and make(options, models.build_backbone(options), side)


def for_side(
    options: schema.BackboneConfig, tree: Tree, side: int
) -> tuple[schema.BackboneConfig, Tree]:
    """The same backbone for images of one size: learned positions are resampled.

    Libraries resample them by rules of their own, so that a network of theirs takes
    those of its size.

    Args:
      options: Those of the backbone.
      tree: `{"params": ..., "model_state": ...}`.
      side: Side of the square images, pixels.
    """
    if "class_token" not in tree["params"]:
        return options, tree
    options = dataclasses.replace(options, family=_family(options))
    if "positions" not in tree["params"]:
        return options, tree
    family, table = vit_families.FAMILIES[options.family], tree["params"]["positions"]
    count = side // family.patch
    cells = positions.resample(table[1:], (count, count), antialias=family.antialias)
    table = np.concatenate([np.asarray(table[:1]), np.asarray(cells)])
    params = tree["params"] | {"positions": table}
    return dataclasses.replace(options, positions=side), tree | {"params": params}


def _family(options: schema.BackboneConfig) -> str:
    return options.family or vit_families.DEFAULT


def _timm_convnext(options: schema.BackboneConfig, body: Any, side: int) -> Network:
    return Network(
        "timm",
        "timm",
        {
            "model_name": options.name,
            "depths": list(body.depths),
            "dims": list(body.channels[1:]),
            "conv_mlp": body.width <= layout_convnext.WIDEST_CONV_MLP,
        },
        "head.fc",
    )


def _torchvision_convnext(
    options: schema.BackboneConfig, body: Any, side: int
) -> Network:
    built = {"depths": list(body.depths), "channels": list(body.channels[1:])}
    return Network("torchvision", "torchvision", {"convnext": built}, "classifier.2")


def _timm_densenet(options: schema.BackboneConfig, body: Any, side: int) -> Network:
    built = {"model_name": options.name, "growth_rate": body.width // 2}
    return Network("timm", "torchvision", built, "classifier")


def _torchvision_densenet(
    options: schema.BackboneConfig, body: Any, side: int
) -> Network:
    built = {
        "growth_rate": body.width // 2,
        "block_config": list(body.depths),
        "num_init_features": body.width,
    }
    return Network("torchvision", "torchvision", {"densenet": built}, "classifier")


def _timm_swin(options: schema.BackboneConfig, body: Any, side: int) -> Network:
    least = body.size.window * 32  # The last level has one cell for 32 pixels.
    if side < least:
        raise ValueError(
            f"'{options.name}' of images of {side} pixels is not written: from fewer "
            f"than {least}, timm makes windows of another size, with other offsets. "
            f"Train on images of {least} pixels or more."
        )
    built = {
        "model_name": f"{options.name}_patch4_window7_224",
        "img_size": side,
        "window_size": body.size.window,
        "embed_dim": body.size.width,
        "depths": list(body.size.depths),
        "num_heads": list(body.size.heads),
    }
    return Network("timm", "timm", built, "head.fc")


_EVA_X = {"patch_size": 16, "ref_feat_shape": [14, 14]}
_TOKEN = {"global_pool": "token"}
# Layout and timm's model of each family, "{}" for its size, and what else it is told.
_TIMM_VITS: Mapping[str, tuple[str, str, Arguments]] = {
    "deit": ("timm", "vit_{}_patch16_224", {}),
    "mae": ("timm", "vit_{}_patch16_224", {"global_pool": "avg", "fc_norm": False}),
    "mae_finetuned": ("timm_pooled", "vit_{}_patch16_224", {"global_pool": "avg"}),
    "dinov2": ("timm", "vit_{}_patch14_dinov2", {}),
    "dinov2_registers": ("timm", "vit_{}_patch14_reg4_dinov2", {}),
    "eva_x": ("eva_timm", "eva02_small_patch14_224", _EVA_X),
    "eva_x_normed": ("eva_timm_apart", "eva02_base_patch14_224", _EVA_X),
    "dinov3": ("dinov3_timm", "vit_{}_patch16_dinov3_qkvb", _TOKEN),
    "dinov3_gated": ("dinov3_timm", "vit_small_plus_patch16_dinov3_qkvb", _TOKEN),
}
_REGISTERS = {"num_register_tokens": 4}
_HF_VITS: Mapping[str, tuple[str, str, Arguments]] = {
    "dinov2": ("dinov2_hf", "Dinov2", {}),
    "dinov2_registers": ("dinov2_hf", "Dinov2WithRegisters", _REGISTERS),
    "dinov3": ("dinov3_hf", "DINOv3ViT", _REGISTERS),
    "dinov3_gated": (
        "dinov3_hf_gated",
        "DINOv3ViT",
        _REGISTERS | {"use_gated_mlp": True, "hidden_act": "silu"},
    ),
}
HUGGING_FACE = tuple(_HF_VITS)  # families
_HF_TYPES = {
    "Dinov2": "dinov2",
    "Dinov2WithRegisters": "dinov2_with_registers",
    "DINOv3ViT": "dinov3_vit",
}


def _timm_vit(options: schema.BackboneConfig, body: Any, side: int) -> Network:
    layout, name, more = _TIMM_VITS[_family(options)]
    size = options.name.partition("_")[2]
    if size == "tiny" and not name.endswith("224"):
        size = "small"  # Nobody published a smaller one.
    built = {
        "model_name": name.format(size),
        "img_size": side,
        "embed_dim": body.size.width,
        "depth": body.size.depth,
        "num_heads": body.size.heads,
    }
    return Network("timm", layout, built | more, "head")


def _hf_vit(options: schema.BackboneConfig, body: Any, side: int) -> Network:
    family = _family(options)
    if family not in _HF_VITS:
        raise ValueError(
            f"--layout: of ViTs, transformers has the families {list(_HF_VITS)}; this "
            f"one is '{family}'. Leave --layout out: timm has it."
        )
    layout, name, more = _HF_VITS[family]
    built = {
        "architectures": [f"{name}Model"],
        "model_type": _HF_TYPES[name],
        "image_size": side,
        "patch_size": body.family.patch,
        "hidden_size": body.size.width,
        "intermediate_size": int(body.size.width * body.family.mlp_ratio),
        "num_hidden_layers": body.size.depth,
        "num_attention_heads": body.size.heads,
        "layer_norm_eps": body.family.epsilon,
    }
    return Network("transformers", layout, built | more)


_Maker = Callable[[schema.BackboneConfig, Any, int], Network]
# By what the rows of `models.BACKBONES` begin with.
_MAKERS: Mapping[str, Mapping[str, _Maker | None]] = {
    "resnet": {"torchvision": None},
    "convnext": {"timm": _timm_convnext, "torchvision": _torchvision_convnext},
    "densenet": {"timm": _timm_densenet, "torchvision": _torchvision_densenet},
    "swin": {"timm": _timm_swin},
    "vit": {"timm": _timm_vit, "transformers": _hf_vit},
}
