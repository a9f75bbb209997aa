"""A stand-in for the COVID-19 image data collection: tree, columns and quirks."""

from __future__ import annotations

import csv
import io

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

SIDE = 48  # pixels; any size in the release


HEADER = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,intubated,"
    "intubation_present,went_icu,in_icu,needed_supplemental_O2,extubated,temperature,"
    "pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,view,modality,"
    "date,location,folder,filename,doi,url,license,clinical_notes,other_notes"
)
COVID = "Pneumonia/Viral/COVID-19"
_OTHERS = (
    "Pneumonia",
    "No Finding",
    "Pneumonia/Viral/SARS",
    "Pneumonia/Bacterial/Klebsiella",
    "Tuberculosis",
    "Pneumonia/Fungal/Pneumocystis",
)
_VIEWS = ("PA", "L", "AP Supine", "AP")
_NOTES = 'Opacities, "patchy",\nin both lungs.'


def write(folder: epath.Path, *, images: int = 12, seed: int = 0) -> None:
    """Writes the tree below `folder`/covid-chestxray-dataset.

    Args:
      folder: Made if it is not there.
      images: X-rays that can be read, two a patient; every other patient has COVID-19.
        Ten more rows or files are left out.
      seed: Another seed gives other images.
    """
    rng = np.random.default_rng(seed)
    root = folder / "covid-chestxray-dataset"
    rows: list[dict[str, str]] = []
    for index in range(images):
        patient = index // 2
        is_covid = patient % 2 == 0
        suffix = (".jpg", ".png", ".PNG", ".jpeg")[index % 4]
        picture = dummy_images.draw(rng, SIDE, SIDE + 8 * (index % 3))
        if is_covid:
            picture = dummy_images.fill(picture, dummy_images.box(rng, SIDE, SIDE))
        name = f"case-{patient}-day{index % 2}{suffix}"
        _write(root / "images" / name, _content(picture, index))
        rows.append(
            {
                "patientid": str(patient),
                "offset": " " if index == 3 else str(index % 2 * 4),
                "sex": ("M", "F", "")[patient % 3],
                "age": "65+" if index == 4 else str(30 + patient),
                "finding": COVID if is_covid else _OTHERS[patient // 2 % 6],
                "view": _VIEWS[index % 4],
                "modality": "X-ray",
                "folder": "images",
                "filename": name,
                "clinical_notes": _NOTES,
            }
        )
    rows += _odd_rows(root, rng, rows[0])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = HEADER.split(",")
    # The header ends with a comma, the rows with two.
    writer.writerow([*columns, ""])
    writer.writerows([*(row.get(name, "") for name in columns), "", ""] for row in rows)
    _write(root / "metadata.csv", text.getvalue().encode())
    masks = root / "annotations" / "lungVAE-masks"
    _write(masks / "case-0-day0_mask.png", _content(np.full((8, 8), 255, np.uint8), 1))


def _odd_rows(
    root: epath.Path, rng: np.random.Generator, usual: dict[str, str]
) -> list[dict[str, str]]:
    changes = [
        {"filename": "ct.png", "modality": "CT", "view": "Axial"},
        {"filename": "v.nii.gz", "modality": "CT", "folder": "volumes"},
        {"filename": "todo.png", "finding": "todo"},
        {"filename": "unknown.png", "finding": "Unknown"},
        {"filename": "gone.png"},
        {"filename": "elsewhere.png", "folder": "slices"},
        {"filename": "damaged.jpg"},
        {},  # the first row again
    ]
    names = ("ct.png", "todo.png", "unknown.png", "stranger.png", "damaged.jpg")
    for name in (*names, "elsewhere.png"):
        picture = dummy_images.draw(rng, SIDE, SIDE)
        content = dummy_images.encode(picture, name[-4:])
        cut = len(content) // 2 if name == "damaged.jpg" else len(content)
        _write(root / "images" / name, content[:cut])
    _write(root / "volumes" / "v.nii.gz", b"\x1f\x8bvolume")
    return [{**usual, **change} for change in changes]


def _content(picture: np.ndarray, index: int) -> bytes:
    """In turn: PNG whatever the name says, gray, with transparency, and colour."""
    if index % 4 == 3:
        return dummy_images.encode(picture, ".jpg", "RGB")
    return dummy_images.encode(picture, ".png", "RGBA" if index % 4 == 2 else "")
