"""Predictions drawn on the X-rays: some by place, the worst ones, and where they look.

Read from `runs/<run>/predictions/<task>/test.samples.npz` and `test.worst.npz`; a
study whose runs kept none has no such section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.report import collect, markup, pictures
from mtpret_jax.study import sentences
from tfds_builders import whole

Study = Mapping[str, Any]
Samples = dict[str, dict[str, np.ndarray]]
KEY = (
    '<p class="key soft"><span></span>ground truth'
    '<span class="prediction"></span>prediction</p>'
)


def section(workdir: epath.Path, study: Study, config: schema.ExperimentConfig) -> str:
    """The section of sample predictions; empty without pictures."""
    parts, count = [], config.report.samples
    for name, runs in (study["samples"] or {}).items():
        task = {
            **study["tasks"][name],
            "exclusive": config.tasks[name].exclusive,
        }
        placed, worst = (
            _read(
                {
                    # The run's task may be a variant of this one.
                    arm: collect.predictions(
                        workdir,
                        run,
                        config.runs[run].finetune.task,
                        f"{study['split']}.{file}.npz",
                    )
                    for arm, run in runs.items()
                }
            )
            for file in ("samples", "worst")
        )
        drawn = _by_place(name, task, placed, count) + _worst(name, task, worst, count)
        drawn += _attention(name, task, placed, count)
        if drawn:
            parts.append(f"<h3>{markup.text(name)}</h3>{drawn}")
    if not parts:
        return ""
    return f"<h2>Sample predictions</h2><p>{sentences.SAMPLES}</p>{KEY}{''.join(parts)}"


def _read(paths: Mapping[str, epath.Path]) -> Samples:
    """Arrays of each arm that kept any pictures."""
    found = {}
    for arm, path in paths.items():
        if path.exists():
            found[arm] = whole.read_arrays(path)
    return {arm: arrays for arm, arrays in found.items() if len(arrays["image"])}


def _by_place(name: str, task: Mapping[str, Any], samples: Samples, count: int) -> str:
    if not samples or not count:
        return ""
    image, caption = pictures.of_task(task, samples, count)
    return markup.figure(image, f"Samples of {name}.", caption)


def _worst(name: str, task: Mapping[str, Any], samples: Samples, count: int) -> str:
    """The worst of each arm, which are other images for other arms."""
    if not samples or not count:
        return ""
    groups = [samples]
    if task["kind"] == "classification":  # Its picture is of one image for all arms.
        groups = [{arm: arrays} for arm, arrays in samples.items()]
    parts = ["<h4>The worst of each arm</h4>"]
    for group in groups:
        image, _ = pictures.of_task(task, group, count)
        title = f"The worst in {name}: {', '.join(group)}."
        parts.append(markup.figure(image, title))
    return "".join(parts)


def _attention(name: str, task: Mapping[str, Any], samples: Samples, count: int) -> str:
    found = {arm: arrays for arm, arrays in samples.items() if "attention" in arrays}
    if not found or not count:
        return ""
    image = pictures.attention(found, class_names=task["class_names"], count=count)
    drawn = markup.figure(image, f"Grad-CAM in {name}.", sentences.ATTENTION)
    return f"<h4>Where each arm looks, in the first images</h4>{drawn}"
