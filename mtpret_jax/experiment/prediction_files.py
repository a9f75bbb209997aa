"""What a run predicted, on disk: which images, and the records of each."""

from __future__ import annotations

import io

import jax
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.training import evaluation
from tfds_builders import whole
from tfds_builders.sources import cells


def folder(run: epath.Path, row: schema.RunConfig) -> epath.Path:
    """Where the predictions of a run's one task lie in the folder of the run."""
    return run / "predictions" / row.tasks[0]


def write_predictions(
    folder: epath.Path, source: sources.Source, records: evaluation.Records
) -> None:
    """Writes `<split>.csv`, which images these are, and `<split>.npz`, the records.

    Args:
      folder: Folder of the predictions; made when missing.
      source: The split that was predicted.
      records: As `evaluation.evaluate` gives them.
    """
    text = io.StringIO(newline="")
    writer = cells.Writer(text)
    writer.writerow(["record", "image_id", "group"])
    for record in records["record"]:
        entry = source.index[record]
        writer.writerow([record, entry["image_id"], entry["group"]])
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        whole.write(folder / f"{source.split}.csv", text.getvalue())
    write_arrays(folder / f"{source.split}.npz", records)


def write_arrays(path: epath.Path, arrays: evaluation.Records) -> None:
    """Writes named arrays, compressed, from the first process."""
    if jax.process_index() == 0:
        whole.write_arrays(path, arrays)
