"""Invented files in the shape of the Indiana release."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

LAYOUTS = ("openi", "raddar", "dicom")

# Major terms of reports in turn, and the label that they mean.
TERMS = (
    (("normal",), "normal"),
    (("Cardiomegaly/borderline", " Pulmonary Artery/enlarged "), "abnormal"),
    ((" normal ",), "normal"),
    (("Opacity/lung/base/left",), "abnormal"),
    (("normal",), "normal"),
    (("Calcified Granuloma/lung",), "abnormal"),
    (("No Indexing",), ""),
)
_PER_REPORT = (2, 2, 1, 3, 2, 2, 2, 0)  # images of reports in turn
_UNKNOWN = "X" * 4  # what stands for a name or a date


def reports(images: int) -> list[tuple[int, tuple[str, ...], list[str]]]:
    """Number, major terms and ids of the images of each report."""
    found = []
    left, turn = images, 0
    while left > 0:
        number = turn + turn // 5 + 1
        count = min(left, _PER_REPORT[turn % len(_PER_REPORT)])
        ids = [_id(number, image) for image in range(count)]
        found.append((number, TERMS[turn % len(TERMS)][0], ids))
        left, turn = left - count, turn + 1
    return found


def write(
    folder: epath.Path, *, images: int = 42, seed: int = 0, layout: str = "openi"
) -> None:
    """Writes a release; of two images in a report the second is lateral.

    Args:
      folder: Becomes the root of the release.
      images: How many.
      seed: Another seed gives other images.
      layout: "openi", "dicom" for its DICOM files, every other one MONOCHROME1, or
        "raddar" for the mirror with tables.
    """
    rng = np.random.default_rng(seed)
    is_openi = layout != "raddar"
    place = folder if is_openi else folder / "images" / "images_normalized"
    for path in (place, *([folder / "ecgen-radiology"] if is_openi else [])):
        path.mkdir(parents=True, exist_ok=True)
    rows = ["uid,MeSH,Problems,image,indication,comparison,findings,impression"]
    views = ["uid,filename,projection"]
    for number, terms, ids in reports(images):
        if is_openi:
            path = folder / "ecgen-radiology" / f"{number}.xml"
            path.write_text(_xml(number, terms, ids))
        rows.append(f'{number},{";".join(terms)},x,x,"pain, {_UNKNOWN}",,"a\nb",')
        for position, key in enumerate(ids):
            is_ill = "normal" not in terms[0]
            spot = (0.3 + 0.4 * rng.random(), 0.3 + 0.4 * rng.random())
            pixels = dummy_images.draw(
                rng, 44 + 4 * (position % 2), 40, [spot] if is_ill else [], radius=0.15
            )
            name = f"{key}.png" if is_openi else _mirrored(key)
            if layout == "dicom":
                _write_dicom(folder / str(number) / _mirrored(key), pixels, position)
            else:
                (place / name).write_bytes(dummy_images.png(pixels, "RGB"))
            views.append(f"{number},{name},{('Frontal', 'Lateral')[position % 2]}")
    if not is_openi:
        (folder / "indiana_reports.csv").write_text("\n".join(rows) + "\n")
        (folder / "indiana_projections.csv").write_text("\n".join(views) + "\n")
    (place / "._CXR1_1_IM-0001-3001.png").write_bytes(dummy_images.apple_double())


def _write_dicom(path: epath.Path, pixels: np.ndarray, position: int) -> None:
    path.parent.mkdir(exist_ok=True)
    content = dummy_images.dicom(pixels, is_inverted=position % 2 == 0)
    path.with_suffix("").write_bytes(content)  # ".dcm" in place of ".dcm.png"


def _id(report: int, image: int) -> str:
    """An id in one of the three shapes of the release."""
    if report == 1:
        return f"CXR1_1_IM-0001-{3001 + 1000 * image}"
    if report % 4 == 2:
        return f"CXR{report}_IM-{report:04}-0001-0{image + 1}001"
    return f"CXR{report}_IM-{report:04}-{1001 + 1000 * image}"


def _mirrored(key: str) -> str:
    """The mirror's name of an image."""
    return f"{key.replace('CXR1_1_', 'CXR1_').removeprefix('CXR')}.dcm.png"


def _xml(number: int, terms: Sequence[str], ids: Sequence[str]) -> str:
    labels = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")
    texts = "".join(
        f'<AbstractText Label="{label}">{"" if i == 0 else _UNKNOWN}</AbstractText>'
        for i, label in enumerate(labels)
    )
    majors = "".join(f"<major>{term}</major>" for term in terms)
    images = "".join(
        f'<parentImage id="{key}"><figureId>F{i}</figureId><caption>PA</caption>'
        f"<panel><url>/hadoop/storage/{key}.jpg</url></panel></parentImage>"
        for i, key in enumerate(ids, start=1)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<eCitation><meta type="rr"/>'
        f'<uId id="CXR{number}"/><MedlineCitation><Article><Abstract>{texts}</Abstract>'
        f"</Article></MedlineCitation><MeSH>{majors}<automatic>lung</automatic></MeSH>"
        f"{images}</eCitation>\n"
    )
