"""`predict`: files to a folder of answers, masks, and pictures of what was found."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mtpret_jax.inference import journal as journal_lib
from mtpret_jax.inference import model as model_lib
from mtpret_jax.inference import overlays, reading, stream

Drawing = Callable[[np.ndarray, Any, Sequence[str]], np.ndarray]
DRAWINGS: dict[str, Drawing] = {
    "detection": overlays.boxes,
    "segmentation": overlays.outlines,
}

WANTED = {
    "classification": ("probability",),
    "detection": ("box", "score", "class", "valid"),
    "segmentation": ("segmentation",),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many files were done, unreadable, and done by an earlier call.

    `blank` are those without content, of all calls.
    """

    done: int
    skipped: int
    before: int
    blank: int


def predict(
    model: model_lib.Model,
    files: Sequence[str],
    out: pathlib.Path,
    *,
    batch_size: int,
    draw: bool = False,
    gradcam: bool = False,
    begin: Callable[[int], None] = lambda before: None,
    progress: Callable[[stream.Item], None] = lambda item: None,
) -> Outcome:
    """Predicts every file that an earlier call has not.

    Args:
      model: With a head.
      files: Paths.
      out: Folder of the results; see `journal`.
      batch_size: Pictures computed at once.
      draw: Also draw boxes or outlines on the pictures.
      gradcam: Also draw where the evidence for a classifier's first choice lies.
      begin: Told how many files an earlier call has done.
      progress: Called after each file.

    Raises:
      ValueError: If the model has no head, or nothing of the kind can be drawn.
      FileExistsError: If the folder was begun otherwise.
    """
    model.require_head()
    if gradcam and model.kind != "classification":
        raise ValueError(f"--gradcam is for classification, this is {model.kind}.")
    if draw and model.kind not in DRAWINGS:
        raise ValueError(
            f"--overlays draws boxes or outlines; of {model.kind} there are none. "
            "--gradcam shows where a classifier looks."
        )
    settings = {"model": model.describe(), "overlays": draw, "gradcam": gradcam}
    wanted = [*WANTED[model.kind], *(("attention",) if gradcam else ())]
    with journal_lib.alone(out):
        journal = journal_lib.Journal(out, settings)
        left = [file for file in files if file not in journal.done]
        journal.forget(set(left))
        before, skipped = len(files) - len(left), 0
        begin(before)
        for item in stream.run(model, left, batch_size=batch_size, wanted=wanted):
            try:
                row = _row(model, journal, item, draw=draw, gradcam=gradcam)
            except reading.ERRORS as error:  # It was changed since it was read.
                item = stream.missed(item.file, error)
                row = _row(model, journal, item, draw=draw, gradcam=gradcam)
            journal.add(row)
            progress(item)
            skipped += bool(item.problem)
        journal.sort(files)
        journal.write_table(_columns(model))
        blank = sum(reading.BLANK in row.get("warnings", ()) for row in journal.rows())
    return Outcome(len(left) - skipped, skipped, before, blank)


def _row(
    model: model_lib.Model,
    journal: journal_lib.Journal,
    item: stream.Item,
    *,
    draw: bool,
    gradcam: bool,
) -> dict[str, Any]:
    """The line of a file, after its pictures are written."""
    if item.radiograph is None:
        status = journal_lib.SKIPPED
        return {"file": item.file, "status": status, "reason": item.problem}
    answer = model.answer(item.outputs, item.radiograph)
    radiograph = item.radiograph
    row: dict[str, Any] = {"file": item.file, "status": "done"}
    if draw or gradcam:  # Read again: keeping the pixels of all would fill the memory.
        pixels, _ = reading.open_pixels(item.file, bit_depth=8)
        if pixels.shape != (radiograph.height, radiograph.width):
            raise reading.Unreadable("another picture than when it was read first")
    if draw:
        drawn = DRAWINGS[model.kind](pixels, answer, model.classes)
        row["overlay"] = journal.write("overlays", item.file, overlays.encode(drawn))
    if gradcam:
        top = int(np.argmax(item.outputs["probability"]))
        title = f"{model.classes[top]} {item.outputs['probability'][top]:.2f}"
        cells = item.outputs["attention"][..., top]
        drawn = overlays.attention(pixels, radiograph, cells, title)
        row["gradcam"] = journal.write("gradcam", item.file, overlays.encode(drawn))
    mask = answer.pop("mask", None)
    if mask is not None:
        row["mask"] = journal.write("masks", item.file, overlays.encode(mask))
    row |= {"width": radiograph.width, "height": radiograph.height}
    return row | {name: value for name, value in answer.items() if name != "kind"}


def _columns(model: model_lib.Model) -> list[str]:
    """Of the table: the same for every file of a model."""
    by_class = {
        "classification": ("probability", "calibrated", "decision"),
        "segmentation": ("share",),
        "detection": (),
    }
    columns = ["file", "status", "reason", "warnings", "width", "height"]
    if model.is_exclusive:
        columns.append("predicted")
    columns += [f"{part}:{c}" for part in by_class[model.kind] for c in model.classes]
    more = {"detection": ["boxes"], "segmentation": ["mask"], "classification": []}
    return [*columns, *more[model.kind], "overlay", "gradcam"]
