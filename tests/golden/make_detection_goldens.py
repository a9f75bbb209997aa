# pyright: reportMissingImports=false
"""Faster R-CNN of torchvision: its parts, and two whole networks.

`detection.npz` holds the parts, each from inputs drawn here: anchors, box code,
matching, losses of a stored sample, proposals, alignment of regions, detections.
`fasterrcnn_resnet18.npz` and `fasterrcnn_resnet50.npz` hold whole networks: pyramid,
detections, the losses of each image with every candidate sampled, and (ResNet-18) the
gradients of their sum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import drawing
import numpy as np

SIZE = 96  # pixels; P6 has 2 positions for 3 of P5
GRIDS = (24, 12, 6, 3, 2)  # P2 to P6
ANCHOR_SIZES = (8.0, 16.0, 32.0, 64.0, 128.0)
RATIOS = (0.5, 1.0, 2.0)
SIZES = tuple(range(64, 545, 32))  # pixels, for the stride of P6
BEFORE_NMS, PROPOSALS = 100, 60
DETECTIONS, WHOLE_DETECTIONS = 75, 20
SAMPLED_ANCHORS, SAMPLED_REGIONS = 64, 32
EVERYTHING = 10**6
SCORE_THRESHOLD = 0.2
CLASSES = 2
IMAGES = {"resnet18": "images", "resnet50": "images 9"}  # see `refuse_outside`
# Boxes of three images, x0, y0, x1, y1 in pixels, and classes from 1. The second has
# none; the third has one box twice, of two classes, and one that ends at the border.
TRUTH: Sequence[tuple[list[list[float]], list[int]]] = (
    ([[10, 12, 40, 50], [44, 40, 90, 88], [60, 5, 66, 11]], [1, 2, 1]),
    ([], []),
    ([[70.5, 71.25, 96, 96], [0, 0, 20, 9], [0, 0, 20, 9]], [2, 1, 2]),
)
# Beyond the near border by less than one position; tiny; without area; narrow; on each
# side of a level's limit. See `refuse_outside`.
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
)


def random_boxes(name: str, count: int) -> np.ndarray:
    """Boxes inside the image, float32 [count, 4]."""
    corner = (drawing.uniform(name, (count, 2, 2)) + 1) * SIZE / 2
    return np.concatenate([corner.min(1), corner.max(1)], axis=-1)


def whole_boxes(name: str, count: int) -> np.ndarray:
    """Boxes with corners on a coarse grid, so that overlaps are often equal."""
    box = np.floor(random_boxes(name, count) / 8) * 8
    box[:, 2:] += 8
    return box


def proposals() -> np.ndarray:
    """Boxes near the truth, elsewhere, and some of no size, float32 [3, 100, 4]."""
    result = []
    for i, (truth, _) in enumerate(TRUTH):
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
        2 * drawing.uniform("logits " + name, (3, regions, 1 + CLASSES)),
        drawing.uniform("offsets " + name, (3, regions, 1 + CLASSES, 4)),
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


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Those of `drawing.draw`, but offsets that leave proposals near their anchors."""
    drawn = drawing.draw(shapes)
    for name in ("weight", "bias"):
        drawn[f"rpn.head.bbox_pred.{name}"] /= 8
    return drawn


def refuse_outside(pool: Any, inputs: tuple[Any, ...], _: Any) -> None:
    """Refuses regions with samples beyond a level's far border.

    PyTorch's compiled RoIAlign takes such a sample as zero, its other one as the
    border's value; with regions inside, both give the same file.
    """
    features, box, _ = inputs
    for part in box:
        level = pool.map_levels([part])
        scale = part.new_tensor(pool.scales)[level][:, None]
        side = ((part[:, 2:] - part[:, :2]) * scale).clamp(min=1)
        extent = part.new_tensor([features[str(int(i))].shape[-1] for i in level])
        last = part[:, :2] * scale + side * (1 - 1 / 28)
        if (last > extent[:, None]).any():
            raise ValueError("A region has samples outside; see IMAGES.")


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


def small_network(sampled: tuple[int, int]) -> Any:
    """Faster R-CNN on ResNet-18 with small anchors and small dense layers."""
    import torch
    from torchvision.models.detection import (
        anchor_utils,
        backbone_utils,
        faster_rcnn,
    )
    from torchvision.ops import poolers

    return faster_rcnn.FasterRCNN(
        backbone_utils.resnet_fpn_backbone(
            backbone_name="resnet18",
            weights=None,
            norm_layer=torch.nn.BatchNorm2d,
            trainable_layers=5,
        ),
        rpn_anchor_generator=anchor_utils.AnchorGenerator(
            tuple((size,) for size in ANCHOR_SIZES), (RATIOS,) * len(ANCHOR_SIZES)
        ),
        box_roi_pool=poolers.MultiScaleRoIAlign(
            ["0", "1", "2", "3"], 7, 2, canonical_scale=int(7 * ANCHOR_SIZES[0])
        ),
        box_head=faster_rcnn.TwoMLPHead(256 * 49, 64),
        box_predictor=faster_rcnn.FastRCNNPredictor(64, 1 + CLASSES),
        **options(sampled),
    )


def stock_network(sampled: tuple[int, int]) -> Any:
    """torchvision's fasterrcnn_resnet50_fpn with its own anchors and layers."""
    from torchvision.models import detection

    return detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=1 + CLASSES,
        **options(sampled),
    )


def options(sampled: tuple[int, int]) -> dict[str, Any]:
    """Pictures as they are, few boxes, and the sizes of the two samples."""
    return {
        "min_size": SIZE,
        "max_size": SIZE,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "rpn_pre_nms_top_n_train": BEFORE_NMS,
        "rpn_pre_nms_top_n_test": BEFORE_NMS,
        "rpn_post_nms_top_n_train": PROPOSALS,
        "rpn_post_nms_top_n_test": PROPOSALS,
        "rpn_batch_size_per_image": sampled[0],
        "box_batch_size_per_image": sampled[1],
        "box_score_thresh": SCORE_THRESHOLD,
        "box_detections_per_img": WHOLE_DETECTIONS,
    }


def targets(dtype: Any) -> list[dict[str, Any]]:
    """The truth as torchvision wants it."""
    import torch

    return [
        {
            "boxes": torch.tensor(box, dtype=dtype).reshape(-1, 4),
            "labels": torch.tensor(label, dtype=torch.int64),
        }
        for box, label in TRUTH
    ]


def padded(parts: Sequence[Any], count: int) -> np.ndarray:
    """Arrays of differing length as one, filled up with zeros."""
    result = np.zeros((len(parts), count, *parts[0].shape[1:]))
    for i, part in enumerate(parts):
        result[i, : len(part)] = part.detach().numpy()
    return result


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
    return {"anchors": lay(SIZE, GRIDS).numpy(), "last_anchors": np.stack(last)}


def proposal_parts(network: Any, dtype: Any) -> drawing.Arrays:
    """Losses of a sample of anchors, and the proposals, from the same logits."""
    import torch

    rpn = network.rpn
    anchor = torch.tensor(anchors(network, dtype)["anchors"])
    logit, offset = (torch.tensor(x, dtype=dtype) for x in first_half())
    label, matched = rpn.assign_targets_to_anchors([anchor] * 3, targets(dtype))
    label = [x.to(dtype) for x in label]
    target = rpn.box_coder.encode([x.to(dtype) for x in matched], [anchor] * 3)
    rpn.fg_bg_sampler = Recorder(rpn.fg_bg_sampler)
    losses = rpn.compute_loss(
        logit.reshape(-1, 1), offset.reshape(-1, 4), label, target
    )
    box = rpn.box_coder.decode(offset.reshape(-1, 4), [anchor] * 3).reshape(3, -1, 4)
    counts = [3 * side * side for side in GRIDS]
    kept, _ = rpn.filter_proposals(box, logit, [(SIZE, SIZE)] * 3, counts)
    return {
        "sampled_anchors": rpn.fg_bg_sampler.index,
        "proposal_losses": torch.stack(losses).numpy(),
        "proposals": padded(kept, PROPOSALS),
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
    _, _, label, target = head.select_training_samples(box, targets(dtype))
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
        [(SIZE, SIZE)] * 3,
    )
    head.box_roi_pool.register_forward_hook(refuse_outside)
    level = {
        str(i): torch.tensor(x.transpose(0, 3, 1, 2), dtype=dtype)
        for i, x in enumerate(levels())
    }
    box = list(torch.tensor(region_boxes(), dtype=dtype))
    region = head.box_roi_pool(level, box, [(SIZE, SIZE)] * 2)
    return {
        "sampled_regions": head.fg_bg_sampler.index,
        "region_losses": torch.stack(losses).numpy(),
        **_detections(*found, DETECTIONS),
        "aligned": region.permute(0, 2, 3, 1).numpy(),
        "aligned_level": head.box_roi_pool.map_levels(box).numpy(),
    }


def _detections(box: Any, score: Any, label: Any, count: int) -> drawing.Arrays:
    return {
        "detection_count": np.array([len(x) for x in score]),
        "detection_box": padded(box, count),
        "detection_score": padded(score, count),
        "detection_class": padded(label, count),
    }


def whole(network: Any, name: str, dtype: Any) -> drawing.Arrays:
    """Pyramid, detections, losses of each image; of ResNet-18 gradients too."""
    import torch

    network = network.to(dtype).eval()
    image = drawing.images(3, SIZE, IMAGES[name]).transpose(0, 3, 1, 2)
    image = torch.tensor(image.repeat(3, axis=1), dtype=dtype)
    with torch.no_grad():
        pyramid = network.backbone(image).values()
        found = network(list(image))
    network.rpn.train()
    network.roi_heads.train()
    network.training = True
    losses = []
    for picture, target in zip(image, targets(dtype), strict=True):
        terms = network([picture], [target])
        names = (
            "loss_objectness",
            "loss_rpn_box_reg",
            "loss_classifier",
            "loss_box_reg",
        )
        losses.append(torch.stack([terms[name] for name in names]))
    loss = torch.stack(losses)
    result = {
        **{f"P{i + 2}": corner(x.permute(0, 2, 3, 1)) for i, x in enumerate(pyramid)},
        **_detections(
            *([x[key] for x in found] for key in ("boxes", "scores", "labels")),
            WHOLE_DETECTIONS,
        ),
        "losses": loss.detach().numpy(),
    }
    if name == "resnet18":
        network.zero_grad()
        loss.sum().backward()
        result["gradients"] = drawing.digest(drawing.gradients(network))
    return result


def corner(level: Any) -> np.ndarray:
    """Some channels of a few positions up to the far corner, [3, <= 3, <= 3, 8]."""
    return drawing.kept(np.asarray(level)[:, -3:, -3:])


def main() -> None:
    """Writes every file."""
    import torch

    results = []
    for dtype in (torch.float64, torch.float32):
        network = small_network((SAMPLED_ANCHORS, SAMPLED_REGIONS))
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
    for name, make in (("resnet18", small_network), ("resnet50", stock_network)):
        network = make((EVERYTHING, EVERYTHING))
        network.roi_heads.box_roi_pool.register_forward_hook(refuse_outside)
        shapes = drawing.fill(network)
        drawn = {key: torch.from_numpy(x) for key, x in weights(shapes).items()}
        network.load_state_dict(drawn, strict=False)
        results = [
            whole(network, name, dtype) for dtype in (torch.float64, torch.float32)
        ]
        drawing.store(f"fasterrcnn_{name}", shapes, *results)


if __name__ == "__main__":
    main()
