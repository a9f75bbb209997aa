"""What the arms of a study are, in a line each."""

from __future__ import annotations

from collections.abc import Mapping

MEANING: Mapping[str, str] = {
    "scratch": "random weights",
    "imagenet": "weights from a file, such as those of ImageNet",
    "contrastive_single": "contrastive pre-training on the task's own images alone",
    "contrastive": "contrastive pre-training on the images of all sets (stage 1)",
    "joint_supervised": (
        "supervised pre-training on all tasks by turns of a few steps, from random "
        "weights; as many steps of each task as MTPret has"
    ),
    "continual_plain": (
        "stage 1, then each task once in a fixed order, each from the full learning "
        "rate, without memorization; as many steps of each task as MTPret has"
    ),
    "mtpret": "stage 1, then all tasks in turn with memorization and reshuffling",
    "control": (
        "stage 1, then as many steps of the task itself as MTPret had of it; for a "
        "task that is held out, stage 1 alone"
    ),
    "control_updates": (
        "stage 1, then as many updates as MTPret had in the whole of stage 2: of the "
        "task itself; for a task that is held out, of stage 1"
    ),
    "memorization_only": "MTPret without its schedule: each task once, fixed order",
    "schedule_only": "MTPret without memorization",
    "anchor_previous_only": (
        "MTPret with one anchor: to the weights before the current task"
    ),
    "anchor_pretrained_only": "MTPret with one anchor: to the weights of stage 1",
    "head_carried": "MTPret, whose head for the task is kept, too",
    "unetplusplus": "UNet++ from random weights, a network made for masks",
}
