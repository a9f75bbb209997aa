"""Tests of clinical readings."""

from __future__ import annotations

import math

import pytest

from tfds_builders.sources import readings


@pytest.mark.parametrize(
    ("text", "sex", "age"),
    [
        ("male 45yrs\nnormal\n", "M", 45),
        ("female24yrs\nSTB", "F", 24),
        ("femal 32yrs\r\nbilateral PTB", "F", 32),
        ("male , 29yrs  \t\n", "M", 29),
        ("\n\nFemale, 28yrs\rnormal", "F", 28),
        ("male 16month\n", "M", 16 / 12),
        ("female 64days\n", "F", 64 / 365.25),
        ("male 42\n2 nodules", "M", 42),
        ("Patient's Sex: F \nPatient's Age: 027Y\nnormal", "F", 27),
        ("Patient's Sex: O\r\nPatient's Age: 009M \r\nnormal", "", 0.75),
        ("Patient's Sex: \nPatient's Age: \nno 5 findings", "", math.nan),
        ("", "", math.nan),
        ("\xff\x00 nothing", "", math.nan),
        ("male 9xyz", "M", math.nan),
        ("normal", "", math.nan),
        ("abnormal, 3 nodules", "", math.nan),
        ("malignant? 60yrs", "", math.nan),
        ("femoral line, 24 cm", "", math.nan),
        ("no report, same patient as MCUCXR_0162_1", "", math.nan),
        ("STB 3 months", "", math.nan),
        ("male STB since 3 months", "M", math.nan),
        ("2012-04-03 male 45yrs", "M", 45),
        ("2012-04-03", "", math.nan),
        ("male 121yrs", "M", math.nan),
        ("male 130 months", "M", 130 / 12),
        ("Patient's Sex: M\nPatient's Age: 414Y\nnormal", "M", math.nan),
        ("Patient's Sex: F\n3 nodules\n", "F", math.nan),
    ],
)
def test_sex_and_age_in_every_spelling(text: str, sex: str, age: float):
    found = readings.parse(text.encode("latin-1"))

    assert found.sex == sex
    assert found.age == pytest.approx(age, nan_ok=True)
    assert found.about().sex == sex


def test_images_that_refer_to_each_other_are_of_one_patient():
    note = "no report, same patient as {}"
    texts = {
        "MCUCXR_0162_1": "normal",
        "MCUCXR_0166_1": note.format("MCUCXR_0162_1"),
        "MCUCXR_0170_0": note.format("mcucxr_0166_1"),
        "MCUCXR_0001_0": note.format("MCUCXR_0400_1"),
        "MCUCXR_0002_0": "",
    }

    found = readings.patients({k: readings.parse(t.encode()) for k, t in texts.items()})

    assert found == {
        "MCUCXR_0162_1": "MCUCXR_0162",
        "MCUCXR_0166_1": "MCUCXR_0162",
        "MCUCXR_0170_0": "MCUCXR_0162",
        "MCUCXR_0001_0": "MCUCXR_0001",
        "MCUCXR_0002_0": "MCUCXR_0002",
    }


def test_tables_of_mirrors():
    text = (
        "study_id,gender,age,findings\na_0.png,Female,24,x\nb_1.png,,,\nc,M,16month\n"
    )

    found = readings.parse_table(text.encode(), "t.csv")

    assert [r.sex for r in found.values()] == ["F", "", "M"]
    assert list(found) == ["a_0", "b_1", "c"]
    assert found["c"].age == pytest.approx(16 / 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,age\na,1\n", "no column 'sex'"),
        ("study_id,sex,age\na,M,1\na,M,1\n", "row 3, study_id: 'a' comes twice"),
        ("study_id,sex,age\na,x,1\n", "row 2, sex: no sex in 'x'"),
        ("study_id,sex,age\na,normal,1\n", "row 2, sex: no sex in 'normal'"),
        ("study_id,sex,age\na,M,old\n", "row 2, age: no age in 'old'"),
        ("study_id,sex,age\na,M,2012-04-03\n", "no age in '2012-04-03'"),
    ],
)
def test_bad_cells_are_named(text: str, message: str):
    with pytest.raises(ValueError, match=rf"t\.csv.*{message}"):
        readings.parse_table(text.encode(), "t.csv")
