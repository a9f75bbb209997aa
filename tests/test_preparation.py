"""Preparing the sets of a config: once, anew only when asked, errors that advise."""

import json
import logging
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mtpret_jax import config, preparation

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Ten small images without a table."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    for index in range(10):
        picture = np.full((16, 16), 20 * index, np.uint8)
        cv2.imwrite(str(source / "images" / f"{index}.png"), picture)
    return source


def _row(folder: pathlib.Path, **options: object) -> config.DatasetConfig:
    return config.DatasetConfig("xray_folder", {"folder": str(folder), **options})


def _made_at(folder: object) -> int:
    """Changes whenever the folder is made anew."""
    return (pathlib.Path(str(folder)) / "index.csv").stat().st_mtime_ns


@pytest.mark.smoke
def test_a_set_goes_to_builder_name_and_version(folder: pathlib.Path):
    data = folder.parent / "data"

    made = preparation.prepare({"mine": _row(folder)}, data)

    assert made == {"mine": data / "xray_folder" / "mine" / "2.0.0"}
    report = json.loads((made["mine"] / "preparation.json").read_text())
    assert report["splits"] == {"train": 8, "validation": 1, "test": 1}
    assert {path.name for path in data.iterdir()} == {"xray_folder", "downloads"}


def test_what_is_ready_is_left_alone(folder: pathlib.Path):
    data = folder.parent / "data"
    first = preparation.prepare({"mine": _row(folder)}, data)
    before = _made_at(first["mine"])

    again = preparation.prepare({"mine": _row(folder)}, data, rebuild=True)

    assert again == first
    assert _made_at(again["mine"]) == before


@pytest.mark.smoke
def test_other_options_are_refused_until_rebuild(folder: pathlib.Path):
    data = folder.parent / "data"
    preparation.prepare({"mine": _row(folder)}, data)
    other = {"mine": _row(folder, image_size=8)}

    with pytest.raises(ValueError, match=r"image_size was 0, now 8.*--rebuild"):
        preparation.prepare(other, data)
    made = preparation.prepare(other, data, rebuild=True)

    report = json.loads((made["mine"] / "preparation.json").read_text())
    assert report["options"]["image_size"] == 8


def test_another_order_of_classes_is_another_option(folder: pathlib.Path):
    (folder / "masks").mkdir()
    cv2.imwrite(str(folder / "masks" / "0.png"), np.ones((16, 16), np.uint8))
    data = folder.parent / "data"
    classes = {"lung": [0], "heart": [1]}
    first = _row(folder, masks="bits", mask_classes=classes)
    preparation.prepare({"mine": first}, data)
    turned = dict(reversed(classes.items()))

    with pytest.raises(ValueError, match="mask_classes was"):
        preparation.prepare(
            {"mine": _row(folder, masks="bits", mask_classes=turned)}, data
        )


def test_another_source_is_refused_until_rebuild(folder: pathlib.Path):
    data = folder.parent / "data"
    rows = {"mine": _row(folder)}
    preparation.prepare(rows, data)
    (folder / "images" / "9.png").unlink()

    with pytest.raises(ValueError, match=r"its source has changed.*--rebuild"):
        preparation.prepare(rows, data)
    made = preparation.prepare(rows, data, rebuild=True)

    report = json.loads((made["mine"] / "preparation.json").read_text())
    assert sum(report["splits"].values()) == 9


def test_a_prepared_set_outlives_its_source(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    data = folder.parent / "data"
    rows = {"mine": _row(folder)}
    made = preparation.prepare(rows, data)
    folder.rename(folder.parent / "elsewhere")

    with caplog.at_level(logging.WARNING):
        assert preparation.prepare(rows, data) == made
    assert "is gone" in caplog.text


def test_a_rebuild_without_the_source_deletes_nothing(folder: pathlib.Path):
    data = folder.parent / "data"
    made = preparation.prepare({"mine": _row(folder)}, data)
    folder.rename(folder.parent / "elsewhere")

    with pytest.raises(FileNotFoundError, match="No folder"):
        preparation.prepare({"mine": _row(folder, image_size=8)}, data, rebuild=True)
    assert (made["mine"] / "index.csv").exists()


def test_unknown_options_and_builders_name_the_nearest(folder: pathlib.Path):
    with pytest.raises(
        ValueError, match=r"config\.datasets\.mine\.options.*'image_size'"
    ):
        preparation.prepare({"mine": _row(folder, imagesize=8)}, folder.parent)
    with pytest.raises(ValueError, match="Did you mean 'xray_folder'"):
        preparation.prepare({"mine": config.DatasetConfig("xray_foldr")}, folder.parent)


def test_one_wrong_row_stops_before_any_set_is_prepared(folder: pathlib.Path):
    rows = {"mine": _row(folder), "other": _row(folder, bit_depth=9)}

    with pytest.raises(ValueError, match="bit_depth must be 8 or 16"):
        preparation.prepare(rows, folder.parent / "data")
    assert not (folder.parent / "data").exists()


def test_the_command_prepares_what_a_config_file_names(folder: pathlib.Path):
    file = folder.parent / "mine.py"
    file.write_text(
        "from mtpret_jax import config as schema\n"
        "def get_config(folder):\n"
        "    config = schema.defaults()\n"
        "    config.datasets.mine = schema.dataset('xray_folder', folder=folder)\n"
        "    return config\n"
    )
    data = folder.parent / "data"
    command = [sys.executable, "-m", "mtpret_jax.preparation", f"--data_dir={data}"]

    def run(path: pathlib.Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, f"--config={file}:{path}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )

    good, bad = run(folder), run(folder / "nowhere")

    assert good.returncode == 0, good.stderr
    assert "train 8, validation 1, test 1" in good.stderr
    assert bad.returncode == 1
    assert "folder was" in bad.stderr
    assert "Traceback" not in bad.stderr
