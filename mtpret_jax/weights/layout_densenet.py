"""Names and axes of DenseNet weights in other libraries and here, both ways.

`torchvision` is also timm's and torchxrayvision's layout, whose networks have the same
names; `torchvision_old` is that of files from before 2018, torchvision's own published
ones and CheXNet's among them: `norm.1` for `norm1`. A file of torchxrayvision must hold
the state alone: `torch.save(model.state_dict(), path)`. Its stem takes one channel.

What the weights expect of the pixels is not converted: see `resnet`. torchxrayvision's
were trained on pixels from -1024 to 1024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtpret_jax.weights import naming

_BLOCK = "features.denseblock{s}.denselayer{n}"
_BOTTLENECK = 4  # channels of a layer's first convolution, in its outputs


def _layout(point: str) -> naming.Naming:
    """The layout with `point` between a layer's module and its number."""
    names = {
        f"denseblock{{s}}_denselayer{{n}}.{module}{number}": (
            f"{_BLOCK}.{module}{point}{number}"
        )
        for module in ("norm", "conv")
        for number in (1, 2)
    }
    names |= {
        f"transition{{s}}.{module}": f"features.transition{{s}}.{module}"
        for module in ("norm", "conv")
    }
    names |= {module: f"features.{module}" for module in ("conv0", "norm0", "norm5")}
    # `op_threshs`: torchxrayvision's operating points.
    return naming.Naming(
        names, left_out=(r"classifier\.", "op_threshs$"), counters=True
    )


LAYOUTS: Mapping[str, naming.Naming] = {
    "torchvision": _layout(""),
    "torchvision_old": _layout("."),
}


def expected(depths: tuple[int, ...], width: int, in_channels: int) -> Any:
    """The tree of shapes of our network.

    Args:
      depths: Layers of each block.
      width: Channels of the stem, twice what a layer adds.
      in_channels: Channels of the images that the stem takes.

    Returns:
      `{"params": ..., "model_state": ...}`, nested dicts of `naming.Shape`.
    """
    growth = width // 2
    params: Any = {}
    state: Any = {}

    def norm(channels: int, *place: str) -> None:
        shape = naming.Shape((channels,))
        for tree, leaves in ((params, ("scale", "bias")), (state, ("mean", "var"))):
            branch = tree
            for part in place:
                branch = branch.setdefault(part, {})
            branch.update(dict.fromkeys(leaves, shape))

    def conv(*kernel: int) -> Any:
        return {"kernel": naming.Shape(kernel)}

    params["conv0"] = conv(7, 7, in_channels, width)
    norm(width, "norm0")
    channels = width
    for block, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            layer = f"denseblock{block}_denselayer{number}"
            norm(channels, layer, "norm1")
            params[layer]["conv1"] = conv(1, 1, channels, _BOTTLENECK * growth)
            norm(_BOTTLENECK * growth, layer, "norm2")
            params[layer]["conv2"] = conv(3, 3, _BOTTLENECK * growth, growth)
            channels += growth
        if block < len(depths):
            norm(channels, f"transition{block}", "norm")
            params[f"transition{block}"]["conv"] = conv(1, 1, channels, channels // 2)
            channels //= 2
    norm(channels, "norm5")
    return {"params": params, "model_state": state}


FAMILY = naming.Family(
    name="DenseNet",
    layouts=LAYOUTS,
    sizes={
        "121": ((6, 12, 24, 16), 64),
        "161": ((6, 12, 36, 24), 96),
        "169": ((6, 12, 32, 32), 64),
        "201": ((6, 12, 48, 32), 64),
    },
    expected=expected,
    stem="conv0",
    block="denseblock{s}_denselayer{n}.conv1",
    first=1,
)
