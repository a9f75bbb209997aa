# pyright: reportMissingImports=false
"""DenseNet of torchvision, two layers a block: features, one step of training.

`eval/...`: of each of `SIZES` the stem, the levels (some channels) and the pooled
features. `train/...`: pooled features, running statistics after them and gradients of
half the mean squared distance of the pooled features to drawn ones. `densenet_layouts`:
names and shapes of whole networks of full size.
"""

import re
from typing import Any

import drawing
import numpy as np
import phantoms

DEPTHS, WIDTH = (2, 2, 2, 2), 8
BATCH = 4
SIZES = (64, 90)  # pixels; of the second every level but one loses a row
FULL = ("densenet121", "densenet161", "densenet169", "densenet201")
_KEPT = ("norm0", "denseblock1", "denseblock2", "denseblock3", "norm5")


def target(width: int) -> np.ndarray:
    """What the pooled features of training are compared with."""
    return drawing.uniform("target", (BATCH, width))


def kept(level: np.ndarray) -> np.ndarray:
    """Some channels of a level; of a large one every second row and column."""
    step = 2 if level.shape[1] > SIZES[0] // 8 else 1
    return drawing.kept(level)[:, ::step, ::step]


def _levels(network: Any, image: Any) -> list[Any]:
    """The stem and C2 to C5; the first and the last after their ReLU."""
    import torch

    hidden, levels = image, []
    for name, module in network.features.named_children():
        hidden = module(hidden)
        if name in _KEPT:
            level = torch.relu(hidden) if name.startswith("norm") else hidden.clone()
            levels.append(level)  # A copy: some modules write where they read.
    return levels


def _results(dtype: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Shapes of the network, and what it computes."""
    import torch
    from torchvision.models import densenet

    def tensor(grey: np.ndarray) -> Any:
        channels = grey.transpose(0, 3, 1, 2).repeat(3, axis=1)
        return torch.tensor(channels, dtype=dtype)

    sizes = {"growth_rate": WIDTH // 2, "block_config": DEPTHS}
    network = densenet.DenseNet(num_init_features=WIDTH, **sizes).to(dtype)
    network.classifier = torch.nn.Identity()
    shapes = drawing.fill(network)
    arrays, network = {}, network.eval()
    for size in SIZES:
        image = tensor(phantoms.images(2, size))
        levels = [level.detach() for level in _levels(network, image)]
        for number, level in enumerate(levels):
            array = level.numpy().transpose(0, 2, 3, 1)
            arrays[f"eval/{size}/level{number}"] = kept(array)
        arrays[f"eval/{size}/pooled"] = network(image).detach().numpy()
    network.train()
    pooled = network(tensor(phantoms.images(BATCH, SIZES[0], "training")))
    loss = (pooled - pooled.new_tensor(target(pooled.shape[1]))).square().mean() / 2
    loss.backward()
    arrays["train/pooled"] = pooled.detach().numpy()
    arrays["train/gradients"] = drawing.digest(drawing.gradients(network))
    statistics = drawing.statistics(drawing.state(network))
    arrays["train/statistics"] = drawing.digest(statistics)
    return shapes, arrays


def _full_sizes() -> dict[str, np.ndarray]:
    """Names and shapes of whole networks: `<library>/<size>`."""
    import timm
    import torch
    import torchvision

    found: dict[str, Any] = {}
    for size in FULL:
        with torch.device("meta"):
            network = getattr(torchvision.models, size)()
            found[f"torchvision/{size}"] = network.state_dict()
            found[f"timm/{size}"] = timm.create_model(size).state_dict()
    # As torchvision.models.densenet._load_state_dict reads them.
    old = r"(denselayer\d+\.(?:norm|conv))([12]\.)"
    found["torchvision_old/densenet121"] = {
        re.sub(old, r"\1.\2", name): tensor
        for name, tensor in found["torchvision/densenet121"].items()
        if not name.endswith("num_batches_tracked")
    }
    return {
        key: np.array(
            [f"{name} {'x'.join(map(str, x.shape))}" for name, x in state.items()]
        )
        for key, state in found.items()
    }


def main() -> None:
    """Writes both files."""
    import torch

    shapes, exact = _results(torch.float64)
    _, single = _results(torch.float32)
    drawing.store("densenet", shapes, exact, single)
    np.savez_compressed(drawing.FOLDER / "densenet_layouts.npz", **_full_sizes())


if __name__ == "__main__":
    main()
