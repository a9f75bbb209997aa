"""What the report says of studies, and of how images were shared out."""

import dataclasses
import json
import re

import numpy as np
import pytest

from mtpret_jax.report import contents, page, sentences

SPLITS = {
    "name": "muscle",
    "version": 1,
    "sha256": "0123456789abcdef",
    "images": {"train": 480, "validation": 60, "test": 60},
    "groups_in_several_splits": 1,
}


@pytest.fixture
def studied(workdir):
    """Image i is of patient i % 40; a patient's images make a study."""
    for path in workdir.glob("runs/*_chest_cls/predictions/chest_cls/test.npz"):
        with np.load(path) as arrays:
            records = dict(arrays)
        np.savez(path, study=(records["record"] % 40).astype(np.int32), **records)
    return workdir


def test_studies_are_measured_with_intervals(studied, config, metrics):
    built = contents.build(studied, config, metrics, {})

    assert built.tasks["chest_cls"].studies == 40
    values = built.values["chest_cls"]["1"]["mtpret"]
    for name in ("auroc_study", "kappa_study"):
        assert values[name].low <= values[name].value <= values[name].high
    assert values["auroc_study"].value > 0.5
    assert built.tasks["lung_seg"].studies == 0


def test_the_page_shows_studies_only_where_there_are_any(
    studied, folder, config, metrics
):
    built = contents.build(studied, config, metrics, {})

    text = page.render(studied, dataclasses.replace(built, samples={}))
    other = contents.build(folder, config, metrics, {})
    plain = page.render(folder, dataclasses.replace(other, samples={}))

    part = text[text.index("Per image and per study") :].split("<h2>")[0]
    assert "chest_cls, 100 % of labels: 60 images,\n40 studies" in part
    assert part.count("<tr><td>") == 3
    assert "lung_seg" not in part
    assert "n = 60 images, 40 studies, of 40 groups" in text
    assert "AUROC per study" in text
    assert "per study" not in plain
    assert "kappa" in plain  # of images


def test_the_splits_in_use_are_named_and_shared_patients_are_a_caution(
    workdir, config, metrics
):
    facts = {"chest": {"splits_in_use": SPLITS}, "old": {"splits": {"train": 3}}}
    (workdir / "datasets.json").write_text(json.dumps(facts))

    built = contents.build(workdir, config, metrics, {})
    text = page.render(workdir, dataclasses.replace(built, samples={}))

    table = text[text.index("How images were shared out") :].split("</table>")[0]
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert cells == [
        "chest",
        "muscle, version 1",
        "480",
        "60",
        "60",
        "1",
        SPLITS["sha256"][:12],
    ]
    assert sentences.crossing(built) == [
        "Caution: one patient of chest has images in several splits (“muscle”), so "
        "its test is not of unseen patients."
    ]
    # Before anything that it makes doubtful.
    assert text.index(sentences.crossing(built)[0]) < text.index(
        "of starting a network"
    )
    whole = dataclasses.replace(built.splits["chest"], groups_in_several_splits=0)
    other = dataclasses.replace(built, splits={"chest": whole})
    assert sentences.crossing(other) == []
