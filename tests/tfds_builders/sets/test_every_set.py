"""What holds for every released set, on made-up releases."""

import collections
import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

import tfds_builders
from tests.tfds_builders import release_check
from tfds_builders import dummy, prepared
from tfds_builders.releases import catalogue

NAMES = tuple(catalogue.released())


@pytest.fixture(scope="module", params=NAMES)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, epath.Path]:
    """A set and its release."""
    folder = epath.Path(tmp_path_factory.mktemp(request.param))
    # Of 48, MURA's strata, of body part and label, have too few for every split.
    images = 40 if request.param == "mura" else 48
    dummy.write(request.param, folder, images=images)
    return request.param, folder


def _builder(name: str, folder: epath.PathLike):
    return release_check.builder(getattr(tfds_builders, name), folder)


@pytest.mark.parametrize("around", ["", "archive", "a/b/c"])
def test_folders_around_the_release_do_not_matter(
    made: tuple[str, epath.Path], tmp_path: pathlib.Path, around: str
):
    name, folder = made
    expected = _builder(name, folder)
    root = expected.release.root
    shutil.copytree(root, tmp_path / around, dirs_exist_ok=True)
    junk = tmp_path / "__MACOSX"
    shutil.copytree(root, junk / root.name)

    found = _builder(name, tmp_path)

    assert found.release.root == tmp_path / around
    assert found.manifests() == expected.manifests()
    assert list(found.left_out()) == list(expected.left_out())
    assert found.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("manifest", ["grouped", "official"])
def test_splits_keep_patients_whole_and_hold_every_class(
    made: tuple[str, epath.Path], manifest: str
):
    builder = _builder(*made)
    if manifest == "official" and builder.name != "mura":
        return  # Makers' own splits promise nothing.

    split_of = builder.manifests()[manifest].split_of

    homes, classes = collections.defaultdict(set), collections.defaultdict(set)
    for item in builder.found:
        split = split_of[item.image_id]
        homes[item.patient or item.image_id].add(split)
        label = np.asarray(item.labels.get("label", [1]))
        classes[split] |= {*np.flatnonzero(label == 1).tolist()}
    assert {len(splits) for splits in homes.values()} == {1}
    there = {*range(len(builder.LABELS.get("label", [""])))}
    assert [classes[split] for split in prepared.SPLITS] == [there] * 3
