# pyright: reportMissingImports=false
"""Faster R-CNN of torchvision in parts, each from inputs drawn here.

`detection.npz` holds anchors, box code, matching, losses of a stored sample, proposals,
alignment of regions, detections.
"""

from collections.abc import Sequence
from typing import Any

import drawing
import make_fasterrcnn_goldens as whole
import numpy as np

GRIDS = (24, 12, 6, 3, 2)  # P2 to P6
SIZES = tuple(range(64, 545, 32))  # pixels, for the stride of P6
DETECTIONS = 75
SAMPLED_ANCHORS, SAMPLED_REGIONS = 64, 32
# Beyond the near border by less than one position, and by more; tiny; without area;
# narrow; on each side of a level's limit; narrow at the far border or in its corner,
# so that samples lie beyond it.
ODD_BOXES = (
    (-3, -2, 96, 96),
    (0, 0, 96, 96),
    (5, 5, 5.1, 5.2),
    (50, 50, 50, 50),
    (91, 3, 92, 95),
    (0, 0, 27.9, 28),
    (0, 0, 28, 28),
    (9, 9, 64.9, 65),
    (9, 9, 65, 65),
    (-30, -20, 90, 96),
    (-60, -50, 90, 96),
    (95, 10, 96, 90),
    (93.5, 95.9, 96, 96),
    (0, 88, 96, 96),
)


def random_boxes(name: str, count: int) -> np.ndarray:
    """Boxes inside the image, float32 [count, 4]."""
    corner = (drawing.uniform(name, (count, 2, 2)) + 1) * whole.SIZE / 2
    return np.concatenate([corner.min(1), corner.max(1)], axis=-1)


def whole_boxes(name: str, count: int) -> np.ndarray:
    """Boxes with corners on a coarse grid, so that overlaps are often equal."""
    box = np.floor(random_boxes(name, count) / 8) * 8
    box[:, 2:] += 8
    return box


def proposals() -> np.ndarray:
    """Boxes near the truth, elsewhere, and some of no size, float32 [3, 100, 4]."""
    result = []
    for i, (truth, _) in enumerate(whole.TRUTH):
        box = random_boxes(f"proposals {i}", 100)
        if truth:
            near = np.array(truth, np.float32)[np.arange(40) % len(truth)]
            box[:40] = near + 3 * drawing.uniform(f"near {i}", (40, 4))
        box[:, 2:] = np.maximum(box[:, 2:], box[:, :2] + 0.5)
        box[95:, 2:] = box[95:, :2] + 0.0085
        result.append(box)
    return np.stack(result)


def first_half() -> tuple[np.ndarray, np.ndarray]:
    """Logits [3, N] and offsets [3, N, 4] of all anchors."""
    count = sum(3 * side * side for side in GRIDS)
    return (
        4 * drawing.uniform("logits", (3, count)),
        drawing.uniform("offsets", (3, count, 4)),
    )


def second_half(regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [3, regions, 3] and offsets [3, regions, 3, 4]."""
    name = f"of {regions}"
    return (
        2 * drawing.uniform("logits " + name, (3, regions, 1 + whole.CLASSES)),
        drawing.uniform("offsets " + name, (3, regions, 1 + whole.CLASSES, 4)),
    )


def levels() -> list[np.ndarray]:
    """P2 to P5, float32 [2, side, side, 3]."""
    return [drawing.uniform(f"level {side}", (2, side, side, 3)) for side in GRIDS[:-1]]


def region_boxes() -> np.ndarray:
    """Regions of two images, float32 [2, 16, 4]."""
    odd = np.array(ODD_BOXES, np.float32)
    free = random_boxes("regions", 32 - len(odd))
    return np.concatenate([odd, free]).reshape(16, 2, 4).swapaxes(0, 1)


def offsets_to_decode() -> np.ndarray:
    """Offsets, the last two partly above the cut, float32 [40, 4]."""
    return 30 * drawing.uniform("code", (40, 4)) ** 3


class Recorder:
    """A sampler of torchvision that keeps what it drew."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.index = np.zeros(0)

    def __call__(self, labels: Any) -> Any:
        positive, negative = self.sampler(labels)
        self.index = np.stack(
            [np.flatnonzero(p | n) for p, n in zip(positive, negative, strict=True)]
        )
        return positive, negative


def code_and_match(dtype: Any) -> drawing.Arrays:
    """Encoded and decoded boxes, and matches as torchvision numbers them."""
    import torch
    from torchvision.models.detection import _utils
    from torchvision.ops import boxes

    reference = torch.tensor(whole_boxes("reference", 40), dtype=dtype)
    box = torch.tensor(whole_boxes("box", 40), dtype=dtype)
    offset = torch.tensor(offsets_to_decode(), dtype=dtype)
    coder = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    candidate = torch.tensor(whole_boxes("candidates", 400), dtype=dtype)
    overlap = boxes.box_iou(
        torch.tensor(whole_boxes("truth", 8), dtype=dtype), candidate
    )
    return {
        "encoded": coder.encode_single(box, reference).numpy(),
        "decoded": coder.decode_single(offset, reference).reshape(-1, 4).numpy(),
        "matched_anchors": _utils.Matcher(0.7, 0.3, True)(overlap).numpy(),
        "matched_regions": _utils.Matcher(0.5, 0.5)(overlap).numpy(),
    }


def anchors(network: Any, dtype: Any) -> drawing.Arrays:
    """Anchors of the small network, and how far apart those of P6 are."""
    import torch
    from torchvision.models.detection import image_list

    def lay(size: int, sides: Sequence[int]) -> Any:
        images = image_list.ImageList(
            torch.zeros(1, 3, size, size, dtype=dtype), [(size, size)]
        )
        maps = [torch.zeros(1, 1, side, side, dtype=dtype) for side in sides]
        return network.rpn.anchor_generator(images, maps)[0]

    last = []
    for size in SIZES:
        sides = [size // 4, size // 8, size // 16, size // 32, (size // 32 + 1) // 2]
        last.append(lay(size, sides)[-1].numpy())
    return {"anchors": lay(whole.SIZE, GRIDS).numpy(), "last_anchors": np.stack(last)}


def proposal_parts(network: Any, dtype: Any) -> drawing.Arrays:
    """Losses of a sample of anchors, and the proposals, from the same logits."""
    import torch

    rpn = network.rpn
    anchor = torch.tensor(anchors(network, dtype)["anchors"])
    logit, offset = (torch.tensor(x, dtype=dtype) for x in first_half())
    label, matched = rpn.assign_targets_to_anchors([anchor] * 3, whole.targets(dtype))
    label = [x.to(dtype) for x in label]
    target = rpn.box_coder.encode([x.to(dtype) for x in matched], [anchor] * 3)
    rpn.fg_bg_sampler = Recorder(rpn.fg_bg_sampler)
    losses = rpn.compute_loss(
        logit.reshape(-1, 1), offset.reshape(-1, 4), label, target
    )
    box = rpn.box_coder.decode(offset.reshape(-1, 4), [anchor] * 3).reshape(3, -1, 4)
    counts = [3 * side * side for side in GRIDS]
    kept, _ = rpn.filter_proposals(box, logit, [(whole.SIZE, whole.SIZE)] * 3, counts)
    return {
        "sampled_anchors": rpn.fg_bg_sampler.index,
        "proposal_losses": torch.stack(losses).numpy(),
        "proposals": whole.padded(kept, whole.PROPOSALS),
        "proposal_counts": np.array([len(x) for x in kept]),
    }


def region_parts(network: Any, dtype: Any) -> drawing.Arrays:
    """Losses of a sample of regions, and detections, from the same logits."""
    import torch
    from torchvision.models.detection import roi_heads

    head = network.roi_heads
    head.fg_bg_sampler = Recorder(head.fg_bg_sampler)
    head.detections_per_img = DETECTIONS
    box = [torch.tensor(x, dtype=dtype) for x in proposals()]
    _, _, label, target = head.select_training_samples(box, whole.targets(dtype))
    logit, offset = second_half(SAMPLED_REGIONS)
    losses = roi_heads.fastrcnn_loss(
        torch.tensor(logit, dtype=dtype).flatten(0, 1),
        torch.tensor(offset, dtype=dtype).reshape(-1, 12),
        label,
        target,
    )
    logit, offset = second_half(100)
    found = head.postprocess_detections(
        torch.tensor(logit, dtype=dtype).flatten(0, 1),
        torch.tensor(offset, dtype=dtype).reshape(-1, 12),
        [torch.tensor(x, dtype=dtype) for x in proposals()],
        [(whole.SIZE, whole.SIZE)] * 3,
    )
    level = {
        str(i): torch.tensor(x.transpose(0, 3, 1, 2), dtype=dtype)
        for i, x in enumerate(levels())
    }
    box = list(torch.tensor(region_boxes(), dtype=dtype))
    region = head.box_roi_pool(level, box, [(whole.SIZE, whole.SIZE)] * 2)
    return {
        "sampled_regions": head.fg_bg_sampler.index,
        "region_losses": torch.stack(losses).numpy(),
        **whole.detections(*found, DETECTIONS),
        "aligned": region.permute(0, 2, 3, 1).numpy(),
        "aligned_level": head.box_roi_pool.map_levels(box).numpy(),
    }


def main() -> None:
    """Writes every file."""
    import roi_border
    import torch

    roi_border.follow_compiled()
    results = []
    for dtype in (torch.float64, torch.float32):
        network = whole.small_network((SAMPLED_ANCHORS, SAMPLED_REGIONS))
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(
                {
                    **anchors(network, dtype),
                    **code_and_match(dtype),
                    **proposal_parts(network, dtype),
                    **region_parts(network, dtype),
                }
            )
    drawing.store("detection", {}, *results)


if __name__ == "__main__":
    main()
