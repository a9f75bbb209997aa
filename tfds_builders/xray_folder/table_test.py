"""Patients of a table: whose ids they are, and that splits do not depend on it."""

from tfds_builders import xray_folder
from tfds_builders.xray_folder import table


def _config(**options: str) -> xray_folder.Config:
    return xray_folder.Config(name="mine", folder="x", **options)


def test_patients_get_the_name_of_who_numbered_them():
    groups = ["7", "image:a.png"]

    assert table.named(_config(), groups) == groups
    assert table.named(_config(patients="nih"), groups) == ["nih:7", "image:a.png"]


def test_an_image_without_a_group_is_its_own():
    found = table.groups(
        _config(), ["group"], [{"group": "7"}, {"group": ""}], ["a", "b"]
    )

    assert found == ["7", "image:b"]
