"""Damaged releases: each ends in quarantine or in one clear error, soon.

What preparation does before it writes, over every builder of a released set and over
`xray_folder`, with one thing damaged at a time. Seeded: the same cases every time.
"""

import dataclasses
import functools
import json
import pathlib
import resource
import signal
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import damage
from tfds_builders import dummy, xray_folder
from tfds_builders.images import reader
from tfds_builders.prepare import xray_builder
from tfds_builders.releases import catalogue, dummy_images

SECONDS = 10  # for one damaged release
MEMORY = 300_000  # KiB by which all damaged releases of a set may let a process grow
CASES = 26  # of each set, besides those of whole folders
CLEAR = (ValueError, FileNotFoundError, PermissionError, reader.UnreadableImage)
SETS = (*catalogue.released(), "xray_folder")


class TooLong(BaseException):
    """The time is over; no code under test catches it."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A made-up release on disk, and how it is built."""

    folder: pathlib.Path
    build: Callable[[pathlib.Path], xray_builder.XrayBuilder]


def _write_folder(folder: pathlib.Path) -> None:
    """A folder for `xray_folder`, with all that it can have."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows, boxes = ["file,finding,patient"], []
    for i in range(12):
        picture = dummy_images.draw(rng, 32, 40)
        (folder / "images" / f"{i}.png").write_bytes(dummy_images.png(picture))
        mask = (picture > 100).astype(np.uint8)
        (folder / "masks" / f"{i}.png").write_bytes(dummy_images.png(mask))
        rows.append(f"{i}.png,{'normal' if i % 2 else 'fracture'},p{i}")
        box = {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 10, 20]}
        boxes.append(box)
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    coco = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 32, "width": 40}
            for i in range(12)
        ],
        "categories": [{"id": 1, "name": "line"}],
        "annotations": boxes,
    }
    (folder / "boxes.json").write_text(json.dumps(coco))


def _build_folder(data: pathlib.Path, folder: pathlib.Path) -> Any:
    config = xray_folder.Config(
        name="fuzz",
        folder=str(folder),
        labels={"finding": ["normal", "fracture"]},
        masks="labels",
        mask_classes={"bone": [1]},
        annotations="boxes.json",
        box_classes=["line"],
    )
    return xray_folder.Builder(data_dir=data, config=config)


def _build_release(name: str, data: pathlib.Path, folder: pathlib.Path) -> Any:
    builder = catalogue.released()[name]
    config = dataclasses.replace(
        builder.BUILDER_CONFIGS[0], name="fuzz", folder=str(folder)
    )
    return builder(data_dir=data, config=config)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Release]:
    @functools.cache
    def make(name: str) -> Release:
        folder, data = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("data")
        if name == "xray_folder":
            _write_folder(folder)
            return Release(folder, functools.partial(_build_folder, data))
        dummy.write(name, epath.Path(folder), images=None)
        return Release(folder, functools.partial(_build_release, name, data))

    return make


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    """Lets an alarm raise `TooLong`."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _prepare(release: Release) -> list[str]:
    """Reads everything as preparation does; returns the reasons of bad pictures."""
    builder = release.build(release.folder)
    builder.fingerprint()
    reasons = []
    for records in builder.records().values():
        for record in records:
            try:
                builder.load(record)
            except reader.UnreadableImage as error:
                reasons.append(str(error))
    builder.manifests()
    reasons += [entry.reason for entry in builder.left_out()]
    assert all(reasons)
    return reasons


def _fault(release: Release, what: str, path: pathlib.Path) -> list[str]:
    """Prepares; says what is wrong with how it ended, if anything is."""
    signal.alarm(SECONDS)
    try:
        _prepare(release)
    except TooLong:
        return [f"{what}: took longer than {SECONDS} s"]
    except Exception as error:
        if type(error) not in CLEAR:
            return [f"{what}: {type(error).__name__}: {error}"]
        said = str(error).lower()
        names = {path.name, path.stem, *path.relative_to(release.folder).parts}
        if not any(name.lower() in said for name in (*names, release.folder.name)):
            return [f"{what}: names no file: {error}"]
    finally:
        signal.alarm(0)
    return []


def _cases(name: str, folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """Files and their damages: every damage of tables and JSON, some of pictures."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    by_suffix: dict[str, list[pathlib.Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if not any(part.startswith(".") for part in path.parts):
            by_suffix.setdefault(path.suffix.lower(), []).append(path)
    found: list[tuple[pathlib.Path, str]] = []
    for suffix, paths in by_suffix.items():
        for kind in (*damage.kinds(f"a{suffix}"), "deleted", "a folder"):
            found.append((paths[int(rng.integers(len(paths)))], kind))
    order = rng.permutation(len(found))
    # Each file of a table once more, since there are few.
    chosen = [found[i] for i in order[:CASES]]
    for suffix in (".csv", ".txt", ".json", ".xml"):
        for path in by_suffix.get(suffix, [])[:4]:
            kinds = list(damage.kinds(path.name))
            chosen.append((path, kinds[int(rng.integers(len(kinds)))]))
    return chosen


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_file_ends_in_quarantine_or_a_clear_error(name, releases):
    release = releases(name)
    assert _prepare(release) is not None

    faults = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases = _cases(name, release.folder)
    for number, (path, kind) in enumerate(cases):
        what = f"{name}, {path.relative_to(release.folder)}, {kind}, case {number}"
        content = path.read_bytes()
        path.unlink()
        if kind == "a folder":
            path.mkdir()
        elif kind != "deleted":
            rng = np.random.default_rng([number, zlib.crc32(name.encode())])
            path.write_bytes(damage.kinds(path.name)[kind](content, rng))
        try:
            faults += _fault(release, what, path)
        finally:
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY, f"{name}: memory grew by {grown} KiB"
    assert len(cases) >= 15
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_folder_ends_in_a_clear_error_or_goes_on(name, releases, tmp_path):
    release = releases(name)

    faults = []
    folders = sorted(p for p in release.folder.rglob("*") if p.is_dir())
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for path in [folders[i] for i in rng.permutation(len(folders))[:3]]:
        aside = tmp_path / "aside"
        for kind in ("deleted", "empty", "a file"):
            path.rename(aside)
            if kind == "empty":
                path.mkdir()
            elif kind == "a file":
                path.write_bytes(b"not a folder")
            try:
                faults += _fault(release, f"{name}, {path.name}, {kind}", path)
            finally:
                if kind == "empty":
                    path.rmdir()
                path.unlink(missing_ok=True)
                aside.rename(path)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", SETS)
def test_an_empty_and_a_missing_folder_end_in_a_clear_error(name, releases, tmp_path):
    build = releases(name).build

    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=tmp_path.name):
            _prepare(Release(folder, build))


@pytest.mark.parametrize("name", SETS)
def test_files_that_may_not_be_read_end_in_a_clear_error(name, releases, monkeypatch):
    release = releases(name)
    reading = epath.Path.read_bytes
    files = sorted(p for p in release.folder.rglob("*") if p.is_file())
    suffixes = {p.suffix.lower(): p for p in files}
    faults = []

    for suffix, path in suffixes.items():

        def refuse(self, suffix=suffix):
            if self.suffix.lower() == suffix:
                raise PermissionError(13, "Permission denied", str(self))
            return reading(self)

        monkeypatch.setattr(type(epath.Path("a")), "read_bytes", refuse)
        faults += _fault(release, f"{name}, {suffix}, permission denied", path)
    assert not faults, "\n".join(faults)


def test_there_are_enough_cases(releases):
    files = sum(len(_cases(name, releases(name).folder)) for name in SETS)

    assert files + 9 * len(SETS) >= 300
