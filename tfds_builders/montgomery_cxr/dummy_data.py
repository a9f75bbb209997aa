"""Invented files in the shape of the Montgomery release."""

from __future__ import annotations

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

LAYOUTS = ("nlm", "raddar")
SIDES = {"leftMask": 0.7, "rightMask": 0.3}  # and x of the lung's centre
# Positions of the image without left mask, and of the one that repeats a patient.
HALF, AGAIN = 2, -1

_SEXES = ("F", "M", "M", "F", "O")


def names(images: int) -> list[str]:
    """Names without suffix: numbers have gaps, the first half is normal."""
    normal = [f"MCUCXR_{2 * n + 1:04}_0" for n in range(images // 2)]
    return normal + [f"MCUCXR_{104 + 3 * n:04}_1" for n in range(images - len(normal))]


def write(
    folder: epath.Path, *, images: int = 40, seed: int = 0, layout: str = "nlm"
) -> None:
    """Writes a release, half of it normal, with masks of nearly all lungs.

    Args:
      folder: Becomes the root of the release.
      images: How many.
      seed: Another seed gives other images.
      layout: "nlm", or "raddar" for the mirror with a table and no masks.
    """
    rng = np.random.default_rng(seed)
    is_nlm = layout == "nlm"
    place = folder / ("CXR_png" if is_nlm else "images/images")
    place.mkdir(parents=True, exist_ok=True)
    if is_nlm:
        for name in ("ClinicalReadings", *(f"ManualMask/{side}" for side in SIDES)):
            (folder / name).mkdir(parents=True, exist_ok=True)
    rows = ["study_id,age,gender,findings"]
    every = names(images)
    for number, key in enumerate(every):
        height, width = ((40, 48), (48, 40))[number % 2]
        is_ill = key.endswith("1")
        spots = [(rng.uniform(0.25, 0.4), rng.choice([0.3, 0.7]))] if is_ill else []
        pixels = dummy_images.draw(rng, height, width, spots, radius=0.12)
        sex, age = _SEXES[number % 5], 20 + number
        note = "infiltrate" if is_ill else "normal"
        if number == images + AGAIN:
            note = f"no report, same patient as {every[number - 1]}"
        rows.append(f'{key}.png,{age},{sex.strip("O")},"{note}"')
        for side, x in SIDES.items():
            centre = (0.6 - x / 4, x)
            lung = dummy_images.ellipse(height, width, centre, (0.35, 0.15))
            pixels[lung] = pixels[lung] // 2 + 5
            mask = dummy_images.png(lung * np.uint8(255), "1" if number % 3 else "")
            if is_nlm and (number != HALF or side != "leftMask"):
                (folder / "ManualMask" / side / f"{key}.png").write_bytes(mask)
        if is_nlm:
            text = f"Patient's Sex: {sex} \nPatient's Age: {age:03}Y \n{note}\n"
            (folder / "ClinicalReadings" / f"{key}.txt").write_text(text)
        (place / f"{key}.png").write_bytes(dummy_images.png(pixels))
    if not is_nlm:
        (folder / "montgomery_metadata.csv").write_text("\n".join(rows) + "\n")
    (place / "._MCUCXR_0001_0.png").write_bytes(dummy_images.apple_double())
