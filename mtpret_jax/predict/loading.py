"""Loads a model from a run, a backbone folder or an exported folder, and tries it."""

from __future__ import annotations

import os

from etils import epath

from mtpret_jax import config_checks, golden, inference
from mtpret_jax.predict import model as model_lib
from mtpret_jax.training import checkpoint


def load(path: epath.PathLike, task: str = "") -> model_lib.Model:
    """A trained network with its pre-processing, checked.

    Args:
      path: Folder of a run that has ended (`<workdir>/runs/<run>`), or its `backbone`.
      task: Whose head, for a run that trained several. One that trained one gives that.

    Raises:
      FileNotFoundError: If there is no finished backbone.
      ValueError: If it is damaged, has no such task, or the golden picture does not
        come out as it did.
    """
    folder = epath.Path(path).expanduser()
    if (folder / "backbone").is_dir():
        folder = folder / "backbone"
    described = checkpoint.read_description(folder, {})
    if "network" not in described:
        raise ValueError(
            f"{os.fspath(folder)} was written by a version before predictions from "
            "folders. Do the run again, or export it."
        )
    known = described["class_names"]
    if task:
        config_checks.require_known(task, known, f"task of {os.fspath(folder)}")
    elif len(known) == 1:
        (task,) = known
    expected = golden.read(folder, task)
    tree, _ = checkpoint.load_backbone(folder, {})
    part = inference.part(tree, task)
    model = model_lib.Model(part, described, task)
    golden.check(
        expected,
        golden.outputs(model.network, part, model.preparation),
        dtype=described["network"]["compute_dtype"],
        where=os.fspath(folder),
    )
    return model
