# pyright: reportMissingImports=false
"""DeepLabV3 of torchvision on a dilated ResNet-50, with its auxiliary head.

`eval/...`: logits of both heads, of some pixels. `train/...`: the loss of each image,
the gradients of their mean, and all weights and running statistics after one step of
gradient descent.

Not as in torchvision: no dropout, so that nothing is random, and smaller dilation
rates in the pyramid, so that all reach into these small images. The loss is the mean
cross-entropy over the known pixels of an image, then over images; torchvision's
training script takes the mean over the known pixels of all images at once, which is
the same where each image has as many.
"""

from typing import Any

import drawing
import numpy as np

CLASSES, RATES, AUXILIARY_WEIGHT = 3, (2, 4, 8), 0.5
EVAL_BATCH, EVAL_SIZE = 2, 65  # images, pixels; 9 x 9 cells
TRAIN_BATCH, TRAIN_SIZE = 3, 33  # 5 x 5 cells
RATE = 0.01
UNKNOWN = 255
HEADS = ("out", "aux")


def masks() -> np.ndarray:
    """Class of each pixel or `UNKNOWN`, int64 [B, H, W]; each image knows others."""
    shape = (TRAIN_BATCH, TRAIN_SIZE, TRAIN_SIZE)
    chosen = np.floor((drawing.uniform("mask", shape) + 1) / 2 * CLASSES)
    limit = np.array([-0.9, -0.2, 0.6]).reshape(-1, 1, 1)
    unknown = drawing.uniform("unknown", shape) < limit
    return np.where(unknown, UNKNOWN, chosen).astype(np.int64)


def some_pixels(logits: np.ndarray) -> np.ndarray:
    """Every seventh row and column of [B, H, W, S], the last ones among them."""
    return logits[:, 1::7, 1::7]


def _train(network: Any, image: Any, optimizer: Any) -> dict[str, np.ndarray]:
    import torch

    network.train()
    logits, truth = network(image), torch.from_numpy(masks())
    losses = []
    for i in range(TRAIN_BATCH):
        out, aux = (
            torch.nn.functional.cross_entropy(
                logits[head][i : i + 1], truth[i : i + 1], ignore_index=UNKNOWN
            )
            for head in HEADS
        )
        losses.append(out + AUXILIARY_WEIGHT * aux)
    torch.stack(losses).mean().backward()
    optimizer.step()
    return {
        "train/losses": torch.stack(losses).detach().numpy(),
        "train/gradients": drawing.digest(drawing.gradients(network)),
        "train/after": drawing.digest(drawing.state(network)),
    }


def main() -> None:
    """Writes the file."""
    import torch
    from torchvision.models import segmentation
    from torchvision.models.segmentation import deeplabv3

    shapes, results = {}, []
    for dtype in (torch.float64, torch.float32):
        network = segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        )
        network.classifier = deeplabv3.DeepLabHead(2048, CLASSES, RATES)
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        shapes = drawing.fill(network.to(dtype))

        def image(count: int, size: int, dtype: Any = dtype) -> Any:
            grey = drawing.images(count, size).transpose(0, 3, 1, 2)
            return torch.tensor(grey.repeat(3, axis=1), dtype=dtype)

        with torch.no_grad():
            logits = network.eval()(image(EVAL_BATCH, EVAL_SIZE))
        arrays = {
            f"eval/{head}": some_pixels(logits[head].permute(0, 2, 3, 1).numpy())
            for head in HEADS
        }
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
        arrays |= _train(network, image(TRAIN_BATCH, TRAIN_SIZE), optimizer)
        results.append(arrays)
    drawing.store("deeplabv3_resnet50", shapes, *results)


if __name__ == "__main__":
    main()
