"""Writes the folder, reads it again and compares, before it is called done."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax.config import rules
from mtpret_jax.data import transforms
from mtpret_jax.exports import card, serialised, torch_layout, training
from mtpret_jax.inference import golden, loader, preprocessing, results
from mtpret_jax.inference import model as model_lib
from mtpret_jax.weights import layouts
from tfds_builders import whole

PREPROCESSOR, IMAGES = "preprocessor_config.json", "training.csv"
Facts = dict[str, Any]
_RESAMPLE = {
    "area": "mean over the area, then bilinear",
    "bicubic": "bicubic",
    "gaussian": "gaussian, then bilinear",
}


def write(
    workdir: pathlib.Path,
    run: str,
    out: pathlib.Path,
    *,
    images: str = "",
    library: str = "",
) -> dict[str, float]:
    """Writes a run that has ended for PyTorch, Hugging Face and JAX.

    Args:
      workdir: The folder of the training.
      run: A row of its `config.runs`.
      out: Folder that is not there, or empty; complete or not made.
      images: Content of the list of training images; "" leaves it out.
      library: Whose layout the weights get; see `torch_layout.written`.

    Returns:
      For each file that was read again, the largest difference of its features from
      those of the run, over the largest of them.

    Raises:
      FileExistsError: If `out` holds anything.
      FileNotFoundError: If there is no such work folder, or the run has not ended.
      ValueError: If there is no such run, its kind can't be written, or what was
        written differs from the run.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"--out: {out} is not an empty folder, and nothing is written over. Give "
            "another, or remove it."
        )
    config = training.read_config(workdir)
    rules.require_known(run, config.runs, "run in --run")
    model, expected = _read(workdir / "runs" / run / "backbone", library)
    part = out.with_name(f"{out.name}.part")
    with results.alone(part):
        for left in part.iterdir():  # By one that was killed.
            left.unlink()
        try:
            differences = _fill(model, expected, part, images=images, library=library)
            card.write(workdir, config, run, model, differences, part)
            whole.seal(part)
            if out.exists():
                out.rmdir()
            part.replace(out)
            whole.sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return differences


def _read(
    backbone: pathlib.Path, library: str
) -> tuple[model_lib.Model, dict[str, np.ndarray]]:
    """What of a run is written, and its golden outputs; tells what is left out."""
    trained = loader.load(backbone)
    model = model_lib.Model(
        *torch_layout.written(trained.tree, trained.description, trained.task, library)
    )
    if model.task == trained.task:
        shape = model.preparation.shape
        return model, golden.read(epath.Path(backbone), model.task, shape)
    sys.stderr.write(
        f"Only the backbone is written: with '{model.description.network.name}', that "
        f"library has no such head for {trained.kind}.\n"
    )
    return model, _golden(model)


def _fill(
    model: model_lib.Model,
    expected: dict[str, np.ndarray],
    out: pathlib.Path,
    *,
    images: str,
    library: str,
) -> dict[str, float]:
    """Writes all but the card; `expected` is what the run made of the golden image."""
    facts: Facts = {"model_type": "mtpret_jax"}
    facts |= torch_layout.write(
        model.tree, model.description, model.task, out, library=library
    )
    golden.write(epath.Path(out), {model.task: expected})
    outputs = layouts.LAYOUTS[model.kind].outputs(facts.get("class_names") or [])
    facts |= {
        "architectures": facts.get("architectures", [facts["backbone"]]),
        "id2label": dict(enumerate(outputs)),
        "mtpret_jax": model.description.to_json(),
    }
    whole.write_json(out / torch_layout.FACTS, facts)
    whole.write_json(out / PREPROCESSOR, preprocessor(model))
    if images:
        whole.write(out / IMAGES, images)
    shape = model.preparation.shape
    content = serialised.serialise(model.network, model.tree, shape)
    whole.write(out / serialised.FILE, content)
    return _compare(out, model, expected)


def _golden(model: model_lib.Model) -> dict[str, np.ndarray]:
    return golden.outputs(model.network, model.tree, model.preparation)


def _compare(
    out: pathlib.Path, model: model_lib.Model, expected: dict[str, np.ndarray]
) -> dict[str, float]:
    """Reads everything again; the differences, which `golden.check` found small."""
    dtype = model.description.network.dtype
    again = loader.load(out)
    found = {torch_layout.TENSORS: _golden(again)}
    called = serialised.call(
        (out / serialised.FILE).read_bytes(), expected["input"][np.newaxis]
    )
    found[serialised.FILE] = golden.comparable(called) | {"input": expected["input"]}
    return {
        name: golden.check(expected, outputs, dtype=dtype, where=os.fspath(out / name))
        for name, outputs in found.items()
    }


def preprocessor(model: model_lib.Model) -> Facts:
    """What is done to an image first, under Hugging Face's names where it has any."""
    made = model.preparation
    mean, deviation = _channels(made.statistics)
    facts: Facts = {
        "image_processor_type": "mtpret_jax.inference.preprocessing.Preparation",
        "do_resize": True,
        "size": {"height": made.image_size, "width": made.image_size},
        "fit": made.fit,
        "resample": _RESAMPLE[made.resample],
        "stored_longest_side": made.longest_side,
        "stored_bit_depth": made.bit_depth,
        "do_rescale": True,
        "rescale_factor": 1 / (2**made.bit_depth - 1),
        "do_normalize": True,
        "normalisation": model.description.normalisation,
        "image_mean": mean,
        "image_std": deviation,
        "padding_after_normalisation": 0.0,
        "channels": "one grey channel, bright where rays were stopped",
    }
    return facts | _of_transformers(made)


def _of_transformers(made: preprocessing.Preparation) -> Facts:
    """Its names for the rest, where a processor of its own can do the same."""
    is_whole = not made.longest_side and made.bit_depth == 8 and made.statistics
    if not is_whole or made.resample != "bicubic" or made.fit == "pad":
        return {}
    square = {"height": made.image_size, "width": made.image_size}
    is_cut = made.fit == "crop"
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "size": {"shortest_edge": made.image_size} if is_cut else square,
        "resample": 3,  # Pillow's number for bicubic
        "do_center_crop": is_cut,
        "crop_size": square,
    }


def _channels(statistics: transforms.Statistics | None) -> list[list[float] | None]:
    """Mean and deviation of each of three channels, as processors want them."""
    if statistics is None:
        return [None, None]
    return [np.broadcast_to(row, 3).tolist() for row in statistics]
