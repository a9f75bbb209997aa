"""An export, called from Python."""

from __future__ import annotations

from mtpret_jax.api import places
from mtpret_jax.exports import folder, training_images


def export(
    workdir: places.PathLike,
    run: str,
    out: places.PathLike,
    *,
    layout: str = "",
    data_dir: places.PathLike | None = None,
) -> dict[str, float]:
    """Writes a run that has ended for PyTorch, Hugging Face and JAX.

    Args:
      workdir: Folder of the training.
      run: A row of its `config.runs`.
      out: Folder that is not there, or empty; complete afterwards, or not made.
      layout: The library whose names the weights get: "torchvision", "timm" or
        "transformers"; "" is torchvision for ResNets, else timm.
      data_dir: Folder of the prepared sets: adds `training.csv`, every image that the
        run and those before it learnt from.

    Returns:
      For each file that was read again, the largest difference of its features from
      those of the run, over the largest of them.

    Raises:
      FileExistsError: If `out` holds anything.
      FileNotFoundError: If there is no such work folder, or the run has not ended.
      ValueError: If there is no such run, or that library has no such network.
    """
    images = ""
    if data_dir is not None:
        images = training_images.table(places.path(workdir), run, places.path(data_dir))
    return folder.write(
        places.path(workdir), run, places.path(out), images=images, library=layout
    )
