"""A model in torchvision's layout, for PyTorch: `model.safetensors`, `config.json`.

`config.json` says what the network is, what it expects of pixels, which class is which,
and the arguments by which torchvision builds it. In PyTorch, with
`docs/load_exported.py`, which needs nothing of this package:

    network = load_exported.load("exported")  # load_state_dict(strict=True)

A model with a head gives ResNet, DeepLabV3 or Faster R-CNN, one without gives the
ResNet. The stem takes three channels; one for a single channel is divided over three,
which is the same where grey is repeated.
"""

from __future__ import annotations

from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.inference import description
from mtpret_jax.weights import conversion, files, layouts
from tfds_builders import whole

Facts = dict[str, Any]
TENSORS, FACTS = "model.safetensors", "config.json"


def write(
    tree: types.Tree, described: description.Description, task: str, out: epath.PathLike
) -> Facts:
    """Writes a network and what describes it.

    Args:
      tree: What `networks.Network` takes.
      described: What the model is.
      task: The task whose head it has; "" for the backbone alone.
      out: Folder to write to, made if need be.

    Returns:
      What `config.json` holds.

    Raises:
      ValueError: If torchvision has no such network.
    """
    out = epath.Path(out)
    kind, layout = described.kind(task), layouts.LAYOUTS[described.kind(task)]
    row = described.tasks[task] if task else schema.TaskConfig()
    if lack := layout.refusal(row):
        raise ValueError(
            f"Run '{described.run}' trained {lack}, which torchvision has not. Export "
            "the run it started from, or another, for its backbone."
        )
    tensors, stem = conversion.to_torchvision(tree, kind)
    facts = _describe(described, task, layout) | {
        "stem": stem,
        "torchvision": layout.arguments(described.network, row, tensors),
    }
    out.mkdir(parents=True, exist_ok=True)
    head = {"format": "pt", "made_by": facts["made_by"], "kind": kind, "stem": stem}
    facts["sha256"] = files.write(out / TENSORS, tensors, head).sha256
    whole.write_json(out / FACTS, facts)
    return facts


def _describe(
    described: description.Description, task: str, layout: layouts.Layout
) -> Facts:
    """What `config.json` holds, but for what the tensors tell."""
    pixels: Facts = {
        "channels": "one grey channel, the same three times",
        "image_size": dict(described.image_size),
        "fit": described.fit,
        "resample": described.resample,
        "normalisation": described.normalisation,
    }
    if described.normalisation == "fixed":
        pixels["fixed"] = schema.as_dict(described.fixed)
    facts: Facts = {
        "made_by": f"mtpret_jax {described.mtpret_jax}",
        "kind": described.kind(task),
        "backbone": described.network.name,
        "computed_in": described.network.dtype,
        "origin": {
            name: getattr(described, name)
            for name in ("run", "stage", "parent", "steps", "pools")
        },
        "input": pixels,
    }
    if described.normalisation == "dataset":
        prepared = described.prepared_for(task)
        pixels |= {"pixel_mean": prepared.pixel_mean, "pixel_std": prepared.pixel_std}
    if not task:
        return facts
    pixels["image_size"] = described.image_size[task]
    facts |= {
        "task": task,
        "class_names": layout.class_names(described.class_names[task]),
    }
    return facts | layout.facts(described.tasks[task])
