"""Writes objects of 200 phantoms, reads them back, and prints what `dciodvfy` says.

    python -m tests.dicom_objects.check_objects [FOLDER]

`dciodvfy` is a program of dicom3tools, a package of Debian.
"""

import collections
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import highdicom
import numpy as np
import pydicom

from mtpret_jax.dicom_objects import content, writer
from mtpret_jax.inference import answers
from tests.dicom_objects import phantoms

KINDS = (
    answers.Detection,
    answers.Segmentation,
    answers.Landmarks,
    answers.Regression,
    answers.Classification,
    answers.Ordinal,
)
PROGRAM = shutil.which("dciodvfy")
# What `dciodvfy` of 2022 says of right objects; docs/dicom.md has the reasons.
EXPLAINED = (
    "Warning - Missing attribute or value that would be needed to build DICOMDIR",
    "Warning - Unrecognized defined term <99MTPRET>",
    "Warning - is only permitted to be empty when actually unknown",
)


@dataclasses.dataclass(frozen=True)
class Written:
    """An object: its kind, the answer and the phantom that it is of, its path."""

    kind: str
    answer: type[answers.Answers]
    phantom: phantoms.Phantom
    path: pathlib.Path


def write(folder: pathlib.Path, seeds: Sequence[int]) -> Iterator[Written]:
    """Writes all objects of phantoms."""
    makers = {
        kind: writer.Writer(phantoms.stub(kind), content.CONTENTS[kind].kinds)
        for kind in KINDS
    }
    for seed in seeds:
        phantom = phantoms.draw(seed)
        file = folder / f"{seed}.dcm"
        file.write_bytes(phantom.content)
        for kind, make in makers.items():
            said = phantoms.answer(kind, phantom)
            made, why = make(str(file), said, phantoms.radiograph(phantom))
            if why:
                raise RuntimeError(f"phantom {seed}, {kind.__name__}: {why}")
            for name, written in made.items():
                path = folder / f"{seed}-{kind.__name__}-{name}.dcm"
                path.write_bytes(written)
                yield Written(name, kind, phantom, path)


def distance(written: Written) -> float | None:
    """Pixels between the known place and the object's; None where it has no place.

    Of a picture: 0 where the phantom lies in it as it is.
    """
    x0, y0, x1, y1 = written.phantom.box
    expected = np.array([[x0, y0], [x1, y1]], float)
    if written.answer is answers.Landmarks:
        expected = np.array([[x0, y1], [x0, y1]], float)
    data = pydicom.dcmread(written.path)
    if written.kind == "sc":
        return _off(data, written.phantom.bright)
    if written.kind == "seg":
        image = highdicom.seg.Segmentation.from_dataset(data)
        mask = image.pixel_array[0]
        image._db_con.close()  # It would be told of as left open.
        rows, columns = np.nonzero(mask)
        found = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]])
        return float(abs(found + [[0, 0], [1, 1]] - expected).max())
    if written.kind == "gsps":
        graphic = data.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
        points = np.reshape(graphic.GraphicData, (-1, 2))
    else:
        report = highdicom.sr.ComprehensiveSR.from_dataset(data)
        rois = report.content.get_planar_roi_measurement_groups()
        if not rois:
            return None
        points = rois[0].roi.value
    found = np.stack([points.min(0), points.max(0)])
    return float(abs(found - expected).max())


def _off(data: Any, bright: np.ndarray) -> float:
    """0 where a picture, but for lines and words, is bright where the phantom is.

    What lies within four pixels of a line or a letter is left out.
    """
    pixels = data.pixel_array.astype(int)
    is_grey = (np.ptp(pixels, axis=-1) == 0) & (pixels[..., 0] > 0)
    far = cv2.erode(is_grey.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    wrong = far & ((pixels[..., 0] > 215) != bright)
    return float("inf") if wrong.any() else 0.0


def messages(path: pathlib.Path) -> list[str]:
    """Errors and warnings of `dciodvfy`, without the values of one file."""
    done = subprocess.run(
        [str(PROGRAM), str(path)],
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    said = [
        line
        for line in (done.stderr + done.stdout).splitlines()
        if line.startswith(("Error", "Warning"))
    ]
    return [re.sub(r"\d+\.\d[\d.]+|item \d+|\[\d+\]", "#", line) for line in said]


def main(folder: pathlib.Path) -> None:
    """Prints how far objects lie off, and a table: kind, in how many, message."""
    objects: collections.Counter[str] = collections.Counter()
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    off: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for written in write(folder, range(phantoms.COUNT)):
        objects[written.kind] += 1
        found.update((written.kind, said) for said in set(messages(written.path)))
        if (apart := distance(written)) is not None:
            off[written.kind, written.answer.__name__].append(apart)
    say = sys.stdout.write
    say(f"objects: {dict(objects)}\n")
    for (kind, answer), apart in off.items():
        far = max(apart)
        say(f"{kind:5} {answer:13} {len(apart)} objects, {far:.2f} pixels off\n")
    for (kind, message), count in sorted(found.items()):
        say(f"{kind:5}{count:5}  {message}\n")


if __name__ == "__main__":
    if not PROGRAM:
        sys.exit("dciodvfy is not found: install dicom3tools.")
    if len(sys.argv) > 1:
        main(pathlib.Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(pathlib.Path(scratch))
