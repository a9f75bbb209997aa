# pyright: reportMissingImports=false
"""ResNet-18 and ResNet-50 of torchvision: features, gradients, BatchNorm statistics.

`eval/...`: levels (some channels) and pooled features of two images.
`train/...`: three steps of gradient descent, each on four images of its own, on half
the mean squared distance of the pooled features to drawn ones: pooled features,
gradients and running statistics of the first step, the loss of each, and all weights
and running statistics after the third.
"""

from typing import Any

import drawing
import numpy as np

NETWORKS = ("resnet18", "resnet50")
EVAL_BATCH, EVAL_SIZE = 2, 64  # images, pixels
TRAIN_BATCH, TRAIN_SIZE = 4, 33  # an odd size has 2 x 2 cells in the last level
STEPS, RATE = 3, 0.01


def train_images(step: int) -> np.ndarray:
    """Of a step of training."""
    return drawing.images(TRAIN_BATCH, TRAIN_SIZE, f"step {step}")


def _levels(network: Any, image: Any) -> list[Any]:
    hidden = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    levels = []
    for level in range(1, 5):
        hidden = getattr(network, f"layer{level}")(hidden)
        levels.append(hidden)
    return levels


def _eval(network: Any, image: Any) -> dict[str, np.ndarray]:
    levels = [level.detach().numpy() for level in _levels(network.eval(), image)]
    arrays = {
        f"eval/level{number}": drawing.kept(level.transpose(0, 2, 3, 1))
        for number, level in enumerate(levels, start=1)
    }
    return arrays | {"eval/pooled": levels[-1].mean((2, 3))}


def _train(network: Any, image_of: Any, optimizer: Any) -> dict[str, np.ndarray]:
    losses, arrays = [], {}
    network.train()
    for step in range(STEPS):
        pooled = network(image_of(step))
        target = pooled.new_tensor(drawing.uniform("target", tuple(pooled.shape)))
        loss = (pooled - target).square().mean() / 2
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            arrays["train/pooled"] = drawing.kept(pooled.detach().numpy())
            arrays["train/gradients"] = drawing.digest(drawing.gradients(network))
            arrays["train/statistics"] = drawing.digest(
                drawing.statistics(drawing.state(network))
            )
        optimizer.step()
    arrays["train/losses"] = np.array(losses)
    arrays["train/after"] = drawing.digest(drawing.state(network))
    return arrays


def main() -> None:
    """Writes every file."""
    import torch
    import torchvision

    for name in NETWORKS:
        shapes, results = {}, []
        for dtype in (torch.float64, torch.float32):
            network = getattr(torchvision.models, name)(weights=None)
            network.fc = torch.nn.Identity()
            shapes = drawing.fill(network.to(dtype))

            def image(grey: np.ndarray, dtype: Any = dtype) -> Any:
                channels = grey.transpose(0, 3, 1, 2).repeat(3, axis=1)
                return torch.tensor(channels, dtype=dtype)

            found = _eval(network, image(drawing.images(EVAL_BATCH, EVAL_SIZE)))
            optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
            found |= _train(network, lambda step: image(train_images(step)), optimizer)
            results.append(found)
        drawing.store(name, shapes, *results)


if __name__ == "__main__":
    main()
