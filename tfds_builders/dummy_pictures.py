"""Pictures for made-up releases: tiny, all different, with something to learn in them.

`dummy_data.py` of each set arranges them as that set's makers did. They show nobody.
"""

from __future__ import annotations

import io

import numpy as np
from etils import epath
from PIL import Image

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


def draw(
    rng: np.random.Generator, *, height: int, width: int, spot: tuple[float, float]
) -> np.ndarray:
    """Draws smooth grey ground with noise and one bright round spot.

    Args:
      rng: Another state draws another picture.
      height: Pixels.
      width: Pixels.
      spot: Centre of the spot as fractions of height and width; let it depend on the
        label, so that there is something to learn.

    Returns:
      uint8 [height, width], between 20 and 250.
    """
    y, x = np.meshgrid(
        np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"
    )
    ground = 60 + 60 * np.sin(rng.uniform(1, 6, 2) @ np.stack([y, x]).reshape(2, -1))
    picture = ground.reshape(height, width)
    # Coarse blocks, drawn anew each time, keep any two pictures far apart.
    blocks = rng.uniform(-35, 35, (4, 4)).repeat(-(-height // 4), 0)
    picture = picture + blocks.repeat(-(-width // 4), 1)[:height, :width]
    centre_y, centre_x = spot + rng.uniform(-0.04, 0.04, 2)
    distance = (y - centre_y) ** 2 + (x - centre_x) ** 2
    picture = picture + 130 * np.exp(-distance / 0.02)
    picture = picture + rng.normal(0, 4, picture.shape)
    return picture.clip(20, 250).astype(np.uint8)


def write(
    path: epath.Path, values: np.ndarray, *, mode: str = "", form: str = ""
) -> None:
    """Writes a picture, and the folders around it.

    Args:
      path: The file.
      values: uint8 or uint16 [H, W].
      mode: Of Pillow, as "RGB", "RGBA", "LA", "P" or "1"; "" keeps one channel.
      form: Suffix of the format, as ".jpeg", where the file's own lies; "" for its own.
    """
    picture = Image.fromarray(values)
    if mode == "LA":
        picture.putalpha(255)
    elif mode:
        picture = picture.convert(mode)
    content = io.BytesIO()
    picture.save(content, _FORMATS[form or path.suffix.lower()])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def write_apple_double(path: epath.Path) -> None:
    """Writes what macOS leaves beside a file, `._<name>`, as it begins in truth."""
    beside = path.parent / f"._{path.name}"
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(54))
