"""X-ray files to probabilities, grades, numbers, boxes, masks or points.

    mtpret_jax predict --model=runs/demo/runs/mtpret_opacity --out=answers scans/

Reads PNG, JPEG, TIFF, BMP and DICOM. Writes predictions.csv, predictions.jsonl and,
of segmentation, masks/; with --dicom=sr,seg,gsps,sc, DICOM objects that refer to their
image. A file that cannot be read is named, with the reason, and skipped; one that no
DICOM object can refer to is named. Then the exit code is 3. Started again, it goes on,
and tries skipped files anew; nothing is written over. Research software: not for
clinical use.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Sequence

from mtpret_jax.cli import command, devices, file_options
from mtpret_jax.dicom_objects import writer
from mtpret_jax.inference import loader, predictions, second_input
from mtpret_jax.inference import model as model_lib
from mtpret_jax.metrics import operating_points
from mtpret_jax.training import preemption


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    file_options.add_options(parser, out="folder of the results: new, or begun before")
    parser.add_argument(
        "--overlays", action="store_true", help="also draw boxes, outlines or points"
    )
    parser.add_argument(
        "--gradcam", action="store_true", help="also draw where a classifier looks"
    )
    parser.add_argument(
        "--dicom",
        default="",
        metavar="KINDS",
        help="also write DICOM objects: sr, seg, gsps, sc, joined by commas",
    )
    parser.add_argument(
        "--second_input", default="", help="told beside every file, such as M"
    )
    parser.add_argument(
        "--second_table", help="CSV that tells it: file, and its column"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code: 0, or 3 if files were skipped."""
    preemption.listen()
    devices.require()
    files = file_options.find(options)
    model = loader.load(options.model, options.task)
    objects = None
    if options.dicom:
        objects = writer.Writer(model, options.dicom.split(","))
    decided = model.description.decisions.get(model.task, {})
    if why := operating_points.shortfall(decided):
        file_options.say(options, why)
    second = _second(options, model, files)
    with contextlib.closing(file_options.Teller(options, len(files))) as tell:
        outcome = predictions.predict(
            model,
            files,
            pathlib.Path(options.out).expanduser(),
            batch_size=options.batch_size,
            draw=options.overlays,
            gradcam=options.gradcam,
            objects=objects,
            second=second,
            begin=tell.begin,
            progress=tell,
        )
    before = f", {outcome.before} done before" if outcome.before else ""
    bare = f", {outcome.bare} lack DICOM objects" if outcome.bare else ""
    file_options.say(
        options,
        f"{outcome.done} done{before}, {outcome.skipped} skipped{bare}: {options.out}",
    )
    file_options.tell_blank(options, outcome.blank, len(files))
    return command.SKIPPED if outcome.skipped or outcome.bare else command.DONE


def _second(
    options: argparse.Namespace, model: model_lib.Model, files: Sequence[str]
) -> second_input.Told:
    """What is told beside the files; says of how many it is not."""
    if options.second_input and options.second_table:
        raise ValueError("--second_input and --second_table: give one of the two.")
    if options.second_table:
        path = pathlib.Path(options.second_table).expanduser()
        found = second_input.of_table(model, files, path)
    else:
        found = second_input.of_all(model, files, options.second_input)
    unknown = len(files) - sum(place >= 0 for place in found.places.values())
    if model.second and unknown:
        file_options.say(
            options,
            f"Of {unknown} of {len(files)} it is not known which of "
            f"{', '.join(model.second)} they are; that is left open.",
        )
    return found
