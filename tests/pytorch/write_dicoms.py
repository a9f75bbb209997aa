"""Writes generated DICOM files, and the pictures that our reader makes of them.

    python tests/pytorch/write_dicoms.py FOLDER

`test_highdicom.py` reads the folder with highdicom, which need not be installed here.
"""

import dataclasses
import pathlib
import sys

import numpy as np
from pydicom import uid

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tfds_builders/images"))
import test_dicom_matrix as matrix  # pyright: ignore[reportMissingImports]

from tfds_builders.images import reader


def comparable(case: matrix.Case) -> matrix.Case | None:
    """The case as far as highdicom 0.28 reads it as PS3.3 says; None where it cannot.

    It reads no big endian, takes no pixels apart by HighBit or their sign, has no rule
    for windows that are invalid, and applies LINEAR to stored values, which rounds
    where a slope is not 1; tables it wants of 16 bits, and whole values for them.
    """
    is_plain = case.slope in (None, 1.0) and float(case.intercept).is_integer()
    tables = [table for table in (case.modality, case.table) if table]
    is_read = (
        case.syntax != uid.ExplicitVRBigEndian
        and case.bits <= 16
        and not (case.is_signed and (case.bits < case.allocated or case.modality))
        and all(table.bits == 16 and table.kind == "words" for table in tables)
        and (is_plain or not case.table)
    )
    if not is_read:
        return None
    is_linear = case.function in (None, "LINEAR")
    is_valid = case.windows and case.windows[0][1] > 1
    windows = case.windows if is_valid and (is_plain or not is_linear) else ()
    return dataclasses.replace(case, beside=0, high=case.bits - 1, windows=windows)


def main(folder: pathlib.Path) -> None:
    """Writes `<seed>.dcm` and, of all, `pictures.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for seed in range(matrix.COUNT):
        case = comparable(matrix.draw(seed))
        if case is not None:
            content = matrix.write(case)
            (folder / f"{seed}.dcm").write_bytes(content)
            pictures[str(seed)] = reader.read_image(content, dtype=np.uint8)
    np.savez(folder / "pictures.npz", **pictures)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
