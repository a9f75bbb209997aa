"""Builds in PyTorch what `mtpret_jax export` wrote, and loads its weights.

    pip install torch torchvision safetensors timm  # timm: not for ResNets
    python load_exported.py exported

Copy it into a project of yours: it needs nothing of mtpret_jax.

    pixels = np.array(Image.open("chest.png"))  # grey; bright where rays were stopped
    image = load_exported.prepare(pixels, "exported")
    outputs = load_exported.load("exported")(image[None])

Colours normalised as ImageNet's would go in as well, and give wrong answers. A detector
takes a list, `[image]`, and gives boxes in pixels of the square; its label 0 is the
first of `class_names` in config.json: the background, of a Faster R-CNN.
"""

import functools
import hashlib
import json
import pathlib
import sys
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torchvision
from torch import nn
from torchvision.models import convnext, densenet, resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import (
    anchor_utils,
    backbone_utils,
    faster_rcnn,
    retinanet,
)
from torchvision.models.segmentation import deeplabv3, fcn
from torchvision.ops import MultiScaleRoIAlign, feature_pyramid_network, poolers


def load(folder: str) -> nn.Module:
    """The network of an exported folder, in evaluation mode."""
    facts = json.loads(read(folder, "config.json"))
    content = read(folder, "model.safetensors")
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ValueError(
            f"{folder}/model.safetensors: damaged, its SHA-256 is not the one in "
            "config.json. Copy the folder again."
        )
    if facts.get("library") == "transformers":
        return _from_transformers(folder)
    network = build(facts)
    network.load_state_dict(safetensors.torch.load(content), strict=True)
    return network.eval()


def read(folder: str, name: str) -> bytes:
    """A file of the folder, as it was written: SHA256SUMS there says what it was."""
    path, sums = (pathlib.Path(folder, each) for each in (name, "SHA256SUMS"))
    content = path.read_bytes()
    if not sums.exists():
        sys.stderr.write(f"{path} is read unchecked: there is no {sums.name}.\n")
    elif f"{hashlib.sha256(content).hexdigest()}  {name}".encode() not in (
        sums.read_bytes()
    ):
        raise ValueError(
            f"{path}: damaged, its SHA-256 is not the one in {sums.name}. Copy the "
            "folder again."
        )
    return content


def prepare(pixels: np.ndarray, folder: str) -> torch.Tensor:
    """What training did to a picture: float32 [3, S, S], of one grey channel.

    As preprocessor_config.json says: shrunk to the stored size, fitted to the square,
    normalised by the picture's own mean and deviation, the set's, or fixed ones of each
    channel; padding is 0.

    Args:
      pixels: uint8 or uint16 [H, W], bright where rays were stopped (an X-ray as it is
        mostly shown; of DICOM with MONOCHROME1 it is the other way round).
      folder: The exported one.
    """
    facts = json.loads(read(folder, "preprocessor_config.json"))
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"Expected uint8 or uint16 [H, W], got {pixels.dtype} {list(pixels.shape)}."
        )
    most = 2 ** facts["stored_bit_depth"] - 1
    stored = np.rint(pixels * (most / np.iinfo(pixels.dtype).max))
    longest, limit = max(stored.shape), facts["stored_longest_side"]
    if 0 < limit < longest:
        small = [max(1, round(side * limit / longest)) for side in stored.shape]
        stored = np.floor(_resize(stored, *small) + 0.5)
    size = facts.get("crop_size", facts["size"])["height"]
    how = facts["resample"]  # transformers has a number for bicubic.
    how = "bicubic" if how == 3 else how.split(",")[0]
    content = _content(stored, size, facts["fit"], how, most)
    content = np.floor(content + 0.5).clip(1, most)  # 0 is padding
    mean, deviation = facts["image_mean"], facts["image_std"]
    if mean is None:
        mean, deviation = content.mean(), content.std() + 1e-6 * most
    else:
        mean, deviation = (
            most * np.reshape(row, (-1, 1, 1)) for row in (mean, deviation)
        )
    square = np.zeros((3, size, size), np.float32)
    top, left = ((size - side) // 2 for side in content.shape)
    rows, columns = (
        slice(top, top + content.shape[0]),
        slice(left, left + content.shape[1]),
    )
    square[:, rows, columns] = (content - mean) / deviation
    return torch.from_numpy(square)


def _content(
    stored: np.ndarray, size: int, fit: str, how: str, most: int
) -> np.ndarray:
    """The picture as large as it lies in the square."""
    height, width = _fitted(*stored.shape, size, fit)
    if fit == "crop" and how == "gaussian":  # Cut before, as torchxrayvision.
        height = width = size
        side = min(stored.shape)
        top, left = (length // 2 - side // 2 for length in stored.shape)
        stored = stored[top : top + side, left : left + side]
    elif fit == "crop" and how == "bicubic":  # As transformers.
        height, width = (size * side // min(stored.shape) for side in stored.shape)
    content = _resize(stored, height, width, how, most)
    odd = 0 if how == "bicubic" else 1
    return _cut(_cut(content, size, odd).T, size, odd).T


def _fitted(height: int, width: int, size: int, fit: str) -> tuple[int, int]:
    """Height and width of a picture that is to lie in a square."""
    if fit == "stretch":
        return size, size
    side = max(height, width) if fit == "pad" else min(height, width)
    least = 1 if fit == "pad" else size
    return tuple(max(least, round(n * size / side)) for n in (height, width))


def _cut(picture: np.ndarray, size: int, odd: int) -> np.ndarray:
    """The `size` rows in the middle, if there are more; of two middles by `odd`."""
    top = max(0, (len(picture) - size + odd) // 2)
    return picture[top : top + size]


def _resize(
    picture: np.ndarray, height: int, width: int, how: str = "", most: float = np.inf
) -> np.ndarray:
    """As `how` says, or means over areas where it shrinks and linear where it grows.

    A Gaussian sees middle grey beyond the edge. Pillow rounds 8 bits after each axis.
    """
    rows, columns = (
        _mix(old, new, how)
        for old, new in zip(picture.shape, (height, width), strict=True)
    )
    middle = most / 2 if how == "gaussian" else 0.0
    picture = ((picture - middle) @ columns.T + middle).clip(0, most)
    if how == "bicubic" and most == 255:
        picture = np.floor(picture + 0.5)
    return rows @ (picture - middle) + middle


def _mix(old: int, new: int, how: str) -> np.ndarray:
    """How much of each old pixel is in a new one, [new, old]."""
    place, pixel = ((np.arange(new) + 0.5) * old / new - 0.5)[:, None], np.arange(old)
    if how == "bicubic":
        x = np.abs(place - pixel) / max(1.0, old / new)
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((2.5 - 0.5 * x) * x - 4) * x + 2
        mixed = np.where(x < 1, near, np.where(x < 2, far, 0))
        return mixed / mixed.sum(1, keepdims=True)
    if how == "gaussian":
        mixed = (1 - np.abs(place - pixel)).clip(0)
        if new < old:
            sigma = (old / new - 1) / 2
            steps = np.arange(old + int(4 * sigma + 0.5) + 1)
            bell = np.exp(-0.5 * (steps / sigma) ** 2) * (steps <= int(4 * sigma + 0.5))
            blurred = bell[np.abs(pixel[:, None] - pixel)]
            mixed = mixed @ (blurred / (2 * bell.sum() - 1))
        return mixed
    if new < old:
        edges = np.linspace(0, old, new + 1)[:, None]
        covered = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
        return covered.clip(0) * (new / old)
    return (1 - np.abs(place.clip(0, old - 1) - pixel)).clip(0)


def build(facts: dict[str, Any]) -> nn.Module:
    """The network that config.json describes, with random weights."""
    if facts.get("library") == "timm":
        import timm

        return timm.create_model(**facts["timm"])
    arguments = facts["torchvision"]
    if arguments is None:  # Of before narrow ones were built here.
        raise ValueError("Export this model again: its config.json says too little.")
    classes = arguments.pop("num_classes", 0)
    if "convnext" in arguments:
        return _convnext(num_classes=classes, **arguments["convnext"])
    if "densenet" in arguments:
        network = densenet.DenseNet(num_classes=classes, **arguments["densenet"])
        network.classifier = network.classifier if classes else nn.Identity()
        return network
    body = _resnet(**arguments["resnet"])
    if facts["kind"] == "backbone":
        body.fc = nn.Identity()
    elif facts["kind"] == "segmentation":
        return _deeplab(body, arguments)
    elif facts["kind"] == "detection":
        is_dense = "retinanet" in arguments
        return (_retinanet if is_dense else _faster_rcnn)(body, arguments)
    return body


def _from_transformers(folder: str) -> Any:
    """A network of transformers; features are `network(image).pooler_output`."""
    import transformers

    network, told = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True
    )
    wrong = {key: sorted(names) for key, names in told.items() if names}
    if wrong:
        raise ValueError(f"{folder}: transformers has other names or shapes: {wrong}")
    return network.eval()


def _convnext(depths: list[int], channels: list[int], num_classes: int) -> nn.Module:
    """A ConvNeXt as torchvision's, of any depth and width, with its last norm."""
    following = [*channels[1:], None]
    stages = [
        convnext.CNBlockConfig(*row)
        for row in zip(channels, following, depths, strict=True)
    ]
    network = convnext.ConvNeXt(stages, num_classes=num_classes)
    if not num_classes:
        network.classifier[2] = nn.Identity()
    return network


def _resnet(name: str, width: int = 64, **options: Any) -> Any:
    """A ResNet as torchvision's, of any width, and dilated whatever its blocks are."""
    dilate = options.pop("replace_stride_with_dilation", [False] * 3)
    dilated_basic = name != "resnet50" and any(dilate)
    if width == 64 and name != "resnet10" and not dilated_basic:
        return getattr(torchvision.models, name)(
            replace_stride_with_dilation=dilate, **options
        )
    network = _ResNet(name, width, **options)
    rate = 1
    for layer, asked in zip(("layer2", "layer3", "layer4"), dilate, strict=True):
        blocks = list(getattr(network, layer))
        first, rate = rate, rate * 2 if asked else rate
        for place, block in enumerate(blocks):
            convolutions = [
                part
                for part in block.modules()
                if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)
            ]
            for order, convolution in enumerate(convolutions):
                # The first one after the change sees the old grid.
                own = first if place == order == 0 else rate
                convolution.dilation = convolution.padding = (own, own)
                if asked and place == 0:
                    convolution.stride = (1, 1)
        if asked:
            blocks[0].downsample[0].stride = (1, 1)
    return network


class _ResNet(resnet.ResNet):
    """A ResNet as torchvision's, which are all of width 64."""

    def __init__(self, name: str, width: int, num_classes: int = 1000) -> None:
        block, depths = {
            "resnet10": (resnet.BasicBlock, (1, 1, 1, 1)),
            "resnet18": (resnet.BasicBlock, (2, 2, 2, 2)),
            "resnet50": (resnet.Bottleneck, (3, 4, 6, 3)),
        }[name]
        nn.Module.__init__(self)
        self._norm_layer, self.groups, self.base_width = nn.BatchNorm2d, 1, 64
        self.inplanes, self.dilation = width, 1
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for place, depth in enumerate(depths):
            layer = self._make_layer(
                block, width << place, depth, stride=1 if place == 0 else 2
            )
            setattr(self, f"layer{place + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.inplanes, num_classes)


def _deeplab(body: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    """`DeepLabHead`, with its width and dropout as options."""
    head, aux = arguments["classifier"], arguments["aux_classifier"]
    width = head["channels"]
    pyramid = deeplabv3.ASPP(head["in_channels"], head["atrous_rates"], width)
    pyramid.project[3].p = head["dropout"]
    classifier = nn.Sequential(
        pyramid,
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, head["num_classes"], 1),
    )
    layers = {"layer4": "out"} | ({"layer3": "aux"} if aux else {})
    return deeplabv3.DeepLabV3(
        IntermediateLayerGetter(body, layers),
        classifier,
        fcn.FCNHead(**aux) if aux else None,
    )


class _Anchors(anchor_utils.AnchorGenerator):
    """Anchors whose strides are given, for image sizes that 32 does not divide."""

    def __init__(self, strides: list[int], **options: Any) -> None:
        super().__init__(**options)
        self.strides = strides

    def grid_anchors(self, grid_sizes: Any, strides: Any) -> list[torch.Tensor]:
        device = strides[0][0].device
        given = [torch.tensor(stride, device=device) for stride in self.strides]
        return super().grid_anchors(grid_sizes, [[stride] * 2 for stride in given])


class _RoIAlign(MultiScaleRoIAlign):
    """Regions of a pyramid of given strides.

    torchvision takes the power of 2 that is nearest to a level's size over the image's,
    which for small images is another: 3 of 66 pixels are 1/16 instead of 1/32.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        self.map_levels = poolers.initLevelMapper(
            2,
            5,
            canonical_scale=self.canonical_scale,
            canonical_level=self.canonical_level,
        )


def _anchors(options: dict[str, Any]) -> anchor_utils.AnchorGenerator:
    is_given = "strides" in options
    return (_Anchors if is_given else anchor_utils.AnchorGenerator)(**options)


def _retinanet(body: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    """RetinaNet with GroupNorm in its towers, as retinanet_resnet50_fpn_v2."""
    pyramid, head = arguments["backbone"], arguments["head"]
    head["norm_layer"] = functools.partial(nn.GroupNorm, head.pop("groups"))
    last = feature_pyramid_network.LastLevelP6P7(
        pyramid["in_channels_list"][-1], pyramid["out_channels"]
    )
    return retinanet.RetinaNet(
        backbone_utils.BackboneWithFPN(body, extra_blocks=last, **pyramid),
        head["num_classes"],
        anchor_generator=_anchors(arguments["anchor_generator"]),
        head=retinanet.RetinaNetHead(**head),
        **arguments["retinanet"],
    )


def _faster_rcnn(body: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    return faster_rcnn.FasterRCNN(
        backbone_utils.BackboneWithFPN(body, **arguments["backbone"]),
        rpn_anchor_generator=_anchors(arguments["rpn_anchor_generator"]),
        box_roi_pool=_RoIAlign(**arguments["box_roi_pool"]),
        box_head=faster_rcnn.TwoMLPHead(**arguments["box_head"]),
        box_predictor=faster_rcnn.FastRCNNPredictor(**arguments["box_predictor"]),
        **arguments["faster_rcnn"],
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "usage: python load_exported.py FOLDER, which `mtpret_jax export` wrote"
        )
    try:
        print(load(sys.argv[1]))  # noqa: T201
    except (OSError, ValueError) as error:
        sys.exit(f"Error: {error}")
