"""Objects of the seven real DICOMs: all kinds are made, and `dciodvfy` takes them."""

import numpy as np
import pydicom

from mtpret_jax.dicom_objects import content, writer
from mtpret_jax.inference import answers, preprocessing
from tests.dicom_objects import check_objects, phantoms

# Of the patient's name as two of the files have it, a number without a family name.
AS_IN_THE_SOURCE = "Warning - Value dubious for this VR - (0x0010,0x0010)"


def test_real_files_have_all_kinds_of_objects(xray, tmp_path):
    files = sorted((xray / "dicom" / "files").glob("*.dcm"))
    make = writer.Writer(phantoms.stub(answers.Segmentation), content.KINDS)
    for file in files:
        pixels, _ = preprocessing.open_pixels(file, bit_depth=8)
        height, width = pixels.shape
        bright = np.zeros(pixels.shape, bool)
        bright[height // 4 : height // 2, width // 5 : width // 3] = True
        box = (width // 5, height // 4, width // 3, height // 2)
        phantom = phantoms.Phantom(b"", box, pydicom.Dataset(), bright)
        answer = phantoms.answer(answers.Segmentation, phantom)

        made, why = make(str(file), answer, phantoms.radiograph(phantom))

        assert not why
        for kind, written in made.items():
            path = tmp_path / f"{kind}.dcm"
            path.write_bytes(written)
            if kind in ("seg", "gsps"):
                row = check_objects.Written(kind, answers.Segmentation, phantom, path)
                assert check_objects.distance(row) in (0.0, 0.5)
            said = check_objects.messages(path) if check_objects.PROGRAM else []
            known = (*check_objects.EXPLAINED, AS_IN_THE_SOURCE)
            assert not [line for line in said if not line.startswith(known)]
