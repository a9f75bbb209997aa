"""Names and axes of DenseNet weights in other libraries and here, both ways.

`torchvision` is also timm's and torchxrayvision's layout, whose networks have the same
names; `torchvision_old` is that of files from before 2018, torchvision's own published
ones and CheXNet's among them: `norm.1` for `norm1`. A file of torchxrayvision must hold
the state alone: `torch.save(model.state_dict(), path)`. Its stem takes one channel.

What the weights expect of the pixels is not converted: see `arrays`. torchxrayvision's
were trained on pixels from -1024 to 1024.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtpret_jax.weights import naming

_BLOCK = "features.denseblock{s}.denselayer{n}"


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


FAMILY = naming.Family(
    name="DenseNet",
    layouts=LAYOUTS,
    sizes={
        "121": ((6, 12, 24, 16), 64),
        "161": ((6, 12, 36, 24), 96),
        "169": ((6, 12, 32, 32), 64),
        "201": ((6, 12, 48, 32), 64),
    },
    stem="conv0",
    block="denseblock{s}_denselayer{n}.conv1",
    first=1,
)
