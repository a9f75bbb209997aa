"""A model in a library's layout, for PyTorch: `model.safetensors`, `config.json`.

`config.json` says what the network is, what it expects of pixels, which class is which,
and the arguments by which a library builds it. In PyTorch, with
`docs/load_exported.py`, which needs nothing of this package:

    network = load_exported.load("exported")  # load_state_dict(strict=True)

A ResNet is torchvision's, with a head ResNet, DeepLabV3, Faster R-CNN or RetinaNet.
Another backbone is timm's, or as `weights.libraries` has it, with a head of classes at
most: the libraries have no common network for masks and boxes on it. The stem takes
three channels; one for a single channel is divided over three, which is the same where
grey is repeated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.inference import description
from mtpret_jax.weights import conversion, files, layouts, libraries
from tfds_builders import whole

Facts = dict[str, Any]
TENSORS, FACTS = "model.safetensors", "config.json"


def written(
    tree: types.Tree, described: description.Description, task: str, library: str
) -> tuple[types.Tree, description.Description, str]:
    """What of a model another library has: `write` takes it.

    Args:
      tree: What `networks.Network` takes.
      described: What the model is.
      task: The task whose head it has; "" for the backbone alone.
      library: One of `libraries.LIBRARIES`; "" for the family's own.

    Returns:
      The same three; "" and no head where no library has such a head or, for a backbone
      that is not a ResNet, this one has none of that kind; and a ViT's positions for
      this size of images.

    Raises:
      ValueError: If the library has no such network.
    """
    theirs = libraries.find(described.network, described.side(task), library)
    layout = layouts.LAYOUTS[described.kind(task)]
    is_dense = layout.is_dense and theirs is not None and bool(theirs.head)
    if layout.is_ours or not (theirs is None or is_dense):
        tree, task = {"backbone": tree["backbone"]}, ""
    if theirs is None:
        return tree, described, task
    network, body = libraries.for_side(
        described.network, tree["backbone"], described.side(task)
    )
    described = dataclasses.replace(described, network=network)
    return tree | {"backbone": body}, described, task


def write(
    tree: types.Tree,
    described: description.Description,
    task: str,
    out: epath.PathLike,
    *,
    library: str = "",
) -> Facts:
    """Writes a network and what describes it.

    Args:
      tree: What `networks.Network` takes; see `written`.
      described: What the model is.
      task: The task whose head it has; "" for the backbone alone.
      out: Folder to write to, made if need be.
      library: See `written`.

    Returns:
      What `config.json` holds.

    Raises:
      ValueError: If the library has no such network.
    """
    out = epath.Path(out)
    theirs = libraries.find(described.network, described.side(task), library)
    kind, layout = described.kind(task), layouts.LAYOUTS[described.kind(task)]
    row = described.tasks[task] if task else schema.TaskConfig()
    if lack := layout.refusal(row):
        raise ValueError(
            f"Run '{described.run}' trained {lack}, which torchvision has not. Export "
            "the run it started from, or another, for its backbone."
        )
    if theirs is None:
        tensors, stem = conversion.to_torchvision(tree, kind)
        built = {"torchvision": layout.arguments(described.network, row, tensors)}
    else:
        tensors, stem = conversion.write(tree, kind, described.network, theirs)
        names = described.class_names[task] if task else ()
        built = theirs.facts(len(layout.outputs(names)))
    facts = _describe(described, task, layout) | {"stem": stem} | built
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
        "class_names": layout.class_names(
            described.class_names[task], described.tasks[task]
        ),
    }
    if task in described.scales:
        facts["scale"] = schema.as_dict(described.scales[task])
    return facts | layout.facts(described.tasks[task])
