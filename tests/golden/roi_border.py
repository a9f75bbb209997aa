# pyright: reportMissingImports=false
"""The border of RoIAlign where torchvision has no compiled operators.

torchvision's compiled operator takes a sample as 0 where it lies more than a position
before the near border (y < -1), or beyond the far one (y > height); its version in
Python takes the border's value. Proposals are cut at the image, but a region counts as
one position wide at least, so a narrow one at the far border sticks out.
"""

import sys
from typing import Any

import torchvision.ops


def follow_compiled() -> None:
    """Gives torchvision's RoIAlign in Python the border of the compiled one.

    Changes nothing where the compiled operator exists. Checks itself on a level of
    ones, by hand, with whichever of the two runs.
    """
    module: Any = sys.modules["torchvision.ops.roi_align"]
    python = module._bilinear_interpolate

    def interpolate(level: Any, image: Any, y: Any, x: Any, *masks: Any) -> Any:
        height, width = level.shape[-2:]
        rows = ((y >= -1) & (y <= height))[:, None, :, None, :, None]
        columns = ((x >= -1) & (x <= width))[:, None, None, :, None, :]
        return python(level, image, y, x, *masks) * (rows & columns)

    module._bilinear_interpolate = interpolate
    _check()


def _check() -> None:
    """One bin a position wide, four samples 0.25 and 0.75 from its corner."""
    import torch

    inside = {-1.75: 0.5, -1.25: 1.0, -1.0: 1.0, 3.25: 1.0, 3.5: 0.5, 3.75: 0.5}
    for low, share in inside.items():
        for place in ((low, 0.0), (0.0, low)):
            box = torch.tensor([[0.0, *place, *place]])
            found = torchvision.ops.roi_align(
                torch.ones(1, 1, 4, 4), box, 1, sampling_ratio=2
            )
            if float(found) != share:
                raise ValueError(
                    f"RoIAlign of torchvision {torchvision.__version__} at {place}: "
                    f"expected {share} of a level of ones, got {float(found)}. Ours "
                    "follows another rule at the border; compare the two."
                )
