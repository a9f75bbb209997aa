"""The arms of a study: what each means, starts from, changes and needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from mtpret_jax import config as schema

_FORGETFUL = dict(anchor_previous=0.0, anchor_pretrained=0.0, feature_memory=0.0)
_UNSCHEDULED = dict(reshuffle=False, cyclic=False)
# Or the last task would learn at the end of a curve that the first one began.
_ONE_PASS = dict(reshuffle=False, cyclic=True)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way of starting a fine-tuning.

    Attributes:
      meaning: A line for people.
      start: What the fine-tuning starts from: random weights, a file, stage 1 on the
        task's own set, stage 1 on all sets, stage 2 after it, or stage 2 alone.
      changes: Options of stage 2 that are not the study's own.
      segments: How the steps of stage 2 are dealt out to its tasks: as the study says,
        all of a task's at once, or by turns of a few.
      trains: The tasks of stage 2: all, the cell's own for as many steps as it has
        among all, or the cell's own for as many as all have together.
      untrained: What stands for stage 2 on a task that it does not train, which `own`
        would get no steps of: nothing else, arm contrastive, or more of stage 1.
      needs: The tasks that it can be had for: any, those that are not held out, or
        those that stage 2 trains.
      kinds: The kinds of task that it can be had for; none: any.
      stage_2_of: The arm whose stage 2 it starts from, if not its own.
      head: Whether the head of the task is new or carried on.
      is_network: Whether it has a network of its own, an option of the study.
      image_size: Side of its tasks' images, pixels; 0: the task's own.
    """

    meaning: str
    start: Literal["random", "file", "own set", "stage 1", "stage 2", "stage 2 alone"]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    segments: Literal["study's", "whole", "interleaved"] = "study's"
    trains: Literal["all", "own", "own for all"] = "all"
    untrained: Literal["", "contrastive", "longer"] = ""
    needs: Literal["", "not held out", "trained"] = ""
    kinds: tuple[str, ...] = ()
    stage_2_of: str = ""
    head: Literal["new", "carried"] = "new"
    is_network: bool = False
    image_size: int = 0


STAGE_1 = "contrastive"  # the arm whose start is the runs of stage 1 on all sets
CONTROL = "control"  # that others' forward transfer is measured against
ARMS: Mapping[str, Arm] = {
    "scratch": Arm("random weights", "random"),
    "contrastive_single": Arm(
        "contrastive pre-training on the task's own images alone",
        "own set",
        needs="not held out",
    ),
    STAGE_1: Arm(
        "contrastive pre-training on the images of all sets (stage 1)", "stage 1"
    ),
    "joint_supervised": Arm(
        "supervised pre-training on all tasks by turns of a few steps, from random "
        "weights; as many steps of each task as MTPret has",
        "stage 2 alone",
        {**_FORGETFUL, **_UNSCHEDULED},
        segments="interleaved",
    ),
    "continual_plain": Arm(
        "stage 1, then each task once in a fixed order, each from the full learning "
        "rate, without memorization; as many steps of each task as MTPret has",
        "stage 2",
        {**_FORGETFUL, **_ONE_PASS},
        segments="whole",
    ),
    "mtpret": Arm(
        "stage 1, then all tasks in turn with memorization and reshuffling", "stage 2"
    ),
    CONTROL: Arm(
        "stage 1, then as many steps of the task itself as MTPret had of it; for a "
        "task that is held out, stage 1 alone",
        "stage 2",
        _FORGETFUL,
        trains="own",
        untrained=STAGE_1,
    ),
    "control_updates": Arm(
        "stage 1, then as many updates as MTPret had in the whole of stage 2: of the "
        "task itself; for a task that is held out, of stage 1",
        "stage 2",
        _FORGETFUL,
        trains="own for all",
        untrained="longer",
    ),
    "memorization_only": Arm(
        "MTPret without its schedule: each task once, fixed order",
        "stage 2",
        _ONE_PASS,
        segments="whole",
    ),
    "schedule_only": Arm("MTPret without memorization", "stage 2", _FORGETFUL),
    "anchor_previous_only": Arm(
        "MTPret with one anchor: to the weights before the current task",
        "stage 2",
        dict(anchor_pretrained=0.0, feature_memory=0.0),
    ),
    "anchor_pretrained_only": Arm(
        "MTPret with one anchor: to the weights of stage 1",
        "stage 2",
        dict(anchor_previous=0.0, feature_memory=0.0),
    ),
    "head_carried": Arm(
        "MTPret, whose head for the task is kept, too",
        "stage 2",
        needs="trained",
        stage_2_of="mtpret",
        head="carried",
    ),
    "unetplusplus": Arm(
        "UNet++ from random weights, a network made for masks",
        "random",
        kinds=("segmentation",),
        is_network=True,
    ),
}


def arm(config: schema.ExperimentConfig, name: str) -> Arm:
    """An arm of the table, or that of a row of `config.encoders`."""
    if name in ARMS:
        return ARMS[name]
    row = config.encoders[name]
    file = row.weights.rpartition("/")[2]
    return Arm(f"{row.backbone.name} from {file}", "file", image_size=row.image_size)
