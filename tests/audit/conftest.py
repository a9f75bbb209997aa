"""Pictures to compare, and small prepared folders made from them."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from tfds_builders import whole, xray_folder
from tfds_builders.phantom_xray import simulator

Row = tuple[str, np.ndarray, str, str]  # file, picture, split, group


def phantoms(count: int, *, size: int, seed: int = 0) -> list[np.ndarray]:
    """Radiographs of several bodies in turn, uint8 [H, W]."""
    # No fingers: two of one age are alike, and told apart by a few pixels of a joint.
    bodies = ("chest", "hand", "head")
    return [
        simulator.simulate(
            bodies[i % len(bodies)], size=size, seed=seed, split_index=0, index=i
        ).image
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Sixty phantoms of 256 pixels."""
    return phantoms(60, size=256)


@pytest.fixture
def prepare(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Prepares a set from rows of file, picture, split and group."""

    def make(name: str, rows: Sequence[Row], **options: object) -> pathlib.Path:
        source = tmp_path / "source" / name
        (source / "images").mkdir(parents=True, exist_ok=True)
        with (source / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "split", "group"])
            for image, picture, split, group in rows:
                writer.writerow([image, split, group])
                cv2.imwrite(str(source / "images" / image), picture)
        config = xray_folder.Config(name=name, folder=str(source), **options)
        builder = xray_folder.Builder(data_dir=tmp_path / "data", config=config)
        builder.download_and_prepare()
        return pathlib.Path(builder.data_dir)

    return make


@pytest.fixture
def say() -> Callable[..., None]:
    """Changes what the preparation.json of a folder says; None takes an entry away."""

    def change(folder: object, **entries: object) -> None:
        path = pathlib.Path(str(folder)) / "preparation.json"
        content = json.loads(path.read_text()) | entries
        kept = {name: value for name, value in content.items() if value is not None}
        whole.write_json(path, kept)

    return change
