"""Torchvision's network for each kind: where it has what ours has, how it is built.

| kind           | torchvision's network, and what its names begin with              |
|----------------|-------------------------------------------------------------------|
| backbone       | ResNet without `fc`                                               |
| classification | ResNet; `fc`                                                      |
| ordinal        | ResNet of one output fewer than grades; `fc`                      |
| regression     | ResNet of one output; `fc`                                        |
| segmentation   | DeepLabV3; `backbone`, `classifier`, perhaps `aux_classifier`     |
| detection      | Faster R-CNN; `backbone.body`, `backbone.fpn`, `rpn`, `roi_heads` |
|                | RetinaNet; `backbone.body`, `backbone.fpn`, `head`                |
| landmarks      | none with heat maps: the backbone alone is written                |

A network of ours is `{"backbone": tree, "head": tree}`, each tree `{"params": ...,
"model_state": ...}`; of the kind "backbone" there is no head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.models import faster_rcnn
from mtpret_jax.weights import detectors

Tree = Any
Tensors = dict[str, np.ndarray]
Arguments = dict[str, Any]
_WIDTH = 64  # of torchvision's ResNets
_REGION_KERNEL = "roi_heads.box_head.fc6.weight"
_REGION = (faster_rcnn.REGION_SIZE, faster_rcnn.REGION_SIZE)  # rows and columns of bins
# Names before torchvision 0.13, which files of that time still hold.
_OLD_NAMES: Mapping[str, str] = {
    r"^rpn\.head\.conv\.(weight|bias)$": r"rpn.head.conv.0.0.\1",
    r"^(backbone\.fpn\.\w+_blocks\.\d)\.(weight|bias)$": r"\1.0.\2",
}


class Layout:
    """Torchvision's network for a kind; this class is for a ResNet without `fc`.

    Attributes:
      body: What the ResNet's names begin with.
      modules: Our modules of the head, as patterns, and torchvision's names.
      optional: What names begin with that a file may have and ours need not.
      last: The tensor that has one number for each class; "" without a head.
      is_resnet: Whether the network is a ResNet as it is.
      is_dense: Whether the head is one dense layer, which any library's networks have.
      is_ours: Whether no library has the head: the backbone alone is written.
    """

    body: ClassVar[str] = ""
    modules: ClassVar[Mapping[str, str]] = {}
    optional: ClassVar[str] = ""
    last: ClassVar[str] = ""
    is_resnet: ClassVar[bool] = True
    is_dense: ClassVar[bool] = False
    is_ours: ClassVar[bool] = False

    def refusal(self, task: schema.TaskConfig) -> str:
        """What torchvision has not of a task's head; "" if it has all."""
        del task
        return ""

    def is_named(self, network: schema.BackboneConfig) -> bool:
        """Whether `torchvision.models.<name>()` alone builds the network."""
        return self.is_resnet and network.width == _WIDTH

    def class_names(self, names: Sequence[str], task: schema.TaskConfig) -> list[str]:
        """Names of the classes of a task, by torchvision's numbers."""
        del task
        return list(names)

    def facts(self, task: schema.TaskConfig) -> Arguments:
        """What else must be known to read the outputs."""
        del task
        return {}

    def outputs(self, names: Sequence[str]) -> list[str]:
        """What each output is of, with these classes."""
        return list(names)

    def arguments(
        self,
        network: schema.BackboneConfig,
        task: schema.TaskConfig,
        tensors: Tensors,
    ) -> Arguments:
        """Arguments by which torchvision builds the network.

        Args:
          network: Options of the backbone.
          task: Options of the task; without a head, the defaults.
          tensors: Weights of the network, under torchvision's names.
        """
        del task, tensors
        return {"resnet": {"name": network.name, "width": network.width}}

    def patterns(self, head: Tree) -> Mapping[str, str]:
        """`modules` for one head, the first that fits holds."""
        del head
        return self.modules

    def outwards(self, tensors: Tensors) -> None:
        """Changes arrays whose numbers torchvision has in another order."""

    def inwards(self, tensors: Tensors, where: str) -> Tensors:
        """The inverse of `outwards`, for a file of any version; `where` is its name."""
        del where
        return tensors

    def classes(self, tensors: Tensors) -> int:
        """How many classes the head tells apart."""
        return len(tensors[self.last])


class Classification(Layout):
    """ResNet."""

    modules: ClassVar[Mapping[str, str]] = {r"fc": "fc"}
    last = "fc.bias"
    is_dense = True

    def facts(self, task: schema.TaskConfig) -> Arguments:
        return {"exclusive": task.exclusive}

    def arguments(
        self,
        network: schema.BackboneConfig,
        task: schema.TaskConfig,
        tensors: Tensors,
    ) -> Arguments:
        made = super().arguments(network, task, tensors)
        return {"resnet": made["resnet"] | {"num_classes": self.classes(tensors)}}


class Ordinal(Classification):
    """ResNet of one output fewer than grades."""

    def facts(self, task: schema.TaskConfig) -> Arguments:
        return super().facts(task) | {
            "outputs": "of the grade being above k, given that it is at least k: a "
            "sigmoid gives the chance, products of these the chance of each grade"
        }

    def outputs(self, names: Sequence[str]) -> list[str]:
        return [f"above {name}" for name in names[:-1]]


class Regression(Classification):
    """ResNet of one output."""

    def refusal(self, task: schema.TaskConfig) -> str:
        return "a head that is told more than the image" if task.second_input else ""

    def facts(self, task: schema.TaskConfig) -> Arguments:
        return {"outputs": "value = output * scale.deviation + scale.mean"}


class Segmentation(Layout):
    """DeepLabV3."""

    body = "backbone."
    modules: ClassVar[Mapping[str, str]] = {
        r"convs_(\d+)_(\d)": r"classifier.0.convs.\1.\2",
        r"project_(\d)": r"classifier.0.project.\1",
        r"conv_0": "classifier.1",
        r"conv_1": "classifier.2",
        r"classifier": "classifier.4",
        r"aux_classifier_(\d)": r"aux_classifier.\1",
    }
    optional = "aux_classifier."
    last = "classifier.4.bias"
    is_resnet = False

    def patterns(self, head: Tree) -> Mapping[str, str]:
        branches = [re.fullmatch(r"convs_(\d+)_0", name) for name in head["params"]]
        numbers = [int(branch[1]) for branch in branches if branch]
        if not numbers:
            return self.modules
        last = max(numbers)  # The pyramid's last branch begins with pooling.
        pooled = f"classifier.0.convs.{last}"
        special = {rf"convs_{last}_0": f"{pooled}.1", rf"convs_{last}_1": f"{pooled}.2"}
        return special | dict(self.modules)

    def refusal(self, task: schema.TaskConfig) -> str:
        head = task.segmentation.head
        return "" if head == "deeplabv3" else f"a head '{head}'"

    def arguments(
        self,
        network: schema.BackboneConfig,
        task: schema.TaskConfig,
        tensors: Tensors,
    ) -> Arguments:
        row, channels = task.segmentation, _levels(network)
        made = super().arguments(network, task, tensors)
        made["resnet"]["replace_stride_with_dilation"] = [
            False,
            row.output_stride <= 8,
            row.output_stride <= 16,
        ]
        classes = self.classes(tensors)
        auxiliary = {"in_channels": channels[2], "channels": classes}
        return made | {
            "classifier": {
                "in_channels": channels[3],
                "num_classes": classes,
                "atrous_rates": list(row.rates),
                "channels": row.channels,
                "dropout": row.dropout,
            },
            "aux_classifier": auxiliary if row.auxiliary_weight else None,
        }


class Detection(Layout):
    """Faster R-CNN or RetinaNet: no module of one has the name of one of the other."""

    body = "backbone.body."
    modules: ClassVar[Mapping[str, str]] = {
        r"fpn\.(inner|layer)_blocks_(\d)": r"backbone.fpn.\1_blocks.\2.0",
        r"fpn\.extra_blocks_(p\d)": r"backbone.fpn.extra_blocks.\1",
        r"rpn_head\.conv": "rpn.head.conv.0.0",
        r"rpn_head\.(cls_logits|bbox_pred)": r"rpn.head.\1",
        r"(box_head\.fc[67]|box_predictor\.\w+)": r"roi_heads.\1",
        r"((?:class|regress)\w+_head)\.conv_(\d)": r"head.\1.conv.\2.0",
        r"((?:class|regress)\w+_head)\.norm_(\d)": r"head.\1.conv.\2.1",
        r"((?:class|regress)\w+_head\.(?:cls_logits|bbox_reg))": r"head.\1",
    }
    is_resnet = False

    def outwards(self, tensors: Tensors) -> None:
        if _REGION_KERNEL not in tensors:
            return
        kernel = tensors[_REGION_KERNEL]  # [hidden, rows * columns * channels]
        grid = kernel.reshape(len(kernel), *_REGION, -1).transpose(0, 3, 1, 2)
        tensors[_REGION_KERNEL] = np.ascontiguousarray(grid.reshape(kernel.shape))

    def inwards(self, tensors: Tensors, where: str) -> Tensors:
        present: Tensors = {}
        for name, array in tensors.items():
            for old, new in _OLD_NAMES.items():
                name = re.sub(old, new, name)
            present[name] = array
        kernel = present.get(_REGION_KERNEL)  # [hidden, channels * rows * columns]
        if kernel is not None:
            if kernel.ndim != 2 or kernel.shape[1] % (_REGION[0] * _REGION[1]):
                raise ValueError(
                    f"{where}: '{_REGION_KERNEL}' has shape {kernel.shape}, expected "
                    f"regions of {_REGION[0]} x {_REGION[1]} bins."
                )
            grid = kernel.reshape(len(kernel), -1, *_REGION).transpose(0, 2, 3, 1)
            present[_REGION_KERNEL] = np.ascontiguousarray(grid.reshape(kernel.shape))
        return present

    def class_names(self, names: Sequence[str], task: schema.TaskConfig) -> list[str]:
        is_first = task.detection.head == "faster_rcnn"  # torchvision's label 0
        return ["__background__", *names] if is_first else list(names)

    def classes(self, tensors: Tensors) -> int:
        if _REGION_KERNEL in tensors:
            return len(tensors["roi_heads.box_predictor.cls_score.bias"])
        anchors = len(tensors["head.regression_head.bbox_reg.bias"]) // 4
        return len(tensors["head.classification_head.cls_logits.bias"]) // anchors

    def arguments(
        self,
        network: schema.BackboneConfig,
        task: schema.TaskConfig,
        tensors: Tensors,
    ) -> Arguments:
        made = super().arguments(network, task, tensors)
        classes = self.classes(tensors)
        return made | detectors.arguments(task, _levels(network), classes)


class Landmarks(Layout):
    """Heat maps on a pyramid, which are ours."""

    is_ours = True


def _levels(network: schema.BackboneConfig) -> list[int]:
    """Channels of the ResNet's four levels, C2 to C5."""
    return list(models.build_backbone(network).channels[1:])


LAYOUTS: Mapping[str, Layout] = {
    "backbone": Layout(),
    "classification": Classification(),
    "segmentation": Segmentation(),
    "detection": Detection(),
    "regression": Regression(),
    "ordinal": Ordinal(),
    "landmarks": Landmarks(),
}
