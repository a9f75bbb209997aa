"""A made-up release of the set that a file of tests is named after, and what is read.

A file may say how many IMAGES it has, and the OPTIONS with which it is prepared.
"""

import pathlib
import shutil
from types import ModuleType
from typing import Any

import pytest
from etils import epath

import tfds_builders
from tests.tfds_builders import release_check
from tfds_builders import dummy as releases


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest) -> ModuleType:
    return getattr(tfds_builders, request.module.__name__.split("test_")[-1])


@pytest.fixture(scope="module")
def dummy(
    request: pytest.FixtureRequest,
    package: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> epath.Path:
    folder = epath.Path(tmp_path_factory.mktemp("release"))
    images = getattr(request.module, "IMAGES", None)
    releases.write(package.Builder.name, folder, images=images)
    return folder


@pytest.fixture(scope="module")
def prepared(
    request: pytest.FixtureRequest,
    package: ModuleType,
    dummy: epath.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> release_check.Prepared:
    options = getattr(request.module, "OPTIONS", {})
    data = tmp_path_factory.mktemp("data")
    return release_check.prepare(package.Builder, dummy, data, **options)


@pytest.fixture(scope="module")
def examples(prepared: release_check.Prepared) -> dict[str, dict[str, Any]]:
    return prepared.examples


@pytest.fixture
def mine(dummy: epath.Path, tmp_path: pathlib.Path) -> epath.Path:
    """A copy to change."""
    return epath.Path(shutil.copytree(dummy, tmp_path / "mine"))
