"""The list of images that a run and those before it have learnt from."""

from __future__ import annotations

import io
import pathlib

from mtpret_jax.audit import exclusions
from mtpret_jax.data import sources
from mtpret_jax.exports import training
from tfds_builders import whole
from tfds_builders.sources import cells


def table(workdir: pathlib.Path, run: str, data_dir: pathlib.Path) -> str:
    """A CSV of set, image and what it was read for.

    All of a training split counts, also where a run used a share of its labels.

    Args:
      workdir: The folder of the training.
      run: A row of its `config.runs`.
      data_dir: The folder of the prepared sets.

    Raises:
      FileNotFoundError: If the work folder or a prepared set is not there.
      ValueError: If a prepared set is not the one of the training.
    """
    config = training.read_config(workdir)
    purposes = training.purposes(config, run)
    with training.reading(workdir / training.SETS) as known:
        made_of = {name: known[name]["records_sha256"] for name in purposes}
    listed = workdir / "audit" / exclusions.FILE
    left_out = {}
    if listed.exists():
        left_out = exclusions.by_dataset(exclusions.parse(whole.read(listed).decode()))

    def is_clean(reason: str) -> bool:
        """Whether what was read for it left out what the audit found."""
        reader = reason.removesuffix(training.IMAGES_ALONE)
        return reader != reason and config.runs[reader].contrastive.pool == "clean"

    text = io.StringIO(newline="")
    writer = cells.Writer(text)
    writer.writerow(["dataset", "image_id", "for"])
    for name, reasons in purposes.items():
        row = config.datasets[name]
        folder = sources.locate(data_dir, name, row)
        made = sources.describe(folder, row.splits)
        if made["records_sha256"] != made_of[name]:
            raise ValueError(
                f"--data_dir: dataset '{name}' in {folder} is not the one that the "
                "run learnt from; give the folder of the training."
            )
        for entry in sources.open_prepared(folder, "train", row.splits).index:
            image = entry["image_id"]
            read_for = [
                reason
                for reason in reasons
                if not (is_clean(reason) and image in left_out.get(name, ()))
            ]
            if read_for:
                writer.writerow([name, image, "; ".join(read_for)])
    return text.getvalue()
