"""`predict`: files to a folder of answers, masks and drawings."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mtpret_jax.inference import answers as answers_lib
from mtpret_jax.inference import model as model_lib
from mtpret_jax.inference import overlays, preprocessing, second_input, stream
from mtpret_jax.inference import results as results_lib

_NO_OBJECTS = "no_dicom"  # why a file lacks DICOM objects that were asked for


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many files were done, unreadable, and done by an earlier call.

    `blank` are those without content, `bare` those that lack DICOM objects which were
    asked for; both of all calls.
    """

    done: int
    skipped: int
    before: int
    blank: int
    bare: int = 0


class Objects(Protocol):
    """Makes DICOM objects of answers, as `dicom_objects.writer.Writer` does."""

    kinds: tuple[str, ...]

    def __call__(
        self,
        file: str,
        answer: answers_lib.Answer,
        radiograph: preprocessing.Radiograph,
    ) -> tuple[Mapping[str, bytes], str]:
        """Contents of files by kind, and why kinds are missing; "" if none is."""
        ...


def predict(
    model: model_lib.Model,
    files: Sequence[str],
    out: pathlib.Path,
    *,
    batch_size: int,
    draw: bool = False,
    gradcam: bool = False,
    objects: Objects | None = None,
    second: second_input.Told = second_input.NOTHING,
    begin: Callable[[int], None] = lambda before: None,
    progress: Callable[[stream.Item], None] = lambda item: None,
) -> Outcome:
    """Predicts every file that an earlier call has not.

    Args:
      model: With a head.
      files: Paths.
      out: Folder of the results; see `results`.
      batch_size: Images computed at once.
      draw: Also draw boxes, outlines or points on the images.
      gradcam: Also draw where the evidence for a classifier's first choice lies.
      objects: Makes DICOM objects of the answers; None for no such.
      second: What is told beside files.
      begin: Told how many files an earlier call has done.
      progress: Called after each file.

    Raises:
      ValueError: If the model has no head, or nothing of the kind can be drawn.
      FileExistsError: If the folder was begun otherwise.
    """
    model.require_head()
    _check_drawings(model, draw=draw, gradcam=gradcam)
    settings = {"model": model.describe(), "overlays": draw, "gradcam": gradcam}
    if second.source:
        settings["second"] = second.source
    if objects:
        settings["dicom"] = list(objects.kinds)
    wanted = [*model.answers.outputs, *(("attention",) if gradcam else ())]
    with results_lib.alone(out):
        results = results_lib.Results(out, settings)
        left = [file for file in files if file not in results.done]
        before, skipped = len(files) - len(left), 0
        begin(before)
        for item in stream.run(
            model, left, batch_size=batch_size, wanted=wanted, second=second.places
        ):
            try:
                row = _row(model, results, item, objects, draw=draw, gradcam=gradcam)
            except preprocessing.ERRORS as error:  # It was changed since it was read.
                item = stream.missed(item.file, error)
                row = _row(model, results, item, objects, draw=draw, gradcam=gradcam)
            results.add(row)
            if row.get(_NO_OBJECTS):
                item = dataclasses.replace(item, bare=row[_NO_OBJECTS])
            progress(item)
            skipped += bool(item.problem)
        results.settle(files)
        _write_tables(model, results, objects)
        return Outcome(len(left) - skipped, skipped, before, *_count_odd(results))


def _count_odd(results: results_lib.Results) -> tuple[int, int]:
    """How many files are blank, and how many lack DICOM objects."""
    blank = bare = 0
    for row in results.rows():
        blank += preprocessing.BLANK in row.get("warnings", ())
        bare += bool(row.get(_NO_OBJECTS))
    return blank, bare


def _write_tables(
    model: model_lib.Model, results: results_lib.Results, objects: Objects | None
) -> None:
    """Writes a row for each file and, where there may be several, these."""
    results.write_table(
        ["file", "status", "reason", "warnings", "width", "height"]
        + [*model.answers.columns(), "overlay", "gradcam"]
        + ([*objects.kinds, _NO_OBJECTS] if objects else [])
    )
    name, columns = model.answers.long_table
    if name:
        results.write_table(columns, name, model.answers.long_rows)


def _check_drawings(model: model_lib.Model, *, draw: bool, gradcam: bool) -> None:
    """Refuses drawings that the model's kind of task has not."""
    if gradcam and not model.answers.has_attention:
        raise ValueError(
            f"--gradcam shows where a classifier looks; of {model.kind} there is none."
        )
    if gradcam and not model.network.backbone.averages_cells:
        raise ValueError(
            "--gradcam needs a backbone whose features are the mean of its cells, such "
            f"as a ResNet or a DenseNet; of '{model.description.network.name}' they "
            "are not."
        )
    if draw and not model.answers.overlay:
        raise ValueError(
            f"--overlays draws boxes, outlines or points; of {model.kind} there are "
            "none. "
            "--gradcam shows where a classifier looks."
        )


def _row(
    model: model_lib.Model,
    results: results_lib.Results,
    item: stream.Item,
    objects: Objects | None,
    *,
    draw: bool,
    gradcam: bool,
) -> dict[str, Any]:
    """The line of a file, after its drawings are written."""
    if item.radiograph is None:
        status = results_lib.SKIPPED
        return {"file": item.file, "status": status, "reason": item.problem}
    answer = model.answer(item.outputs, item.radiograph)
    radiograph = item.radiograph
    row: dict[str, Any] = {"file": item.file, "status": "done"}
    if draw or gradcam:  # Read again: keeping the pixels of all would fill the memory.
        pixels, _ = preprocessing.open_pixels(item.file, bit_depth=8)
        if pixels.shape != (radiograph.height, radiograph.width):
            raise preprocessing.Unreadable("another image than when it was read first")
    if draw:
        drawn = model.answers.draw(pixels, answer)
        row["overlay"] = results.write("overlays", item.file, overlays.encode(drawn))
    if gradcam:
        top = int(np.argmax(item.outputs["probability"]))
        title = f"{model.classes[top]} {item.outputs['probability'][top]:.2f}"
        cells = item.outputs["attention"][..., top]
        drawn = overlays.attention(pixels, radiograph, cells, title)
        row["gradcam"] = results.write("gradcam", item.file, overlays.encode(drawn))
    if objects:
        contents, why = objects(item.file, answer, radiograph)
        for kind, content in contents.items():
            row[kind] = results.write(kind, item.file, content, ".dcm")
        row |= {_NO_OBJECTS: why} if why else {}
    mask = answer.pop("mask", None)
    if mask is not None:
        row["mask"] = results.write("masks", item.file, overlays.encode(mask))
    row |= {"width": radiograph.width, "height": radiograph.height}
    return row | {name: value for name, value in answer.items() if name != "kind"}
