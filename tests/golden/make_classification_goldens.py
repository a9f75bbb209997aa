# pyright: reportMissingImports=false
"""One step of a linear classifier by PyTorch and timm: weights, smoothing, mixup.

Of each case: the loss of the batch, and the head after a step of gradient descent.
Labels of many findings are not all known; the mean of an image is over those that are.
Images are mixed by timm's Mixup, whose draw is given.
"""

from typing import Any
from unittest import mock

import drawing
import numpy as np

BATCH, SIZE, CLASSES = 6, 4, 3
SHAPES = {"fc.weight": (CLASSES, SIZE * SIZE), "fc.bias": (CLASSES,)}
RATE, SHARE, WEIGHT = 0.5, 0.3, (0.25, 1.5, 4.0)
# Whether classes exclude each other, their weights, label smoothing, mixup's draw.
CASES = {
    "exclusive": (True, None, 0.0, None),
    "exclusive_weights": (True, WEIGHT, 0.0, None),
    "exclusive_smoothing": (True, None, 0.1, None),
    "exclusive_mixup": (True, None, 0.1, SHARE),
    "exclusive_all": (True, WEIGHT, 0.1, SHARE),
    "many": (False, None, 0.0, None),
    "many_weights": (False, WEIGHT, 0.0, None),
    "many_smoothing": (False, None, 0.1, None),
    "many_mixup": (False, None, 0.1, SHARE),
    "many_all": (False, WEIGHT, 0.1, SHARE),
}
ALL_KNOWN = "many_mixup"  # timm knows of no other labels


def labels(case: str) -> tuple[np.ndarray, np.ndarray]:
    """0 or 1, and whether it is known, both [BATCH, CLASSES]; what is not is 0."""
    drawn = drawing.uniform("labels", (BATCH, CLASSES))
    known = np.ones(drawn.shape, bool)
    if CASES[case][0]:
        return np.eye(CLASSES)[drawn.argmax(1)], known
    if case != ALL_KNOWN:
        known = drawing.uniform("known", drawn.shape) > -0.5
    return (drawn > 0) * known * 1.0, known


def _mixed(case: str, image: Any, label: Any, smoothing: float) -> Any:
    """Images and labels as timm mixes them."""
    from timm.data import mixup

    exclusive, _, _, share = CASES[case]
    mix = mixup.Mixup(
        label_smoothing=smoothing, num_classes=CLASSES, multi_label=not exclusive
    )
    with mock.patch("numpy.random.beta", return_value=share):
        return mix(image.clone(), label.argmax(1) if exclusive else label)


def _exclusive(case: str, image: Any, label: Any, weight: Any, classify: Any) -> Any:
    from timm.loss import SoftTargetCrossEntropy
    from torch.nn import functional

    _, _, smoothing, share = CASES[case]
    if share and weight is None:
        mixed, target = _mixed(case, image, label, smoothing)
        return SoftTargetCrossEntropy()(classify(mixed), target)
    if share:
        image, label = _mixed(case, image, label, 0.0)
    return functional.cross_entropy(
        classify(image),
        label.to(image.dtype),
        weight=weight,
        label_smoothing=smoothing,
    )


def _many(
    case: str, image: Any, label: Any, known: Any, weight: Any, classify: Any
) -> Any:
    from torch.nn import functional

    _, _, smoothing, share = CASES[case]
    mixed, target = _mixed(case, image, label, smoothing) if share else (image, None)
    logits = classify(mixed)

    def total(target: Any) -> Any:
        return functional.binary_cross_entropy_with_logits(
            logits, target.to(image.dtype), pos_weight=weight, reduction="none"
        )

    if case == ALL_KNOWN:
        return total(target).mean()
    # Smoothed as timm does; with mixup both labels count by their shares (mixup's own
    # code takes the loss twice, too), as far as they are known.
    each = total(label * (1 - smoothing) + 0.5 * smoothing) * known
    mine, count = each.sum(1), known.sum(1)
    if share:
        flipped = total(label.flip(0) * (1 - smoothing) + 0.5 * smoothing)
        mine = share * mine + (1 - share) * (flipped * known.flip(0)).sum(1)
        count = share * count + (1 - share) * known.flip(0).sum(1)
    return (mine / count.clamp(min=1)).mean()


def compute(case: str, dtype: Any) -> dict[str, np.ndarray]:
    """The loss of a case, and the head after a step."""
    import torch

    head = {
        key: torch.tensor(array, dtype=dtype, requires_grad=True)
        for key, array in drawing.draw(SHAPES).items()
    }
    image = drawing.images(BATCH, SIZE).reshape(BATCH, -1)
    image = torch.tensor(image, dtype=dtype)
    label, known = (torch.tensor(x) for x in labels(case))
    weight = CASES[case][1]
    weight = None if weight is None else torch.tensor(weight, dtype=dtype)

    def classify(image: Any) -> Any:
        return torch.nn.functional.linear(image, head["fc.weight"], head["fc.bias"])

    if CASES[case][0]:
        loss = _exclusive(case, image, label, weight, classify)
    else:
        loss = _many(case, image, label, known, weight, classify)
    loss.backward()
    torch.optim.SGD(head.values(), lr=RATE).step()
    return {
        f"{case}/loss": loss.detach().numpy()[np.newaxis],
        **{f"{case}/{key}": x.detach().numpy() for key, x in head.items()},
    }


def main() -> None:
    """Writes the file."""
    import torch

    results = [
        {key: x for case in CASES for key, x in compute(case, dtype).items()}
        for dtype in (torch.float64, torch.float32)
    ]
    drawing.store("classification", SHAPES, *results)


if __name__ == "__main__":
    main()
