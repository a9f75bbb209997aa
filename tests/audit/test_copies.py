"""Copies among pictures: every planted one is found, and nothing else."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import pytest

from mtpret_jax.audit import copies, crops, exclusions, signatures


def _shrink(picture: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(
        picture, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA
    )


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE))


def _expose(picture: np.ndarray, gamma: float, gain: float, shift: float) -> np.ndarray:
    changed = gain * (picture / 255) ** gamma + shift
    return np.rint(changed.clip(0, 1) * 255).astype(np.uint8)


def _deep(picture: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-100, 100, picture.shape)
    return (picture.astype(np.int64) * 257 + noise).clip(0, 65_535).astype(np.uint16)


MISSED = 0.04  # of the pictures, when cropped

CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "half as large": lambda picture: _shrink(picture, 2),
    "a third, JPEG 50": lambda picture: _jpeg(_shrink(picture, 3), 50),
    "a quarter, JPEG 75": lambda picture: _jpeg(_shrink(picture, 4), 75),
    "JPEG 50": lambda picture: _jpeg(picture, 50),
    "16 bits": _deep,
    "darker, JPEG 60": lambda picture: _jpeg(_expose(picture, 1.15, 0.9, 0.0), 60),
    "brighter, half": lambda picture: _shrink(_expose(picture, 0.87, 1.0, 0.04), 2),
    "squashed": lambda picture: cv2.resize(picture, (200, 160)),
}


def _near(first: list[np.ndarray], second: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs of one of `first` with one of `second`, and within either."""
    found = copies.find(signatures.of_pictures([*first, *second]))
    assert (found.same == np.arange(len(found.same))).all()
    return {(int(one), int(other)) for one, other in found.near}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(
    pictures: list[np.ndarray], change: str
):
    changed = [CHANGES[change](picture) for picture in pictures]

    found = _near(pictures, changed)

    count = len(pictures)
    assert found == {(i, i + count) for i in range(count)}


@pytest.fixture(scope="module")
def real(xray: pathlib.Path) -> list[np.ndarray]:
    """Pictures of the sets without copies within, such that a quarter is not tiny."""
    files = [
        file
        for name in ("bone_cls", "chest_cls", "dental_teeth", "lung_seg")
        for file in sorted((xray / name / "images").iterdir())[::20]
    ]
    found = [np.asarray(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE)) for f in files]
    return [picture for picture in found if min(picture.shape) >= 4 * 32]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_xrays_are_found_and_nothing_else(
    real: list[np.ndarray], change: str
):
    changed = [CHANGES[change](picture) for picture in real]

    found = _near(real, changed)

    assert found == {(i, i + len(real)) for i in range(len(real))}


TURNS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "a quarter, JPEG 60": lambda picture: _jpeg(np.rot90(picture), 60),
    "three quarters, mirrored": lambda picture: np.rot90(picture, 3)[:, ::-1],
    "half turned, half as large": lambda picture: _shrink(np.rot90(picture, 2), 2),
    "inverted": lambda picture: 255 - picture,
    "inverted, mirrored, JPEG 60": lambda picture: _jpeg(255 - picture[:, ::-1], 60),
}


def _cut(
    picture: np.ndarray, side: float, down: float, across: float, quality: int = 75
) -> np.ndarray:
    """A part of the sides, whose place is a fraction of what is left over."""
    height, width = (round(side * length) for length in picture.shape)
    top = round(down * (picture.shape[0] - height))
    left = round(across * (picture.shape[1] - width))
    part = picture[top : top + height, left : left + width]
    return _jpeg(np.ascontiguousarray(part), quality)


CUTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "80 %, middle": lambda picture: _cut(picture, 0.8, 0.5, 0.5),
    "80 %, corner": lambda picture: _cut(picture, 0.8, 0.0, 1.0),
    "80 %, off a window": lambda picture: _cut(picture, 0.8, 0.58, 0.25),
    "84 %": lambda picture: _cut(picture, 0.84, 0.3, 0.9),
    "90 %, JPEG 50": lambda picture: _cut(picture, 0.9, 0.8, 0.1, 50),
    "96 %": lambda picture: _cut(picture, 0.96, 0.2, 0.7),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_copies_are_found_and_nothing_else(
    pictures: list[np.ndarray], turn: str
):
    turned = [np.ascontiguousarray(TURNS[turn](picture)) for picture in pictures]
    count = len(pictures)

    found = copies.find(signatures.of_pictures([*pictures, *turned]))

    assert found.near.tolist() == [[i, i + count] for i in range(count)]
    assert set(found.kind) == {exclusions.TURNED_COPY}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_copies_of_real_xrays_are_found(real: list[np.ndarray], turn: str):
    turned = [np.ascontiguousarray(TURNS[turn](picture)) for picture in real]

    assert _near(real, turned) == {(i, i + len(real)) for i in range(len(real))}


@pytest.mark.parametrize("which", ["pictures", "real"])
@pytest.mark.parametrize("cut", CUTS)
def test_cropped_copies_are_found_but_for_a_few_and_nothing_else(
    request: pytest.FixtureRequest, which: str, cut: str
):
    whole = request.getfixturevalue(which)
    parts = [CUTS[cut](picture) for picture in whole]

    found = copies.find(signatures.of_pictures([*whole, *parts]))

    pairs = {(int(one), int(other)) for one, other in found.near}
    expected = {(i, i + len(whole)) for i in range(len(whole))}
    assert pairs <= expected
    assert len(expected - pairs) <= MISSED * len(whole)
    assert found.kind.count(exclusions.CROPPED_COPY) >= 0.9 * len(pairs)


def test_a_part_is_laid_over_every_window(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crops, "LEAST_AT_SIZES", ((-1.0, (0,)),))
    found = signatures.of_pictures([_cut(pictures[0], 0.84, 1.0, 1.0), pictures[0]])

    agreed = [crops.agreement(found, 0, 1, i) for i in range(len(signatures.WINDOWS))]

    assert max(agreed) > crops.LEAST_AGREEMENT > np.median(agreed)


def test_only_the_nearest_windows_are_looked_at():
    close = np.array([[1, 9, 4], [0, 7, 5], [1, 8, 3], [1, 7, 4], [0, 6, 5]])

    few = crops.keep_nearest(close, 2)

    assert few.tolist() == [[0, 6, 5], [0, 7, 5], [1, 8, 3], [1, 7, 4]]


def test_equal_pixels_are_told_from_near_copies(pictures: list[np.ndarray]):
    smaller = _shrink(pictures[0], 2)
    given = [*pictures[:3], pictures[1].copy(), smaller, smaller.astype(np.uint16)]

    found = copies.find(signatures.of_pictures(given))

    assert found.same.tolist() == [0, 1, 2, 1, 3, 4]
    assert found.first.tolist() == [0, 1, 2, 4, 5]
    assert [0, 3] in found.near.tolist()


def test_blank_pictures_are_copies_only_if_equal():
    blank = [np.full((64, 64), value, np.uint8) for value in (0, 0, 7, 255)]

    found = copies.find(signatures.of_pictures(blank))

    assert found.same.tolist() == [0, 0, 1, 2]
    assert len(found.near) == 0


@pytest.mark.parametrize("count", [1, 2, 65, 5000])
def test_blocks_find_the_pairs_that_a_plain_loop_finds(count: int):
    rng = np.random.default_rng(count)
    bits = rng.integers(0, 2**64, (count, 4), dtype=np.uint64)
    if count > 64:  # Four that differ by a few bits, in several blocks.
        bits[[0, 40, 63]] = bits[count - 1]
        bits[40, 2] ^= np.uint64(0b1011)

    pairs, distance = copies.close_pairs(bits, 64)

    expected = []
    for i in range(count):
        unequal = np.bitwise_count(bits[i + 1 :] ^ bits[i]).sum(1, dtype=np.int64)
        for j in np.flatnonzero(unequal <= 64):
            expected.append((i, i + 1 + int(j), int(unequal[j])))
    found = np.concatenate([pairs, distance[:, None]], axis=1)
    assert [tuple(row) for row in found.tolist()] == expected
    assert count <= 64 or len(expected) == 6
