# pyright: reportMissingImports=false
"""`frozen`: the body of torchvision's published detectors, whose BatchNorm adds 0.

A ResNet-18 with `FrozenBatchNorm2d(eps=0)` for torchvision's ResNet-50. Variances are
about 1e-4, so that 1e-5 added to them shows. `pooled`: features of two images.
"""

from typing import Any

import drawing
import numpy as np

BATCH, SIZE = 2, 64  # images, pixels


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by the names of a ResNet."""
    drawn = drawing.draw(shapes)
    for name, array in drawn.items():
        if name.endswith("running_var"):
            drawn[name] = array * np.float32(1e-4)
        elif name.endswith("weight") and array.ndim == 1:
            drawn[name] = array * np.float32(1e-2)
    return drawn


def main() -> None:
    """Writes the file."""
    import torch
    import torchvision

    def norm(channels: int) -> Any:
        return torchvision.ops.FrozenBatchNorm2d(channels, eps=0.0)

    shapes, results = {}, []
    for dtype in (torch.float64, torch.float32):
        network = torchvision.models.resnet18(weights=None, norm_layer=norm).to(dtype)
        network.fc = torch.nn.Identity()
        shapes = {key: tuple(x.shape) for key, x in network.state_dict().items()}
        network.load_state_dict(
            {key: torch.tensor(x, dtype=dtype) for key, x in draw(shapes).items()}
        )
        grey = drawing.images(BATCH, SIZE).transpose(0, 3, 1, 2).repeat(3, axis=1)
        pooled = network.eval()(torch.tensor(grey, dtype=dtype))
        results.append({"pooled": pooled.detach().numpy()})
    drawing.store("frozen", shapes, *results)


if __name__ == "__main__":
    main()
