"""Builds in PyTorch what `mtpret_jax export` wrote, and loads its weights.

    pip install torch torchvision safetensors
    python load_exported.py exported

Copy it into a project of yours: it needs nothing of mtpret_jax. Images go in as float
[B, 3, H, W], normalised as `input` of config.json says. A detector takes them as a list
and gives boxes in pixels; its label 0 is the background.
"""

import json
import pathlib
import sys
from typing import Any

import safetensors.torch
import torch
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import anchor_utils, backbone_utils, faster_rcnn
from torchvision.models.segmentation import deeplabv3, fcn
from torchvision.ops import MultiScaleRoIAlign


def load(folder: str) -> nn.Module:
    """The network of an exported folder, in evaluation mode."""
    place = pathlib.Path(folder)
    network = build(json.loads((place / "config.json").read_text()))
    tensors = safetensors.torch.load_file(place / "model.safetensors")
    network.load_state_dict(tensors, strict=True)
    return network.eval()


def build(facts: dict[str, Any]) -> nn.Module:
    """The network that config.json describes, with random weights."""
    arguments = facts["torchvision"]
    if arguments is None:
        raise ValueError(facts["why_not"])
    body = _resnet(**arguments["resnet"])
    if facts["kind"] == "backbone":
        body.fc = nn.Identity()
    elif facts["kind"] == "segmentation":
        return _deeplab(body, arguments)
    elif facts["kind"] == "detection":
        return _faster_rcnn(body, arguments)
    return body


def _resnet(name: str, **options: Any) -> Any:
    dilate = options.get("replace_stride_with_dilation", [])
    if name != "resnet18" or not any(dilate):
        return getattr(torchvision.models, name)(**options)
    # torchvision knows no dilated basic blocks: dilate as it does the others.
    network = torchvision.models.resnet18()
    rate = 1
    for layer, asked in zip(("layer2", "layer3", "layer4"), dilate, strict=True):
        blocks = list(getattr(network, layer))
        first, rate = rate, rate * 2 if asked else rate
        if asked:
            blocks[0].conv1.stride = blocks[0].downsample[0].stride = (1, 1)
        for block in blocks:
            for convolution in (block.conv1, block.conv2):
                convolution.dilation = convolution.padding = (rate, rate)
        blocks[0].conv1.dilation = blocks[0].conv1.padding = (first, first)
    return network


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


def _faster_rcnn(body: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    anchors = arguments["rpn_anchor_generator"]
    generator = _Anchors if "strides" in anchors else anchor_utils.AnchorGenerator
    return faster_rcnn.FasterRCNN(
        backbone_utils.BackboneWithFPN(body, **arguments["backbone"]),
        rpn_anchor_generator=generator(**anchors),
        box_roi_pool=MultiScaleRoIAlign(**arguments["box_roi_pool"]),
        box_head=faster_rcnn.TwoMLPHead(**arguments["box_head"]),
        box_predictor=faster_rcnn.FastRCNNPredictor(**arguments["box_predictor"]),
        **arguments["faster_rcnn"],
    )


if __name__ == "__main__":
    print(load(sys.argv[1]))  # noqa: T201
