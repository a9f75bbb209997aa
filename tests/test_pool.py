"""A run obeys the audit's list: what it reads, refuses, keeps and reports."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import logging
import pathlib
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import building, experiment, pool
from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps
from mtpret_jax.report import audit as audit_report
from mtpret_jax.report import words
from mtpret_jax.stages import contrastive
from tfds_builders import xray_folder
from tfds_builders.phantom_xray import simulator

COPIED = ("a0.png", "a3.png", "a8.png")  # that set "b" tests on, at half the size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, epath.Path]:
    """Two sets of phantoms; "b" tests on three training images of "a"."""
    root = tmp_path_factory.mktemp("pool")
    made = {}
    for number, name in enumerate("ab"):
        images = root / name / "images"
        images.mkdir(parents=True)
        rows = []
        for i in range(16):
            copied = name == "b" and i < len(COPIED)
            drawn = int(COPIED[i][1:-4]) if copied else i + 100 * number
            picture = simulator.simulate(
                "chest", size=128, seed=0, split_index=0, index=drawn
            ).image
            if copied:
                picture = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
            split = "test" if i < len(COPIED) and name == "b" else "train"
            split = "val" if i == 15 else split
            rows.append([f"{name}{i}.png", split, f"{name}{i}"])
            cv2.imwrite(str(images / f"{name}{i}.png"), picture)
        with (root / name / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", "split", "group"], *rows])
        config = xray_folder.Config(name=name, folder=str(root / name))
        builder = xray_folder.Builder(data_dir=root / "data", config=config)
        builder.download_and_prepare()
        made[name] = epath.Path(builder.data_dir)
    return made


def _config(**options: object) -> schema.ExperimentConfig:
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    for name in "ab":
        config.datasets[name] = schema.dataset("xray_folder", folder="x")
    given = dict(
        datasets=dict(a=1.0, b=1.0),
        image_size=32,
        batch_size=8,
        queue_size=16,
        embedding_size=8,
        batch_norm_groups=1,
    )
    config.runs.first = schema.run(
        stage="contrastive", steps=2, contrastive=given | options
    )
    return schema.parse(config)


def _open(
    config: schema.ExperimentConfig,
    workdir: pathlib.Path,
    folders: dict[str, epath.Path],
) -> building.Workshop:
    """What an experiment does before its first run."""
    folder = epath.Path(workdir)
    findings = pool.find(config, folder, folders)
    shop = building.open_workshop(config, folder, folders, findings)
    experiment.claim_workdir(config, folder, folders)
    pool.write(config, folder, folders, findings)
    return shop


def _images_read(shop: building.Workshop) -> set[str]:
    """Images of several epochs of stage 1, by the index of the prepared folders."""
    row = shop.config.runs["first"]
    named = [
        entry["image_id"]
        for name in row.contrastive.datasets
        for entry in shop.open_set(name, "train").index
    ]
    streams = building.open_streams(shop, row, {contrastive.TASK: 0})
    with streams[contrastive.TASK] as stream:
        batches = list(itertools.islice(stream, 12))
    records = np.concatenate([batch.arrays["record"] for batch in batches])
    return {named[record] for record in records}


def test_stage_1_reads_everything_but_what_evaluation_holds_again(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, logger="mtpret_jax")

    shop = _open(_config(), tmp_path, folders)

    everything = {f"a{i}.png" for i in range(15)} | {f"b{i}.png" for i in range(3, 15)}
    assert _images_read(shop) == everything - set(COPIED)
    counts = json.loads((tmp_path / "audit" / "pool.json").read_text())
    assert counts["first"]["sets"]["a"] == {"images": 15, "removed": 3}
    assert counts["first"]["sets"]["b"] == {"images": 12, "removed": 0}
    assert "a: 3, near copy as in b test" in caplog.text
    with (tmp_path / "audit" / "exclusions.csv").open() as file:
        assert {row["image_id"] for row in csv.DictReader(file)} == set(COPIED)


def test_the_published_pool_reads_them_and_the_report_says_so_first(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    shop = _open(_config(pool="paper"), tmp_path, folders)

    assert set(COPIED) <= _images_read(shop)
    assert not (tmp_path / "audit" / "exclusions.csv").exists()
    result = experiment.report.collect.build(tmp_path, shop.config, {})
    assert "Run first reproduces the published pool" in words.opening(result)[0]
    assert "all 27 training images" in audit_report.section(result)


def test_the_report_tells_what_was_removed_and_why(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    shop = _open(_config(), tmp_path, folders)

    result = experiment.report.collect.build(tmp_path, shop.config, {})

    assert not audit_report.opening(result)
    page = audit_report.section(result)
    assert "27 training images. 3 were removed" in page
    row = "<td>a</td><td>near copy</td><td>b</td><td>test</td><td>3</td>"
    assert row in page
    assert "does not find mirrored" in page


def test_a_run_goes_on_with_the_same_list(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    first = _images_read(_open(_config(), tmp_path, folders))
    monkeypatch.setattr(overlaps, "audit", None)  # It is not done again.

    assert _images_read(_open(_config(), tmp_path, folders)) == first


def test_a_changed_list_is_refused(
    folders: dict[str, epath.Path],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    _open(_config(), tmp_path, folders)
    audit = overlaps.audit

    def finds_less(sets: dict[str, overlaps.Set]) -> overlaps.Findings:
        found = audit(sets)
        return dataclasses.replace(found, excluded=found.excluded[1:])

    monkeypatch.setattr(overlaps, "audit", finds_less)
    monkeypatch.setattr(overlaps, "key", lambda sets: "another")
    with pytest.raises(ValueError, match=r"0 images more, 1 fewer.*another --workdir"):
        _open(_config(), tmp_path, folders)

    path = tmp_path / "audit" / "exclusions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"exclusions.csv was changed"):
        _open(_config(), tmp_path, folders)


def test_negatives_are_counted_against_what_is_left(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    options = {"datasets": {"a": 1.0}, "queue_size": 16}  # of 15, 12 are left

    with pytest.raises(ValueError, match=r"a pool of 12 images"):
        _open(_config(**options), tmp_path, folders)


def test_no_audit_without_stage_1(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    config = dataclasses.replace(_config(), runs={})

    assert pool.find(config, epath.Path(tmp_path), folders) is None
    pool.write(config, epath.Path(tmp_path), folders, None)

    assert not (tmp_path / "audit").exists()
