"""Tests of MURA on a made-up release."""

from __future__ import annotations

import collections
import functools

import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import mura
from tfds_builders.mura import dummy_data
from tfds_builders.sources import files, splits

_builder = functools.partial(release_check.builder, mura)
ODD = "train/XR_WRIST/patient09001/study1_negative"
# Images of train positive, train negative, valid positive, valid negative.
PUBLISHED = {
    "ELBOW": (2006, 2925, 230, 235),
    "FINGER": (1968, 3138, 247, 214),
    "FOREARM": (661, 1164, 151, 150),
    "HAND": (1484, 4059, 189, 271),
    "HUMERUS": (599, 673, 140, 148),
    "SHOULDER": (4168, 4211, 278, 285),
    "WRIST": (3987, 5765, 295, 364),
}


def _edit(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.fixture
def copy(tmp_path):
    dummy_data.write(epath.Path(tmp_path), images=28)
    return epath.Path(tmp_path)


def test_every_image_is_read_back_with_its_labels(prepared) -> None:
    assert set(prepared.split_of.values()) == {"train", "validation"}
    assert len(prepared.examples) == 60
    for name, example in prepared.examples.items():
        label = example["labels"]["label"].tolist()
        assert label == ([0, 1] if "_positive/" in name else [1, 0])


def test_images_know_their_study_and_body_part(prepared) -> None:
    studies = collections.Counter(e["study_id"] for e in prepared.examples.values())

    assert max(studies.values()) == 3
    for name, example in prepared.examples.items():
        study, _, image = name.rpartition("/")
        assert example["study_id"].decode() == study
        assert example["body_part"].decode() == study.split("/")[1]
        assert image.startswith("image")


def test_patients_keep_all_their_body_parts(dummy, prepared, tmp_path) -> None:
    bodies, homes = collections.defaultdict(set), collections.defaultdict(set)
    split_of = _builder(dummy, tmp_path).manifests()["grouped"].split_of
    for name, example in prepared.examples.items():
        patient = example["patient_id"].decode()
        assert patient == f"mura:{int(name.split('/patient')[1][:5])}"
        bodies[patient].add(example["body_part"])
        homes[patient].add(split_of[name])

    assert max(map(len, bodies.values())) == 2
    assert max(map(len, homes.values())) == 1


def test_a_wrong_suffix_does_not_matter(dummy, prepared) -> None:
    starts = {
        name: (dummy / "MURA-v1.1" / f"{name}.png").read_bytes()[:3]
        for name in prepared.examples
    }

    jpeg = [name for name, start in starts.items() if start == b"\xff\xd8\xff"]
    assert len(jpeg) >= 3


def test_pictures_become_one_channel(dummy, prepared) -> None:
    paths = {name: dummy / "MURA-v1.1" / f"{name}.png" for name in prepared.examples}

    assert release_check.kinds_of(prepared.examples, paths) == {"grey", "RGB", "RGBA"}


def test_junk_of_macos_is_passed_over(prepared) -> None:
    reasons = prepared.left_out

    assert not any("._" in name for name in prepared.examples)
    assert "macOS" in reasons[f"{ODD}/._image2.png"]
    assert f"{ODD}/._image1.png" not in reasons


def test_tables_and_disk_may_differ(prepared) -> None:
    reasons = prepared.left_out

    absent = reasons[f"{ODD}/image3.png"]
    assert absent == "in train_image_paths.csv, but not there"
    assert reasons[f"{ODD}/image4.png"] == "not in train_image_paths.csv"


def test_bad_pictures_go_to_quarantine(prepared) -> None:
    reasons = prepared.left_out

    assert "damaged" in reasons[f"{ODD}/image1"]
    assert reasons[f"{ODD}/image2"] == "the file is empty"
    assert len(reasons) == 5


def test_official_tests_on_valid_and_carves_validation_by_patient(
    dummy, tmp_path
) -> None:
    builder = _builder(dummy, tmp_path)
    official = builder.manifests()["official"].split_of
    homes = collections.defaultdict(set)
    for item in builder.found:
        homes[item.patient].add(official[item.image_id])
        assert (official[item.image_id] == "test") == item.image.startswith("valid/")

    assert max(map(len, homes.values())) == 1
    assert set(official.values()) == set(splits.SPLITS)


def test_strata_are_body_part_and_label_and_give_the_published_counts(
    tmp_path,
) -> None:
    root = epath.Path(tmp_path)
    names = []
    for body, counts in PUBLISHED.items():
        kinds = [(p, w) for p in ("train", "valid") for w in ("positive", "negative")]
        for (part, word), count in zip(kinds, counts, strict=True):
            folder = f"{part}/XR_{body}/patient00001/study1_{word}"
            names += [f"{folder}/image{n}.png" for n in range(count)]
    for part in ("train", "valid"):
        lines = [f"MURA-v1.1/{name}" for name in names if name.startswith(part)]
        (root / f"{part}_image_paths.csv").write_text("\n".join(lines))
    builder = _builder(root, tmp_path / "data")
    listing = files.list_files(root)
    sizes = {**listing.sizes, **dict.fromkeys(names, 1)}
    builder.release = files.Listing(root, sizes, listing.by_stem)

    manifests = builder.manifests()

    counts = {"train": 32013, "validation": 3997, "test": 3995}
    assert manifests["muscle"].counts() == counts
    assert len({item.stratum for item in builder.found}) == 14
    assert manifests["official"].counts()["test"] == 3197
    classes = collections.Counter(item.stratum.split()[1] for item in builder.found)
    counts = {f"label={name}": count for name, count in classes.items()}
    assert {"images": classes.total(), **counts} == builder.EXPECTED


def test_missing_folder_and_table_are_named(copy, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mura: not found.*MURA-v1.1\.zip"):
        _builder(tmp_path / "no", tmp_path / "data").download_and_prepare()

    (copy / "MURA-v1.1" / "valid_image_paths.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"valid_image_paths\.csv"):
        _builder(copy, tmp_path / "data").download_and_prepare()


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("train_image_paths", b"study1_", b"studio_", r"row 1, column 1: .*studio"),
        ("train_labeled_studies", b"/,0", b"/,2", r"row 1: expected .* 0 or 1"),
        ("valid_labeled_studies", b"/,0", b"/,1", "another label"),
    ],
)
def test_a_bad_table_is_one_clear_error(
    table, old, new, message, copy, tmp_path
) -> None:
    _edit(copy / "MURA-v1.1" / f"{table}.csv", old, new)

    with pytest.raises(ValueError, match=message):
        _builder(copy, tmp_path / "data").download_and_prepare()


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_whole_folder_that_is_missing_is_named(part, copy, tmp_path) -> None:
    (copy / "MURA-v1.1" / part).rmtree()

    message = rf"none of the \d+ images of {part}_image_paths.*MURA-v1\.1\.zip"
    with pytest.raises(FileNotFoundError, match=message):
        _ = _builder(copy, tmp_path / "data").found
