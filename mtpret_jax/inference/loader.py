"""Loads a model from a run, a backbone folder or an exported folder, and tries it."""

from __future__ import annotations

import os

from etils import epath

from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.inference import description, golden, networks, preprocessing
from mtpret_jax.inference import model as model_lib
from mtpret_jax.training import checkpoint
from mtpret_jax.weights import conversion, files
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
      ValueError: If it is damaged, has no such task, or the golden image does not
        come out as it did.
    """
    folder = epath.Path(path).expanduser()
    is_exported = (folder / _TENSORS).exists()
    if not is_exported and (folder / "backbone").is_dir():
        folder = folder / "backbone"
    where, exported, digest = os.fspath(folder), "", ""
    if is_exported:
        described, exported, digest = _read_exported(folder)
    else:
        table = checkpoint.read_description(folder, {}, _GIVE)
        described = description.from_json(
            table, os.fspath(folder / checkpoint.METADATA)
        )
    storage.tell_reader(where, {"reader": described.reader})
    if exported:
        rules.require_known(exported, described.class_names, f"task of {where}")
    known = [exported] if is_exported else list(described.class_names)
    if task:
        rules.require_known(task, filter(None, known), f"task of {where}")
    elif len(known) == 1:
        (task,) = known
    made = preprocessing.Preparation.of(described, task)
    expected = golden.read(folder, task, made.shape)
    shapes = networks.build(described, task).shapes(made.image_size)
    if is_exported:
        tree = _read_tensors(folder / _TENSORS, shapes, described, task, digest)
    else:
        wanted = networks.whole(shapes, task)
        tree = networks.part(checkpoint.load_backbone(folder, {}, wanted)[0], task)
    model = model_lib.Model(tree, described, task)
    golden.check(
        expected,
        golden.outputs(model.network, tree, model.preparation),
        dtype=described.network.dtype,
        where=where,
    )
    return model


def _read_exported(folder: epath.Path) -> tuple[description.Description, str, str]:
    """The description in an exported folder, its task, and its tensors' SHA-256."""
    path = folder / _EXPORTED
    facts = whole.read_json(path, (_DESCRIBED,), advice=_AGAIN)
    table, task = facts[_DESCRIBED], facts.get("task", "")
    if not isinstance(table, dict) or not isinstance(task, str):
        raise ValueError(
            f"{os.fspath(path)}: damaged, or not of `mtpret_jax export`. {_AGAIN}"
        )
    described = description.from_json(table, os.fspath(path))
    return described, task, str(facts.get("sha256", ""))


def _read_tensors(
    path: epath.Path,
    expected: types.Tree,
    described: description.Description,
    task: str,
    digest: str,
) -> types.Tree:
    """Weights in another library's layout as ours; of this SHA-256, if not ""."""
    found, where = files.read(path), os.fspath(path)
    if digest not in ("", found.sha256):
        raise ValueError(
            f"{where}: damaged, its SHA-256 is not the one in {_EXPORTED}. {_AGAIN}"
        )
    kind, network = described.kind(task), described.network
    return conversion.read(found.tensors, expected, kind, network, where).tree
