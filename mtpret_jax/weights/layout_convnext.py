"""Names and axes of ConvNeXt weights in other libraries and here, both ways.

| layout            | whose                                                        |
|-------------------|--------------------------------------------------------------|
| `torchvision`     | torchvision's `convnext_*`                                   |
| `timm`            | timm's; its small ones have 1x1 convolutions for dense layers|
| `dinov3`          | DINOv3's files: as `facebook`, with the last norm twice      |
| `facebook`        | the authors' files of ImageNet weights                       |
| `hf_dinov3_state` | transformers' `DINOv3ConvNextModel` from version 5, in memory|
| `hf_dinov3`       | its files, of all versions                                   |
| `hf`              | transformers' `ConvNextModel`                                |

They compute the same, but for the last norm of `hf`: its epsilon is 1e-12 there unless
its config says otherwise, 1e-6 elsewhere. What the weights expect of the pixels is not
converted: see `arrays`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mtpret_jax.weights import naming

WIDEST_CONV_MLP = 80  # channels of timm's stems that go with `conv_mlp`: up to nano's
_OURS = (
    "stem_0",
    "stem_1",
    "downsample_{s}_0",
    "downsample_{s}_1",
    "stages_{s}_{n}.conv_dw",
    "stages_{s}_{n}.norm",
    "stages_{s}_{n}.fc1",
    "stages_{s}_{n}.fc2",
    "stages_{s}_{n}.layer_scale",
    "norm",
)
_FACEBOOK = (
    "downsample_layers.0.0",
    "downsample_layers.0.1",
    "downsample_layers.{s}.0",
    "downsample_layers.{s}.1",
    "stages.{s}.{n}.dwconv",
    "stages.{s}.{n}.norm",
    "stages.{s}.{n}.pwconv1",
    "stages.{s}.{n}.pwconv2",
    "stages.{s}.{n}.gamma",
    "norm",
)


def _names(*theirs: str) -> Mapping[str, str]:
    return dict(zip(_OURS, theirs, strict=True))


def _hf_dinov3(prefix: str) -> Mapping[str, str]:
    return _names(
        f"{prefix}stages.0.downsample_layers.0",
        f"{prefix}stages.0.downsample_layers.1",
        f"{prefix}stages.{{s}}.downsample_layers.0",
        f"{prefix}stages.{{s}}.downsample_layers.1",
        f"{prefix}stages.{{s}}.layers.{{n}}.depthwise_conv",
        f"{prefix}stages.{{s}}.layers.{{n}}.layer_norm",
        f"{prefix}stages.{{s}}.layers.{{n}}.pointwise_conv1",
        f"{prefix}stages.{{s}}.layers.{{n}}.pointwise_conv2",
        f"{prefix}stages.{{s}}.layers.{{n}}.gamma",
        "layer_norm",
    )


LAYOUTS: Mapping[str, naming.Naming] = {
    "torchvision": naming.Naming(
        _names(
            # One list holds the stem, the stages and what lies between them.
            "features.0.0",
            "features.0.1",
            "features.{even}.0",
            "features.{even}.1",
            "features.{odd}.{n}.block.0",
            "features.{odd}.{n}.block.2",
            "features.{odd}.{n}.block.3",
            "features.{odd}.{n}.block.5",
            "features.{odd}.{n}.layer_scale",
            "classifier.0",
        ),
        left_out=(r"classifier\.2\.",),
        squares={"stages_{s}_{n}.layer_scale": math.inf},
    ),
    "timm": naming.Naming(
        _names(
            "stem.0",
            "stem.1",
            "stages.{s}.downsample.0",
            "stages.{s}.downsample.1",
            "stages.{s}.blocks.{n}.conv_dw",
            "stages.{s}.blocks.{n}.norm",
            "stages.{s}.blocks.{n}.mlp.fc1",
            "stages.{s}.blocks.{n}.mlp.fc2",
            "stages.{s}.blocks.{n}.gamma",
            "head.norm",
        ),
        left_out=(r"head\.(fc|pre_logits)\.",),
        squares={
            f"stages_{{s}}_{{n}}.{layer}.kernel": WIDEST_CONV_MLP
            for layer in ("fc1", "fc2")
        },
    ),
    "dinov3": naming.Naming(
        _names(*_FACEBOOK),
        copies={f"norms.3.{part}": f"norm.{part}" for part in ("weight", "bias")},
    ),
    "facebook": naming.Naming(_names(*_FACEBOOK), left_out=(r"head\.",)),
    "hf_dinov3_state": naming.Naming(_hf_dinov3("model.")),
    "hf_dinov3": naming.Naming(_hf_dinov3("")),
    "hf": naming.Naming(
        _names(
            "embeddings.patch_embeddings",
            "embeddings.layernorm",
            "encoder.stages.{s}.downsampling_layer.0",
            "encoder.stages.{s}.downsampling_layer.1",
            "encoder.stages.{s}.layers.{n}.dwconv",
            "encoder.stages.{s}.layers.{n}.layernorm",
            "encoder.stages.{s}.layers.{n}.pwconv1",
            "encoder.stages.{s}.layers.{n}.pwconv2",
            "encoder.stages.{s}.layers.{n}.layer_scale_parameter",
            "layernorm",
        ),
    ),
}


FAMILY = naming.Family(
    name="ConvNeXt",
    layouts=LAYOUTS,
    sizes={
        "atto": ((2, 2, 6, 2), 40),
        "femto": ((2, 2, 6, 2), 48),
        "pico": ((2, 2, 6, 2), 64),
        "nano": ((2, 2, 8, 2), 80),
        "tiny": ((3, 3, 9, 3), 96),
        "small": ((3, 3, 27, 3), 96),
        "base": ((3, 3, 27, 3), 128),
        "large": ((3, 3, 27, 3), 192),
    },
    stem="stem_0",
    block="stages_{s}_{n}.conv_dw",
    first=0,
    numbers=lambda stage: {"odd": 2 * stage + 1, "even": 2 * stage},
    foreign={r"\.grn\.": "ConvNeXt V2 (global response normalisation)"},
)
