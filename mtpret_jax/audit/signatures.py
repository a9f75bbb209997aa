"""What the audit remembers of each image, computed once for a prepared folder.

A signature is small enough to be kept for hundreds of thousands of images, 7 kB: a
digest of the pixels, perceptual hashes of the image as it is, however it is turned,
and of windows of it, and the image's detail at 64 x 64 pixels.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import logging
import os
import uuid
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from mtpret_jax.data import transforms
from tfds_builders import prepared, storage

VERSION = 2  # of the rule; another version computes anew
SIDE = 64  # pixels of the detail kept
HASH_BITS = 255  # 16 x 16 lowest frequencies without the mean
COARSE_BITS, FINE_BITS = 63, 80  # of a window: 8 x 8 frequencies; others of 12 x 12
# Squares of a part of the sides, at so many places along each: first the whole.
_SQUARES = ((1.0, 1), (0.95, 3), (0.9, 5), (0.85, 6), (0.8, 7))
WINDOWS = tuple(
    (side, float(top), float(left))
    for side, places in _SQUARES
    for top in np.linspace(0, 1 - side, places)
    for left in np.linspace(0, 1 - side, places)
)

_CACHE = "signatures-"
_FREQUENCIES = 16
_UPPER = np.triu_indices(_FREQUENCIES)
_WINDOW_FREQUENCIES = 12
_LOW = np.arange(_WINDOW_FREQUENCIES) < 8
_IS_COARSE = _LOW[:, None] & _LOW
_HASHED_SIDE = 32  # pixels of the image that is hashed
_FINE, _COARSE = 1.0, 4.0  # pixels of 64: details between these widths are kept
_STRONGEST = 2.0  # standard deviations: frames and letters count no more than bones
_STEPS = 127 / _STRONGEST  # a standard deviation of the detail, as stored
_THREADS = min(8, os.cpu_count() or 1)
_LOG = logging.getLogger(__name__)
_LOG_EVERY = 20_000  # images


@dataclasses.dataclass(frozen=True)
class Signatures:
    """Signatures of N images.

    Attributes:
      digest: Digest of shape, depth and pixels, uint8 [N, 16].
      bits: Perceptual hash, uint64 [N, 4]; the last bit is 0.
      unturned: A hash that no mirroring, quarter turn or inversion changes, uint64
        [N, 3].
      windows: Hashes of windows, as `WINDOWS` lists them, uint64 [N, W, 3]; the first
        word is the coarse one.
      detail: What lies between fine and coarse, in steps, int8 [N, 64, 64].
      contrast: Standard deviation of that detail, grey levels of 255, float32 [N].
      size: Height and width of the image, pixels, int32 [N, 2].
    """

    digest: np.ndarray
    bits: np.ndarray
    unturned: np.ndarray
    windows: np.ndarray
    detail: np.ndarray
    contrast: np.ndarray
    size: np.ndarray

    def take(self, index: np.ndarray) -> Signatures:
        """Those of some images, in the order of `index`, int [M]."""
        fields = dataclasses.fields(self)
        return Signatures(**{f.name: getattr(self, f.name)[index] for f in fields})


def join(parts: Sequence[Signatures]) -> Signatures:
    """Signatures of several folders, one after the other."""
    names = [field.name for field in dataclasses.fields(Signatures)]
    return Signatures(
        **{n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
    )


def of_pictures(images: Sequence[np.ndarray]) -> Signatures:
    """Signatures of images, each uint8 or uint16 [H, W]; the sizes may differ."""
    return _stack([_of_picture(image) for image in images])


def open_folder(folder: epath.PathLike) -> Signatures:
    """Signatures of all records of a prepared folder, as `prepared.read_index` lists.

    They are kept in it, under a key that changes with its content; where it may not be
    written, they are computed each time.
    """
    folder = epath.Path(folder)
    path = folder / f"{_CACHE}{key(folder)[:16]}.npz"
    found = _load(path)
    if found is not None:
        return found
    if not _records_digest(folder):
        _LOG.warning(
            "%s was prepared before the digest of its examples was kept; the audit "
            "knows them by names, sizes and times of files. Delete the folder and "
            "prepare the set again, to be sure that they are these.",
            folder,
        )
    _LOG.info("Looking through the images of %s for the audit.", folder)
    found = _compute(folder)
    try:
        _keep(path, found)
    except OSError as error:
        _LOG.warning(
            "The audit's signatures can't be kept in %s (%s): another audit of this "
            "set looks through all its images again.",
            folder,
            error,
        )
    return found


def _load(path: epath.Path) -> Signatures | None:
    """What `_keep` wrote; None where there is nothing or it can't be read."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return Signatures(**{name: stored[name] for name in stored.files})
    except Exception as error:  # NumPy raises almost anything on damaged archives.
        _LOG.warning("%s can't be read (%s) and is made anew.", path, error)
        return None


def _keep(path: epath.Path, found: Signatures) -> None:
    """Writes signatures, whole or not at all, and removes those of other content."""
    content = io.BytesIO()
    np.savez(content, **dataclasses.asdict(found))
    # Several processes may audit the same folder.
    whole = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        whole.write_bytes(content.getvalue())
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
    for old in path.parent.glob(f"{_CACHE}*.npz"):
        if old.name != path.name:
            old.unlink(missing_ok=True)


def key(folder: epath.PathLike) -> str:
    """A digest that changes with the content of a prepared folder, or the rule here."""
    folder = epath.Path(folder)
    digest = hashlib.sha256(f"signature of {VERSION}\n".encode())
    for name in (prepared.PREPARATION, prepared.INDEX):
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(
                f"No {name} in {os.fspath(folder)}: expected a prepared folder. "
                "Prepare the set first, or again with --rebuild."
            )
        digest.update(path.read_bytes())  # The first tells the digest of the examples,
    if not _records_digest(folder):  # in newer folders.
        for path in sorted(folder.glob("*array_record*")):
            found = path.stat()  # Files are filled up, so few sizes differ.
            told = f"{path.name}\0{found.length}\0{found.mtime}\n"
            digest.update(told.encode())
    return digest.hexdigest()


def _records_digest(folder: epath.Path) -> str:
    preparation = prepared.read_preparation(folder)
    return preparation.get("records_sha256", "")


def _compute(folder: epath.Path) -> Signatures:
    """Looks at every image on a pool of threads, a bounded number ahead."""
    records = _records(folder)
    cv2.setNumThreads(0)  # The pool already uses the cores.
    found = []
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(records), 64 * _THREADS):
            part = range(first, min(first + 64 * _THREADS, len(records)))
            found.extend(pool.map(lambda i: _of_record(folder, records, i), part))
            if len(found) // _LOG_EVERY > first // _LOG_EVERY:
                _LOG.info("%d of %d images.", len(found), len(records))
    return _stack(found)


def _records(folder: epath.Path) -> Any:
    """All records of a prepared folder, in the order of `prepared.read_index`."""
    builder = storage.open_folder(folder)
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        raise TypeError(
            f"{os.fspath(folder)} does not hold named features but {features!r}. "
            "Use a set that one of the builders in tfds_builders prepared."
        )
    masks = ["mask"] if "mask" in features else []
    return storage.Records(
        builder,
        prepared.in_order(builder.info.splits),
        decoders={name: tfds.decode.SkipDecoding() for name in masks},
    )


def _of_record(folder: epath.Path, records: Any, index: int) -> tuple[Any, ...]:
    try:
        return _of_picture(records[index]["image"][..., 0])
    except Exception as error:
        error.add_note(f"While reading record {index} of all in {os.fspath(folder)}.")
        raise


def _of_picture(image: np.ndarray) -> tuple[Any, ...]:
    """The fields of `Signatures` of one image."""
    header = f"{image.dtype} {image.shape} ".encode()
    pixels = np.ascontiguousarray(image)
    digest = hashlib.blake2b(header + pixels.tobytes(), digest_size=16).digest()
    small = _resize(transforms.to_intensity(image), SIDE)
    hashed = _resize(small, _HASHED_SIDE)
    corner = cv2.dct(hashed)[:_FREQUENCIES, :_FREQUENCIES]
    # Turned and mirrored, it has other signs and its axes swapped.
    unturned = (np.abs(corner) + np.abs(corner.T))[_UPPER]
    fine = cv2.GaussianBlur(small, (0, 0), _FINE)
    detail = fine - cv2.GaussianBlur(small, (0, 0), _COARSE)
    detail -= detail.mean()
    deviation = float(detail.std())
    scaled = np.rint(detail * (_STEPS / (deviation + 1e-9))).clip(-127, 127)
    return (
        np.frombuffer(digest, np.uint8),
        _words(_above_median(corner.ravel()[1:])),
        _words(_above_median(unturned[1:])),
        _of_windows(small),
        scaled.astype(np.int8),
        np.float32(deviation * 255),
        np.array(image.shape, np.int32),
    )


def _above_median(values: np.ndarray) -> np.ndarray:
    return values > np.median(values, axis=-1, keepdims=True)


def _words(bits: np.ndarray) -> np.ndarray:
    """Bits [..., B] in as many words of 64 bits as they need, uint64 [..., words]."""
    missing = -bits.shape[-1] % 64
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(np.packbits(padded, axis=-1)).view(np.uint64)


def _cosines(side: float, start: float) -> np.ndarray:
    """Means over pixels of the cosines of a window along one axis, float64 [12, 64]."""
    edges = np.arange(SIDE + 1) / SIDE
    place = ((edges - start) / side).clip(0, 1)  # of the edges, in the window
    frequency = np.pi * np.arange(1, _WINDOW_FREQUENCIES)[:, None]
    integral = np.concatenate([place[None], np.sin(frequency * place) / frequency])
    return np.diff(integral)


@functools.cache
def _bases() -> list[np.ndarray]:
    """For each size of window those of all places, float64 [places, 12, 64]."""
    return [
        np.stack([_cosines(side, start) for start in np.linspace(0, 1 - side, places)])
        for side, places in _SQUARES
    ]


def _of_windows(small: np.ndarray) -> np.ndarray:
    """Hashes of all windows of an image, [64, 64]; uint64 [W, 3]."""
    found = []
    for basis in _bases():
        product = np.einsum("pfx,qgx->pqfg", basis @ small, basis, optimize=True)
        found.append(product.reshape(-1, *product.shape[2:]))
    frequencies = np.concatenate(found)
    coarse, fine = frequencies[:, _IS_COARSE], frequencies[:, ~_IS_COARSE]
    bits = (_above_median(coarse[:, 1:]), fine > 0)
    return np.concatenate([_words(part) for part in bits], axis=1)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """A square of `side` pixels, whatever the shape: a copy may be squashed.

    Each side is shrunk by areas or enlarged smoothly, so that a narrow image and a
    smaller copy of it come out alike.
    """
    height, width = image.shape
    small = (min(width, side), min(height, side))
    image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)


def _stack(found: Sequence[tuple[Any, ...]]) -> Signatures:
    columns = zip(*found, strict=True)
    return Signatures(*(np.stack(column) for column in columns))
