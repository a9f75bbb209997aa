"""Clinical readings of the two tuberculosis sets of the NLM: sex, age, same patient.

Shenzhen's begin "male 45yrs", Montgomery's "Patient's Sex: F", "Patient's Age: 027Y";
mirrors have tables instead.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from tfds_builders import xray_features
from tfds_builders.sources import tables

_LABELLED_SEX = re.compile(r"\bsex\s*:[ \t]*([a-z]?)")
_LABELLED_AGE = re.compile(r"\bage\s*:[ \t]*(\d+)[ \t]*([a-z]*)")
_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)")
# The word that starts a line, and an age right behind: "femal 32yrs", "male , 29yrs".
# "normal" and "femoral" tell no sex, "normal, 3 months of STB" no age.
_PERSON = re.compile(
    r"[^a-z]*(?:(?P<f>female?s?|fem|f)|male?s?|m)(?![a-z])"
    r"(?:[\s,;:.-]*(?P<age>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*))?"
)
_OLDEST = 120.0  # years; a number above is something else
# First letter of a unit, and how many are in a year; "yrs" where there is none.
_IN_A_YEAR = {"": 1.0, "y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_OTHER = re.compile(r"same\s+patient\s+as\s+([a-z]+_\d+)_[01]", re.IGNORECASE)
_SEX_COLUMNS = ("sex", "gender")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reading tells besides the findings.

    Attributes:
      sex: "F", "M", or "" where unknown or other.
      age: Years; not a number where unknown.
      same_as: Set and number of another image of the same patient, "MCUCXR_0162"; "".
    """

    sex: str = ""
    age: float = math.nan
    same_as: str = ""

    def about(self) -> xray_features.About:
        """As the features of an image."""
        return xray_features.About(sex=self.sex, age=self.age)


def parse(content: bytes) -> Reading:
    """Reads a file of either set; what it does not tell is unknown, never an error."""
    text = content.decode("latin-1").replace("\r", "\n")
    lower = text.lower()
    first = next((line for line in lower.splitlines() if line.strip()), "")
    sex, age = _LABELLED_SEX.search(lower), _LABELLED_AGE.search(lower)
    person, other = _PERSON.match(first), _OTHER.search(text)
    if not age and person and person["age"]:
        years = _years(person["age"], person["unit"])
    else:
        years = _years(age[1], age[2]) if age else math.nan
    return Reading(
        sex=_sex(sex[1] if sex else first),
        age=years,
        same_as=other[1].upper() if other else "",
    )


def parse_table(content: bytes, name: str) -> dict[str, Reading]:
    """Reads the table of a mirror: `study_id`, `sex` or `gender`, `age`.

    Returns:
      Reading of each image by its name without suffix.

    Raises:
      ValueError: If a column is missing, an image comes twice, or a cell that is not
        empty holds no sex or age.
    """
    columns, rows = tables.parse(content, name, fallback="latin-1")
    column = next((c for c in _SEX_COLUMNS if c in columns), _SEX_COLUMNS[0])
    tables.require(columns, ["study_id", column, "age"], name)
    found: dict[str, Reading] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{name}: row {number}"
        key = row["study_id"].rsplit(".", maxsplit=1)[0]
        if key in found:
            raise ValueError(f"{where}, study_id: {row['study_id']!r} comes twice.")
        sex = read_sex(row[column], f"{where}, {column}")
        age = read_age(row["age"], f"{where}, age")
        other = _OTHER.search(row.get("findings", ""))
        found[key] = Reading(sex, age, other[1].upper() if other else "")
    return found


def read_sex(cell: str, where: str) -> str:
    """Sex as "F" or "M"; "" where a cell is empty or says other.

    Raises:
      ValueError: If it says something else; begins with `where`.
    """
    sex = _sex(cell.lower())
    if cell and not sex and cell.lower() not in ("o", "other"):
        raise ValueError(f"{where}: no sex in {cell!r}.")
    return sex


def read_age(cell: str, where: str) -> float:
    """Years from "58", "058Y" or "10 months"; not a number where a cell is empty.

    Raises:
      ValueError: If it holds no age; begins with `where`.
    """
    age = _age(cell.lower())
    if cell and math.isnan(age):
        raise ValueError(f"{where}: no age in {cell!r}.")
    return age


def patients(readings: Mapping[str, Reading]) -> dict[str, str]:
    """Joins images of one patient by what the readings say.

    Args:
      readings: By name of the image without suffix, "MCUCXR_0001_0".

    Returns:
      Set and number, "MCUCXR_0001", that stands for the patient of each image: the
      lowest of those that refer to each other.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for name, reading in readings.items():
        if reading.same_as:
            both = sorted((root(_number(name)), root(reading.same_as)))
            parent[both[1]] = both[0]
    return {name: root(_number(name)) for name in readings}


def _number(name: str) -> str:
    """Name of an image without the digit of its label."""
    return name.rsplit("_", maxsplit=1)[0]


def _sex(text: str) -> str:
    """Sex that a line in lower case starts with."""
    person = _PERSON.match(text)
    if not person:
        return ""
    return "F" if person["f"] else "M"


def _age(text: str) -> float:
    """Age that a cell in lower case starts with."""
    match = _AGE.match(text)
    return _years(match[1], match[2]) if match else math.nan


def _years(number: str, unit: str) -> float:
    """Age in years; not a number for another unit, or where nobody is that old."""
    in_a_year = _IN_A_YEAR.get(unit[:1])
    years = float(number) / in_a_year if in_a_year else math.nan
    return years if years <= _OLDEST else math.nan
