"""Training images that a set tests on again: left out of stage 3, and told first."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import types
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import findings
from mtpret_jax.experiment import feed, pool, workfolder, workshop
from mtpret_jax.report import parts, sentences
from tfds_builders import xray_folder
from tfds_builders.phantom_xray import simulator


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, epath.Path]:
    """A set with labels that tests on the mirror images of two training images."""
    root = tmp_path_factory.mktemp("labelled")
    (root / "images").mkdir()
    rows = []
    for i in range(16):
        drawn = i - 14 if i >= 14 else i
        picture = simulator.simulate(
            "chest", size=96, seed=0, split_index=0, index=drawn
        ).image
        picture = np.ascontiguousarray(picture[:, ::-1]) if i >= 14 else picture
        cv2.imwrite(str(root / "images" / f"{i}.png"), picture)
        split = "test" if i >= 14 else "val" if i >= 12 else "train"
        rows.append([f"{i}.png", split, f"g{i}", ("no", "yes")[i % 2]])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "split", "group", "sign"], *rows])
    labels = {"sign": ("no", "yes")}
    config = xray_folder.Config(name="c", folder=str(root), labels=labels)
    builder = xray_folder.Builder(data_dir=root / "data", config=config)
    builder.download_and_prepare()
    return {"c": epath.Path(builder.data_dir)}


@pytest.mark.parametrize("excluded", [False, True])
def test_stage_3_trains_on_what_evaluation_holds_again_unless_told_not_to(
    labelled: dict[str, epath.Path], tmp_path: pathlib.Path, excluded: bool
):
    config: Any = schema.defaults()
    config.exclude_copies = excluded
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.datasets.c = schema.dataset("xray_folder", folder="x")
    config.tasks.sign = schema.task(
        kind="classification", dataset="c", target="sign", image_size=32, batch_size=4
    )
    config.runs.tuned = schema.run(stage="finetune", finetune=dict(task="sign"))
    parsed, workdir = schema.parse(config), epath.Path(tmp_path)
    findings = pool.find(parsed, workdir, labelled)
    shop = workshop.open_workshop(parsed, workdir, labelled, findings)
    workfolder.claim_workdir(parsed, workdir, labelled)
    pool.write(shop)

    row = shop.config.runs["tuned"]
    reading = feed.Feed(shop, row, shop.shard)
    with reading.stream("sign") as stream:
        records = [next(stream).arrays["record"] for _ in range(12)]
    index = shop.open_set("c", "train").index
    read = {index[record]["image_id"] for record in np.concatenate(records)}
    left = range(2 * excluded, 12)
    assert read == {f"{i}.png" for i in left}
    assert reading.labels("sign", "train")["records"] == len(left)
    assert (tmp_path / "audit" / "exclusions.csv").exists() == excluded


def test_the_report_says_first_that_a_set_holds_a_picture_in_two_splits():
    overlap = findings.Overlap(
        kind="near copy",
        dataset="a",
        split="test",
        other_dataset="a",
        other_split="train",
        pairs=3,
        images=3,
        other_images=3,
    )
    elsewhere = dataclasses.replace(overlap, other_dataset="b")
    same_split = dataclasses.replace(overlap, other_split="test")

    def told(*overlaps: findings.Overlap, excluded: bool = False) -> list[str]:
        found = findings.Report("", {}, {}, list(overlaps), [], [], "")
        audit = parts.Audit({}, found, excluded)
        report: Any = types.SimpleNamespace(audit=audit, runs={})
        return sentences.warnings(report)

    (line,) = told(overlap)

    assert "copies across splits of a: " in line
    assert "3 pairs of test and train (near copy). Stages 2 and 3 train on" in line
    assert "were left out of all stages" in told(overlap, excluded=True)[0]
    assert not told(elsewhere, same_split)
