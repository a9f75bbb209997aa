"""Loads a model from a run, a backbone folder or an exported folder, and tries it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from mtpret_jax import config_checks, golden, inference, types
from mtpret_jax.predict import model as model_lib
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import files, networks

_EXPORTED, _TENSORS, _DESCRIBED = "config.json", "model.safetensors", "mtpret_jax"


def load(path: epath.PathLike, task: str = "") -> model_lib.Model:
    """A trained network with its pre-processing, checked.

    Args:
      path: Folder of a run that has ended (`<workdir>/runs/<run>`), its `backbone`, or
        a folder that `mtpret_jax export` wrote.
      task: Whose head, for a run that trained several; "" is then the backbone alone.
        A run that trained one gives that.

    Raises:
      FileNotFoundError: If there is no finished backbone.
      ValueError: If it is damaged, has no such task, or the golden picture does not
        come out as it did.
    """
    folder = epath.Path(path).expanduser()
    if (folder / _TENSORS).exists():
        described, exported = _read_exported(folder)
    else:
        if (folder / "backbone").is_dir():
            folder = folder / "backbone"
        described, exported = checkpoint.read_description(folder, {}), None
    where = os.fspath(folder)
    if "network" not in described:
        raise ValueError(
            f"{where} was written by a version that kept too little to predict with. "
            "Do the run, or the export, again."
        )
    known = [exported] if exported is not None else list(described["class_names"])
    if task:
        config_checks.require_known(task, filter(None, known), f"task of {where}")
    elif len(known) == 1:
        (task,) = known
    expected = golden.read(folder, task)
    try:
        if exported is None:
            tree = inference.part(checkpoint.load_backbone(folder, {})[0], task)
        else:
            tree = _read_tensors(folder, described, task)
        model = model_lib.Model(tree, described, task)
    except KeyError as error:
        raise ValueError(f"{where}: its description lacks {error}.") from error
    golden.check(
        expected,
        golden.outputs(model.network, tree, model.preparation),
        dtype=described["network"]["compute_dtype"],
        where=where,
    )
    return model


def _read_exported(folder: epath.Path) -> tuple[dict[str, Any], str]:
    """The description in an exported folder, and the task whose head it has."""
    path = folder / _EXPORTED
    try:
        facts = json.loads(path.read_text())
        return dict(facts[_DESCRIBED]), str(facts.get("task", ""))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{os.fspath(path)}: missing, damaged, or not written by `mtpret_jax "
            f"export` ({type(error).__name__}: {error}). Export the run again."
        ) from error


def _read_tensors(
    folder: epath.Path, described: Mapping[str, Any], task: str
) -> types.Tree:
    """Weights in torchvision's layout as a tree of ours."""
    path = folder / _TENSORS
    size = inference.preparation(described, task).image_size
    expected = inference.build(described, task).shapes(size)
    kind = described["tasks"][task]["kind"] if task else "backbone"
    tensors = files.read(path).tensors
    found = networks.from_torchvision(tensors, expected, kind, os.fspath(path))
    return found.tree
