# pyright: reportMissingImports=false
"""RetinaNet of torchvision, in parts and as a whole: image to detections and losses.

`retinanet_resnet18.npz` (GroupNorm in its towers and generalised overlap, as
retinanet_resnet50_fpn_v2, with small anchors, two sizes a level) holds anchors and
their matches; losses and detections of drawn logits and offsets; of the network corners
of the pyramid, detections, the losses of each image, and the gradients of their sum.
"""

import functools
from typing import Any

import drawing
import make_detection_goldens as pieces
import make_fasterrcnn_goldens as other
import numpy as np

SIZE = other.SIZE
GRIDS = (12, 6, 3, 2, 1)  # P3 to P7
ANCHOR_SIZES = (8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 80.0, 96.0, 128.0)
RATIOS = other.RATIOS
CANDIDATES, DETECTIONS = 60, 40
SCORE_THRESHOLD = 0.8
CLASSES = other.CLASSES


def weights(shapes: Any) -> dict[str, np.ndarray]:
    """Those of `drawing.draw`, but offsets that leave boxes near their anchors."""
    drawn = drawing.draw(shapes)
    for name in ("weight", "bias"):
        drawn[f"head.regression_head.bbox_reg.{name}"] /= 4
    return drawn


def outputs() -> tuple[np.ndarray, np.ndarray]:
    """Logits [3, N, classes] and offsets [3, N, 4] of all anchors."""
    count = sum(6 * side * side for side in GRIDS)
    return (
        4 * drawing.uniform("dense logits", (3, count, CLASSES)),
        drawing.uniform("dense offsets", (3, count, 4)),
    )


def network() -> Any:
    """RetinaNet on ResNet-18, in torchvision's second version."""
    import torch
    from torchvision.models import resnet18
    from torchvision.models.detection import anchor_utils, backbone_utils, retinanet
    from torchvision.ops import feature_pyramid_network

    sizes = np.reshape(ANCHOR_SIZES, (len(GRIDS), -1)).tolist()
    generator = anchor_utils.AnchorGenerator(
        tuple(map(tuple, sizes)), (RATIOS,) * len(GRIDS)
    )
    head = retinanet.RetinaNetHead(
        256,
        generator.num_anchors_per_location()[0],
        CLASSES,
        norm_layer=functools.partial(torch.nn.GroupNorm, 32),
    )
    head.regression_head._loss_type = "giou"
    return retinanet.RetinaNet(
        backbone_utils._resnet_fpn_extractor(
            resnet18(weights=None),
            5,
            returned_layers=[2, 3, 4],
            extra_blocks=feature_pyramid_network.LastLevelP6P7(512, 256),
        ),
        CLASSES,
        min_size=SIZE,
        max_size=SIZE,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=generator,
        head=head,
        score_thresh=SCORE_THRESHOLD,
        topk_candidates=CANDIDATES,
        detections_per_img=DETECTIONS,
    )


def targets(dtype: Any) -> list[dict[str, Any]]:
    """The truth as torchvision wants it, whose classes begin at 0 here."""
    found = other.targets(dtype)
    return [{**one, "labels": one["labels"] - 1} for one in found]


def parts(network: Any, dtype: Any) -> drawing.Arrays:
    """Anchors, matches, losses and detections of drawn outputs."""
    import torch
    from torchvision.models.detection import image_list
    from torchvision.ops import boxes

    images = image_list.ImageList(
        torch.zeros(3, 3, SIZE, SIZE, dtype=dtype), [(SIZE, SIZE)] * 3
    )
    maps = [torch.zeros(3, 1, side, side, dtype=dtype) for side in GRIDS]
    anchor = network.anchor_generator(images, maps)
    logit, offset = (torch.tensor(x, dtype=dtype) for x in outputs())
    matched, losses = [], []
    for i, one in enumerate(targets(dtype)):
        overlap = boxes.box_iou(one["boxes"], anchor[i])
        nothing = torch.full((len(anchor[i]),), -1)
        found = network.proposal_matcher(overlap) if len(overlap) else nothing
        matched.append(found.numpy())
        terms = network.compute_loss(
            [one],
            {"cls_logits": logit[i : i + 1], "bbox_regression": offset[i : i + 1]},
            anchor[i : i + 1],
        )
        losses.append([float(terms[name]) for name in sorted(terms)])
    counts = [6 * side * side for side in GRIDS]
    found = network.postprocess_detections(
        {
            "cls_logits": logit.split(counts, dim=1),
            "bbox_regression": offset.split(counts, dim=1),
        },
        [list(one.split(counts)) for one in anchor],
        [(SIZE, SIZE)] * 3,
    )
    truth, candidates = (
        torch.tensor(pieces.whole_boxes(name, count), dtype=dtype)
        for name, count in (("truth", 8), ("candidates", 400))
    )
    overlap = boxes.box_iou(truth, candidates)
    return {
        "anchors": anchor[0].numpy(),
        "matched_candidates": network.proposal_matcher(overlap).numpy(),
        "matched": np.stack(matched),
        "part_losses": np.array(losses),
        **{f"part_{name}": array for name, array in _detections(found).items()},
    }


def _detections(found: Any) -> dict[str, np.ndarray]:
    parts = ([x[key] for x in found] for key in ("boxes", "scores", "labels"))
    return dict(other.detections(*parts, DETECTIONS))


def whole(network: Any, dtype: Any) -> drawing.Arrays:
    """Pyramid, detections, losses of each image, gradients."""
    import torch

    network = network.to(dtype).eval()
    image = drawing.images(3, SIZE).transpose(0, 3, 1, 2)
    image = torch.tensor(image.repeat(3, axis=1), dtype=dtype)
    with torch.no_grad():
        pyramid = network.backbone(image).values()
        found = network(list(image))
    network.training = True
    losses = []
    for picture, target in zip(image, targets(dtype), strict=True):
        terms = network([picture], [target])
        losses.append(torch.stack([terms[name] for name in sorted(terms)]))
    loss = torch.stack(losses)
    network.zero_grad()
    loss.sum().backward()
    levels = enumerate((x.permute(0, 2, 3, 1) for x in pyramid), start=3)
    return {
        **{f"P{number}": other.corner(level) for number, level in levels},
        **_detections(found),
        "losses": loss.detach().numpy(),
        "gradients": drawing.digest(drawing.gradients(network)),
    }


def main() -> None:
    """Writes the file."""
    import torch

    made = network()
    shapes = drawing.fill(made)
    drawn = {key: torch.from_numpy(x) for key, x in weights(shapes).items()}
    made.load_state_dict(drawn, strict=False)
    results = [
        {**parts(made, dtype), **whole(made, dtype)}
        for dtype in (torch.float64, torch.float32)
    ]
    drawing.store("retinanet_resnet18", shapes, *results)


if __name__ == "__main__":
    main()
