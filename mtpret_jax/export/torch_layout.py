"""Writes what a run has learnt in torchvision's layout, for PyTorch.

Writes `model.safetensors` and `config.json`: what the network is, what it expects of
pixels, which class is which, and the arguments by which torchvision builds it. In
PyTorch, with `docs/load_exported.py`, which needs nothing of this package:

    network = load_exported.load("exported")  # load_state_dict(strict=True)

A run of stage 3 gives backbone and head: ResNet, DeepLabV3 or Faster R-CNN; one of the
other stages gives the backbone. The stem takes three channels; one for a single channel
is divided over three, which is the same where grey is repeated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.config import rules
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import regions
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import files, networks
from tfds_builders import whole

Facts = dict[str, Any]
TENSORS, FACTS = "model.safetensors", "config.json"
_AGAIN = "Give the --workdir of a training; copy it again, or do the run again."


def export(workdir: epath.PathLike, run: str, out: epath.PathLike) -> Facts:
    """Writes the network of a run that has ended.

    Args:
      workdir: Of the main command.
      run: A row of its `config.runs`.
      out: Folder to write to, empty or not there.

    Returns:
      What `config.json` holds.

    Raises:
      FileNotFoundError: If there is no such work folder, or the run has not ended.
      FileExistsError: If `out` holds anything.
      ValueError: If there is no such run, or torchvision has no such network.
    """
    workdir, out = epath.Path(workdir), epath.Path(out)
    if not (workdir / "config.json").exists():
        raise FileNotFoundError(
            f"No work folder {os.fspath(workdir)}: it has no config.json. Give the "
            "--workdir of mtpret_jax.main."
        )
    with reading(workdir / "config.json") as table:
        config = schema.parse(table)
    rules.require_known(run, config.runs, "run in --run")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"--out: {os.fspath(out)} is not an empty folder, and nothing is written "
            "over. Give another, or remove it."
        )
    row = config.runs[run]
    task = row.finetune.task if row.stage == "finetune" else ""
    kind = config.tasks[task].kind if task else "backbone"
    if kind == "segmentation":
        _refuse_head(config.tasks[task].segmentation.head, run)
    folder = workdir / "runs" / run / "backbone"
    tree, _ = checkpoint.load_backbone(folder, {})
    network = {"backbone": tree["backbone"]}
    if task:
        heads = tree["heads"]
        network["head"] = {part: heads[part].get(task, {}) for part in heads}
        network["head"].setdefault("model_state", {})
    tensors, stem = networks.to_torchvision(network, kind)
    with reading(folder / checkpoint.METADATA) as described:
        facts = _describe(config, task, described)
    facts["input"] |= _statistics(config, task, workdir)
    facts["stem"] = stem
    classes = len(tensors[_LAST[kind]]) if task else 0
    facts["torchvision"] = _BUILDINGS[kind](config, task, classes)
    out.mkdir(parents=True, exist_ok=True)
    head = {"format": "pt", "made_by": facts["made_by"], "kind": kind, "stem": stem}
    facts["sha256"] = files.write(out / TENSORS, tensors, head).sha256
    whole.write_json(out / FACTS, facts)
    return facts


@contextlib.contextmanager
def reading(path: epath.PathLike) -> Iterator[Facts]:
    """The table in a JSON file of a work folder, for a body that reads it.

    Raises:
      FileNotFoundError: If it is missing.
      ValueError: If it is damaged, as the body may find, too.
    """
    path = epath.Path(path)
    table = whole.read_json(path, advice=_AGAIN)
    try:
        yield table
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{os.fspath(path)}: damaged ({type(error).__name__}: {error}). {_AGAIN}"
        ) from error


def _refuse_head(head: str, run: str) -> None:
    if head != "deeplabv3":
        raise ValueError(
            f"Run '{run}' trained a head '{head}', which torchvision has not. Export "
            "the run it started from, or another, for its backbone."
        )


def _describe(config: schema.ExperimentConfig, task: str, described: Facts) -> Facts:
    """What `config.json` holds, but for the stem and the hash of the tensors."""
    facts: Facts = {
        "made_by": f"mtpret_jax {described['mtpret_jax']}",
        "kind": config.tasks[task].kind if task else "backbone",
        "backbone": config.backbone.name,
        "computed_in": described["network"]["compute_dtype"],
        "origin": {
            name: described.get(name)
            for name in ("run", "stage", "parent", "steps", "pools")
        },
        "input": _input(config, task, described),
    }
    if task:
        names = described.get("class_names", {}).get(task)
        if names and facts["kind"] == "detection":
            names = ["__background__", *names]  # torchvision's label 0.
        facts |= {"task": task, "class_names": names}
        if facts["kind"] == "classification":
            facts["exclusive"] = config.tasks[task].exclusive
    return facts


def _input(config: schema.ExperimentConfig, task: str, described: Facts) -> Facts:
    """What the network expects of pixels."""
    facts: Facts = {
        "channels": "one grey channel, the same three times",
        "image_size": described["image_size"],
        "fit": config.input.fit,
        "normalisation": config.input.normalisation,
    }
    if task:
        facts["image_size"] = config.tasks[task].image_size
    return facts


def _statistics(
    config: schema.ExperimentConfig, task: str, workdir: epath.Path
) -> Facts:
    """Those of the task's set, where they normalise."""
    if config.input.normalisation != "dataset" or not task:
        return {}
    with reading(workdir / "datasets.json") as sets:
        made = sets[config.tasks[task].dataset]
        return {name: made[name] for name in ("pixel_mean", "pixel_std")}


def _backbone(config: schema.ExperimentConfig, task: str, classes: int) -> Facts:
    del task, classes
    return {"resnet": _body(config)}


def _resnet(config: schema.ExperimentConfig, task: str, classes: int) -> Facts:
    del task
    return {"resnet": _body(config) | {"num_classes": classes}}


def _body(config: schema.ExperimentConfig) -> Facts:
    return {"name": config.backbone.name, "width": config.backbone.width}


def _levels(backbone: schema.BackboneConfig) -> list[int]:
    """Channels of C2 to C5."""
    finest = backbone.width * (1 if backbone.name == "resnet18" else 4)
    return [finest << level for level in range(4)]


def _deeplab(config: schema.ExperimentConfig, task: str, classes: int) -> Facts:
    row = config.tasks[task].segmentation
    channels = _levels(config.backbone)
    dilation = [False, row.output_stride <= 8, row.output_stride <= 16]
    head = {
        "in_channels": channels[3],
        "num_classes": classes,
        "atrous_rates": list(row.rates),
        "channels": row.channels,
        "dropout": row.dropout,
    }
    auxiliary = {"in_channels": channels[2], "channels": classes}
    return {
        "resnet": _body(config) | {"replace_stride_with_dilation": dilation},
        "classifier": head,
        "aux_classifier": auxiliary if row.auxiliary_weight else None,
    }


def _faster_rcnn(config: schema.ExperimentConfig, task: str, classes: int) -> Facts:
    row, size = config.tasks[task].detection, config.tasks[task].image_size
    levels = [str(level) for level in range(4)]
    anchors: Facts = {
        "sizes": [[anchor] for anchor in row.anchor_sizes],
        "aspect_ratios": [list(row.anchor_ratios)] * len(row.anchor_sizes),
    }
    if size % pyramid.STRIDES[-1]:  # torchvision divides the size by the grid.
        anchors["strides"] = list(pyramid.anchor_strides(size))
    return {
        "resnet": _body(config),
        "backbone": {
            "return_layers": {f"layer{n + 1}": name for n, name in enumerate(levels)},
            "in_channels_list": _levels(config.backbone),
            "out_channels": row.channels,
        },
        "rpn_anchor_generator": anchors,
        "box_roi_pool": {
            "featmap_names": levels,
            "output_size": faster_rcnn.REGION_SIZE,
            "sampling_ratio": 2,
            "canonical_scale": regions.CANONICAL_PER_ANCHOR * row.anchor_sizes[0],
            "canonical_level": 4,
        },
        "box_head": {
            "in_channels": row.channels * faster_rcnn.REGION_SIZE**2,
            "representation_size": row.hidden,
        },
        "box_predictor": {
            "in_channels": row.hidden,
            "num_classes": classes,
        },
        "faster_rcnn": {
            "min_size": size,
            "max_size": size,
            "image_mean": [0.0, 0.0, 0.0],
            "image_std": [1.0, 1.0, 1.0],
            "size_divisible": 1,
            "rpn_pre_nms_top_n_train": row.proposals_before_nms,
            "rpn_pre_nms_top_n_test": row.proposals_before_nms,
            "rpn_post_nms_top_n_train": row.proposals,
            "rpn_post_nms_top_n_test": row.proposals,
            "rpn_batch_size_per_image": row.anchors_sampled,
            "box_batch_size_per_image": row.regions,
            "box_score_thresh": row.score_threshold,
            "box_nms_thresh": row.nms_threshold,
            "box_detections_per_img": row.detections,
        },
    }


_LAST = {  # the tensor that has one number for each class
    "classification": "fc.bias",
    "segmentation": "classifier.4.bias",
    "detection": "roi_heads.box_predictor.cls_score.bias",
}
_BUILDINGS: Mapping[str, Any] = {
    "backbone": _backbone,
    "classification": _resnet,
    "segmentation": _deeplab,
    "detection": _faster_rcnn,
}
