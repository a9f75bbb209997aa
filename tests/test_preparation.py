"""Preparing the sets of a config: once, anew only when asked, errors that advise."""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation
from tfds_builders import xray_features
from tfds_builders.montgomery_cxr import dummy_data
from tfds_builders.prepare import digests

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Ten small images without a table."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    for index in range(10):
        picture = np.full((16, 16), 20 * index, np.uint8)
        picture[8:] += 40
        cv2.imwrite(str(source / "images" / f"{index}.png"), picture)
    return source


def _row(folder: pathlib.Path, **options: object) -> config.DatasetConfig:
    return config.DatasetConfig("xray_folder", {"folder": str(folder), **options})


def _made_at(folder: object) -> int:
    """Changes whenever the folder is made anew."""
    return (pathlib.Path(str(folder)) / "index.csv").stat().st_mtime_ns


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with each look into the files of a source."""
    found: list[object] = []
    look = digests.of_files

    def counted(listing, **options):
        found.append(listing)
        return look(listing, **options)

    monkeypatch.setattr(digests, "of_files", counted)
    return found


def test_a_ready_set_is_known_without_opening_its_source(
    folder: pathlib.Path, looks: list[object]
):
    data, rows = folder.parent / "data", {"mine": _row(folder)}
    preparation.prepare(rows, data)
    looks.clear()

    preparation.prepare(rows, data)
    assert not looks
    preparation.prepare(rows, data, rebuild=True)
    assert looks, "asked to look, it looks"


def test_a_source_that_looks_touched_is_opened_once(
    folder: pathlib.Path, looks: list[object]
):
    data, rows = folder.parent / "data", {"mine": _row(folder)}
    preparation.prepare(rows, data)
    looks.clear()
    os.utime(folder / "images" / "3.png", (1, 1))

    preparation.prepare(rows, data)
    assert looks
    looks.clear()
    preparation.prepare(rows, data)
    assert not looks


def test_a_change_that_keeps_size_and_date_is_noticed(folder: pathlib.Path):
    data, rows = folder.parent / "data", {"mine": _row(folder)}
    preparation.prepare(rows, data)
    path = folder / "images" / "3.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(ValueError, match="its source has changed"):
        preparation.prepare(rows, data)


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


def test_a_set_of_a_version_that_knew_less_is_made_anew_on_rebuild(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    rows, data = {"mine": _row(folder)}, folder.parent / "data"
    with monkeypatch.context() as then:
        then.setattr(xray_features, "metadata", lambda layout: {"label_names": {}})
        made = preparation.prepare(rows, data)["mine"]
    now = dataclasses.replace(xray_features.Layout(), landmark_names=("sella",))
    stamp, names = _made_at(made), xray_features.metadata(now)
    monkeypatch.setattr(xray_features, "metadata", lambda layout: names)

    preparation.prepare(rows, data)
    assert _made_at(made) == stamp
    preparation.prepare(rows, data, rebuild=True)
    assert _made_at(made) != stamp


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


def test_unknown_splits_are_refused_before_any_set_is_prepared(folder: pathlib.Path):
    data = folder.parent / "data"
    good = _row(folder)
    wrong = config.DatasetConfig("xray_folder", good.options, splits="offical")
    message = r"config\.datasets\.other\.splits.*'official'\? Known: \['official'\]"

    with pytest.raises(ValueError, match=message):
        preparation.prepare({"mine": good, "other": wrong}, data)
    assert not (data / "xray_folder").exists()

    preparation.prepare({"other": good}, data)  # Ready, and read otherwise.
    with pytest.raises(ValueError, match=message):
        preparation.prepare({"mine": good, "other": wrong}, data)
    assert not (data / "xray_folder" / "mine").exists()


def _open(
    rows: dict[str, config.DatasetConfig], data: pathlib.Path, made: pathlib.Path
) -> None:
    preparation.prepare(rows, data)
    sources.open_prepared(made, "train")


@pytest.mark.parametrize("pattern", ["preparation.json", "features.json", "*record-*"])
def test_a_damaged_set_is_made_anew_when_asked(folder: pathlib.Path, pattern: str):
    rows, data = {"mine": _row(folder)}, folder.parent / "data"
    made = pathlib.Path(preparation.prepare(rows, data)["mine"])
    path = next(made.glob(pattern))
    content = path.read_bytes()
    path.write_bytes(content[:-9])

    with pytest.raises(ValueError, match=re.escape(str(path))):
        _open(rows, data, made)
    preparation.prepare(rows, data, rebuild=True)

    assert path.read_bytes() == content
    sources.open_prepared(made, "train")


def test_two_who_need_one_new_set_wait_for_each_other(folder: pathlib.Path):
    program = (
        "import sys, time\n"
        "from mtpret_jax import config\n"
        "from mtpret_jax.experiment import preparation\n"
        "from tfds_builders.prepare import pool\n"
        "write = pool.write\n"
        "pool.write = lambda *given: (time.sleep(1), write(*given))\n"
        f"row = config.{_row(folder)!r}\n"
        f"preparation.prepare({{'mine': row}}, {str(folder.parent / 'data')!r})\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
        for _ in range(2)
    ]

    told = [process.communicate()[1].decode() for process in both]

    assert [process.returncode for process in both] == [0, 0], told


def test_a_description_makes_tfds_import_nothing_else(folder: pathlib.Path):
    rows, data = {"mine": _row(folder)}, folder.parent / "data"
    made = pathlib.Path(preparation.prepare(rows, data)["mine"])
    path = made / "features.json"
    content = path.read_text()
    own = "tensorflow_datasets.core.features.text_feature.Text"
    assert own in content
    (folder.parent / "intruder.py").write_text("raise SystemExit('was imported')")
    path.write_text(content.replace(own, "intruder.Text", 1))
    (made / "SHA256SUMS").unlink()
    sys.path.insert(0, str(folder.parent))
    try:
        with pytest.raises(ValueError, match=r"features\.json: asks for 'intruder\.T"):
            sources.open_prepared(made, "train")
    finally:
        sys.path.pop(0)


def test_another_reader_is_told_once(folder: pathlib.Path, caplog, monkeypatch):
    rows, data = {"mine": _row(folder)}, folder.parent / "data"
    made = pathlib.Path(preparation.prepare(rows, data)["mine"])
    monkeypatch.setattr("tfds_builders.storage._told", set())
    sources.open_prepared(made, "train")
    assert "this version has reader" not in caplog.text
    monkeypatch.setattr("tfds_builders.images.reader.VERSION", "next")

    sources.open_prepared(made, "train")
    sources.open_prepared(made, "test")

    assert caplog.text.count("this version has reader next") == 1


@pytest.mark.parametrize("name", ["index.csv", "splits/official.csv"])
def test_a_table_that_was_changed_is_made_anew_on_rebuild(
    folder: pathlib.Path, name: str
):
    rows, data = {"mine": _row(folder)}, folder.parent / "data"
    made = pathlib.Path(preparation.prepare(rows, data)["mine"])
    path = made / "preparation.json"
    whole = (made / name).read_bytes()
    digest = hashlib.sha256((made / "index.csv").read_bytes()).hexdigest()
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "index_sha256": digest})
    )
    (made / "SHA256SUMS").unlink()  # As in sets from before digests.
    preparation.prepare(rows, data)  # Nothing is wrong.
    (made / name).write_bytes(whole.replace(b"train", b"test", 1))

    with pytest.raises(ValueError, match=rf"{name} was changed.*--rebuild"):
        preparation.prepare(rows, data)
    preparation.prepare(rows, data, rebuild=True)

    assert (made / name).read_bytes() == whole


def test_a_release_in_the_manual_folder_of_tfds_is_found(tmp_path: pathlib.Path):
    dummy_data.write(epath.Path(tmp_path) / "downloads" / "manual", images=20)
    row = config.DatasetConfig("montgomery_cxr", {}, splits="grouped")

    made = preparation.prepare({"mine": row}, tmp_path)
    again = preparation.prepare({"mine": row}, tmp_path)

    assert made == again == {"mine": tmp_path / "montgomery_cxr" / "mine" / "1.0.0"}


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
    command = [
        sys.executable,
        "-m",
        "mtpret_jax.main",
        "data",
        "prepare",
        f"--data_dir={data}",
    ]

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
