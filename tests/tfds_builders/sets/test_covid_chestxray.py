"""The COVID-19 image data collection from its stand-in: rows, labels, every quirk."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import covid_chestxray
from tfds_builders.covid_chestxray import (
    covid_chestxray_dataset_builder,
    dummy_data,
)
from tfds_builders.releases import diagnosis

_builder = functools.partial(release_check.builder, covid_chestxray)
_items = functools.partial(release_check.items, covid_chestxray)
ROOT = "covid-chestxray-dataset"


@pytest.fixture(scope="module")
def examples(prepared: release_check.Prepared) -> list[dict[str, Any]]:
    return list(prepared.examples.values())


@pytest.fixture
def changed(dummy: epath.Path, tmp_path) -> epath.Path:
    """A copy that a test may change: the folder with the table."""
    shutil.copytree(dummy, tmp_path / "copy")
    return epath.Path(tmp_path / "copy" / ROOT)


def _findings(example: dict[str, Any]) -> set[str]:
    names = covid_chestxray_dataset_builder.FINDINGS.values()
    return {n for n, v in zip(names, example["labels"]["finding"], strict=True) if v}


def test_everything_is_read_as_released(examples: list[dict[str, Any]]):
    ids = [example["image_id"].decode() for example in examples]
    patients = [example["patient_id"].decode() for example in examples]

    assert len(ids) == 12
    assert ids[:3] == ["case-0-day0.jpg", "case-0-day1.png", "case-1-day0.PNG"]
    assert patients[:3] == ["covid:0", "covid:0", "covid:1"]
    assert [list(e["labels"]["label"]) for e in examples[1:3]] == [[0, 1], [1, 0]]


def test_findings_are_read_as_paths(examples: list[dict[str, Any]]):
    assert _findings(examples[0]) == {"pneumonia", "viral", "covid_19"}
    assert _findings(examples[2]) == {"pneumonia"}
    assert _findings(examples[6]) == {"no_finding"}
    assert _findings(examples[10]) == {"pneumonia", "viral", "sars"}


def test_what_is_told_about_an_image(examples: list[dict[str, Any]]):
    told = [tuple(e[k].decode() for k in ("view", "sex", "study_id")) for e in examples]

    assert told[0] == ("PA", "M", "0-0")
    assert told[1] == ("L", "M", "0-4")
    assert told[2] == ("AP Supine", "F", "1-0")
    assert told[3] == ("AP", "F", "")
    assert told[4] == ("PA", "", "2-0")
    assert [examples[i]["age"] for i in (0, 2)] == [30, 31]
    assert np.isnan(examples[4]["age"])


def test_pictures_of_all_kinds_have_one_channel(
    examples: list[dict[str, Any]], dummy: epath.Path
):
    by_name = {example["image_id"].decode(): example for example in examples}
    paths = {name: dummy / ROOT / "images" / name for name in by_name}

    assert release_check.kinds_of(by_name, paths) == {"grey", "RGB", "RGBA"}
    assert by_name["case-0-day0.jpg"]["image"].shape == (48, 48, 1)
    assert by_name["case-1-day0.PNG"]["image"].shape == (48, 64, 1)


def test_what_is_left_out_is_told(prepared: release_check.Prepared):
    reasons = dict(prepared.left_out)

    assert "damaged" in reasons.pop("damaged.jpg")
    assert reasons == {
        "images/ct.png": "not an X-ray but CT",
        "volumes/v.nii.gz": "not an X-ray but CT",
        "images/todo.png": "undecided: its finding is todo",
        "images/unknown.png": "undecided: its finding is Unknown",
        "images/gone.png": "in metadata.csv but not there",
        "slices/elsewhere.png": "in the folder slices, not in images",
        "images/case-0-day0.jpg": "listed twice",
        "images/stranger.png": "not in metadata.csv",
    }


@pytest.mark.parametrize(
    ("published", "status"), [(15, diagnosis.FOUND), (16, diagnosis.PARTLY)]
)
def test_undecided_images_count_as_there(
    published: int, status: str, dummy: epath.Path, monkeypatch
):
    # 13 are kept, one of them damaged, and 2 are undecided.
    monkeypatch.setattr(covid_chestxray.Builder, "EXPECTED", {"images": published})

    told = diagnosis.examine(covid_chestxray.Builder, dummy)

    assert (told.status, told.counts["images"].found) == (status, 13)


def test_germs_alone_tell_nothing_of_what_is_above(changed: epath.Path):
    findings = {
        "case-0-day0.jpg": "COVID-19",
        "case-0-day1.png": '"SARS, Pneumonia"',
        "case-1-day0.PNG": "Pneumocystis",
        "case-1-day1.jpeg": "Pneumonia/Viral/SARS",
        "case-2-day0.jpg": "No Finding",
    }
    rows = [f"{i},{f},PA,{n}" for i, (n, f) in enumerate(findings.items())]
    text = "\n".join(["patientid,finding,view,filename", *rows])
    (changed / "metadata.csv").write_text(text)
    names = covid_chestxray_dataset_builder.FINDINGS.values()

    told = []
    for item in _items(changed).values():
        values = zip(names, item.labels["finding"], strict=True)
        told.append({name: int(value) for name, value in values if value})

    assert told == [
        {"covid_19": 1, "pneumonia": -1, "viral": -1},
        {"sars": 1, "pneumonia": 1, "viral": -1},
        {"pneumonia": -1, "fungal": -1},
        {"sars": 1, "pneumonia": 1, "viral": 1},
        {"no_finding": 1},
    ]


def test_the_folder_of_another_set_is_not_taken(changed: epath.Path, tmp_path):
    other = tmp_path / "copy" / "another"
    (other / "images").mkdir(parents=True)
    (other / "metadata.csv").write_text("id,file\n1,a.png\n")

    assert len(_items(tmp_path / "copy")) == 13
    shutil.rmtree(changed)
    with pytest.raises(FileNotFoundError, match="covid_chestxray: not found"):
        _items(tmp_path / "copy")


def test_an_early_table_is_read(changed: epath.Path):
    rows = [
        "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi,"
        " url",
        "1, ,,,COVID-19,,PA,2019,,case-0-day0.jpg,,https://x",
        '2,0,M,65,"COVID-19, ARDS",Y,AP,2020,,case-0-day1.png,,https://x',
        "3,4,M,74,SARS,N,PA,2004,,case-1-day0.PNG,,https://x",
        "17,9,M,54,COVID-19,Y,CT,2020,,case-1-day1.jpeg,,https://x",
    ]
    (changed / "metadata.csv").write_text("\r\n".join(rows))

    found = _items(changed)

    assert {n: int(i.labels["label"][1]) for n, i in found.items()} == {
        "case-0-day0.jpg": 1,
        "case-0-day1.png": 1,
        "case-1-day0.PNG": 0,
    }
    assert found["case-0-day0.jpg"].patient == "covid:1"


def test_a_missing_table_or_folder_says_what_to_do(changed: epath.Path, tmp_path):
    (changed / "metadata.csv").unlink()

    with pytest.raises(FileNotFoundError, match=r"covid_chestxray: not found.*Clone"):
        _items(changed)
    with pytest.raises(FileNotFoundError, match=r"covid_chestxray: not found.*Clone"):
        _items(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("finding", "found", "has no column 'finding'"),
        ("gone.png", "", "row 18 names no file"),
        ("ct.png", '"ct.png', "metadata.csv is damaged"),
    ],
)
def test_a_bad_table_is_refused(old: str, new: str, message: str, changed: epath.Path):
    text = (changed / "metadata.csv").read_text()
    (changed / "metadata.csv").write_text(text.replace(old, new))

    with pytest.raises(ValueError, match=message):
        _items(changed)


def test_two_findings_of_one_image_are_refused(changed: epath.Path):
    path = changed / "metadata.csv"
    path.write_text(
        path.read_text()[::-1].replace(dummy_data.COVID[::-1], "SRAS", 1)[::-1]
    )

    with pytest.raises(ValueError, match=r"row 21: 'case-0-day0\.jpg' comes twice"):
        _items(changed)


def test_a_table_without_any_image_is_refused(changed: epath.Path):
    (changed / "images").rmtree()
    (changed / "images").mkdir()

    with pytest.raises(FileNotFoundError, match=r"none of the .* metadata\.csv.*Clone"):
        _items(changed)
