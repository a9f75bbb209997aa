"""Loads a model from a run, a backbone folder or an exported folder, and tries it."""

from __future__ import annotations

import os
from typing import Any

from etils import epath

from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.inference import golden, predictor
from mtpret_jax.inference import model as model_lib
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import files, networks
from tfds_builders import storage, whole

_EXPORTED, _TENSORS, _DESCRIBED = "config.json", "model.safetensors", "mtpret_jax"
_GIVE = "the folder of a run that has ended, or an exported folder"
_AGAIN = "Copy the folder again, or export the run again."


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
        described, exported, digest = _read_exported(folder)
    else:
        if (folder / "backbone").is_dir():
            folder = folder / "backbone"
        described = checkpoint.read_description(folder, {}, _GIVE)
        exported, digest = None, ""
    where = os.fspath(folder)
    source = checkpoint.METADATA if exported is None else _EXPORTED
    storage.tell_reader(where, described)
    predictor.check(described, os.fspath(folder / source))
    if exported:
        rules.require_known(exported, described["class_names"], f"task of {where}")
    known = [exported] if exported is not None else list(described["class_names"])
    if task:
        rules.require_known(task, filter(None, known), f"task of {where}")
    elif len(known) == 1:
        (task,) = known
    size = predictor.preparation(described, task).image_size
    expected = golden.read(folder, task, size)
    shapes = predictor.build(described, task).shapes(size)
    if exported is None:
        wanted = predictor.whole(shapes, task)
        tree = predictor.part(checkpoint.load_backbone(folder, {}, wanted)[0], task)
    else:
        kind = described["tasks"][task]["kind"] if task else "backbone"
        tree = _read_tensors(folder / _TENSORS, shapes, kind, digest)
    model = model_lib.Model(tree, described, task)
    golden.check(
        expected,
        golden.outputs(model.network, tree, model.preparation),
        dtype=described["network"]["compute_dtype"],
        where=where,
    )
    return model


def _read_exported(folder: epath.Path) -> tuple[dict[str, Any], str, str]:
    """The description in an exported folder, its task, and its tensors' SHA-256."""
    path = folder / _EXPORTED
    facts = whole.read_json(path, (_DESCRIBED,), advice=_AGAIN)
    described, task = facts[_DESCRIBED], facts.get("task", "")
    if not isinstance(described, dict) or not isinstance(task, str):
        raise ValueError(
            f"{os.fspath(path)}: damaged, or not of `mtpret_jax export`. {_AGAIN}"
        )
    return described, task, str(facts.get("sha256", ""))


def _read_tensors(
    path: epath.Path, expected: types.Tree, kind: str, digest: str
) -> types.Tree:
    """Weights in torchvision's layout as a tree of ours; of this SHA-256, if not ""."""
    found, where = files.read(path), os.fspath(path)
    if digest not in ("", found.sha256):
        raise ValueError(
            f"{where}: damaged, its SHA-256 is not the one in {_EXPORTED}. {_AGAIN}"
        )
    return networks.from_torchvision(found.tensors, expected, kind, where).tree
