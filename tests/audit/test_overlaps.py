"""The audit of prepared folders: what is found, excluded, kept and read again."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax.audit import exclusions, overlaps, signatures
from tfds_builders import whole

Prepare = Callable[..., pathlib.Path]
Say = Callable[..., None]


def _smaller(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@pytest.fixture
def leaky(
    prepare: Prepare, say: Say, pictures: list[np.ndarray]
) -> dict[str, overlaps.Set]:
    """Two sets: "one" trains on what "two" tests on, in every way there is."""
    p = pictures
    one = [
        ("exact.png", p[0], "train", "a"),
        ("near.png", p[1], "train", "b"),
        ("patient.png", p[2], "train", "nih:7"),
        ("own.png", p[3], "train", "c"),
        ("both.png", p[4], "train", "d"),
        ("fine.png", p[5], "train", "8"),
        ("val.png", p[6], "val", "e"),
    ]
    two = [
        ("x.png", p[0], "test", "1"),
        ("y.png", _smaller(p[1]), "val", "2"),
        ("z.png", p[7], "test", "nih:007"),  # the same patient as "nih:7"
        ("t.png", p[4], "train", "d"),
        ("u.png", _smaller(p[6]), "train", "5"),
        ("w.png", p[8], "test", "8"),
        ("v.png", p[3], "test", "6"),
    ]
    folders = {"one": prepare("one", one), "two": prepare("two", two)}
    for folder in folders.values():
        say(folder, has_patient_namespace=True)
    return {name: overlaps.Set(folder) for name, folder in folders.items()}


def test_only_training_images_met_again_in_evaluation_are_excluded(
    leaky: dict[str, overlaps.Set],
):
    found = overlaps.audit(leaky).excluded

    said = {
        (row.dataset, row.image_id): (
            row.reason,
            row.other_dataset,
            row.other_image_id,
            row.other_split,
        )
        for row in found
    }
    assert said == {
        ("one", "exact.png"): ("same pixels", "two", "x.png", "test"),
        ("one", "near.png"): ("near copy", "two", "y.png", "validation"),
        # "8" in both sets may be two patients: nobody says who numbered them.
        ("one", "patient.png"): ("same patient", "two", "z.png", "test"),
        ("one", "own.png"): ("same pixels", "two", "v.png", "test"),
        # Copies in two train splits leak nothing: both.png and t.png stay.
        ("two", "u.png"): ("near copy", "one", "val.png", "validation"),
    }


def test_overlaps_are_counted_by_split_and_listed(leaky: dict[str, overlaps.Set]):
    findings = overlaps.audit(leaky)

    counted = {
        (row.kind, row.split, row.other_split): row.pairs
        for row in findings.report.overlaps
    }
    assert counted == {
        ("near copy", "train", "validation"): 1,
        ("near copy", "validation", "train"): 1,
        ("same patient", "train", "test"): 1,
        ("same pixels", "train", "test"): 2,
        ("same pixels", "train", "train"): 1,
    }
    assert len(findings.copies) == 5
    assert {row.kind for row in findings.copies} == {"near copy", "same pixels"}
    images = findings.report.sets["one"].images
    assert images == {"train": 6, "validation": 1}


def test_copies_within_a_set_count_too(prepare: Prepare, pictures: list[np.ndarray]):
    rows = [
        ("a.png", pictures[0], "train", "1"),
        ("b.png", pictures[0], "test", "2"),
        ("c.png", pictures[1], "train", "3"),
        ("d.png", _smaller(pictures[1]), "train", "4"),
    ]
    sets = {"only": overlaps.Set(prepare("only", rows))}

    findings = overlaps.audit(sets)

    assert [row.image_id for row in findings.excluded] == ["a.png"]
    assert dataclasses.asdict(findings.report.overlaps[0]) == {
        "kind": "near copy",
        "dataset": "only",
        "split": "train",
        "other_dataset": "only",
        "other_split": "train",
        "pairs": 1,
        "images": 2,
        "other_images": 2,
    }


def test_what_copies_an_excluded_image_is_excluded_too(
    prepare: Prepare, say: Say, pictures: list[np.ndarray]
):
    """However long the way, through copies and through the patients they belong to."""
    p = pictures
    sets = {
        "one": [
            ("patient.png", p[2], "train", "nih:1"),
            ("free.png", p[3], "train", "nih:3"),
            ("left.png", p[1], "val", "nih:2"),
        ],
        "held": [
            ("held.png", p[0], "test", "nih:1"),
            ("rest.png", p[7], "train", "nih:4"),
        ],
        "two": [
            ("copy.png", p[2], "train", ""),
            ("smaller.png", _smaller(p[2]), "train", "7"),
            ("visit.png", p[4], "train", "7"),
            ("freed.png", p[3], "train", "8"),
            ("other.png", p[5], "test", ""),
        ],
        "three": [
            ("again.png", _smaller(p[4]), "train", ""),
            ("other.png", p[6], "test", ""),
        ],
    }

    folders = {name: prepare(name, rows) for name, rows in sets.items()}
    for name in ("one", "held"):
        say(folders[name], has_patient_namespace=True)

    findings = overlaps.audit({n: overlaps.Set(f) for n, f in folders.items()})

    found = {row.image_id: row for row in findings.excluded}
    said = {
        image: (row.reason, row.other_dataset, row.other_image_id, row.other_split)
        for image, row in found.items()
    }
    assert said == {
        "patient.png": ("same patient", "held", "held.png", "test"),
        "copy.png": ("same pixels", "one", "patient.png", "train"),
        "smaller.png": ("near copy", "one", "patient.png", "train"),
        "visit.png": ("same patient", "two", "smaller.png", "train"),
        "again.png": ("near copy", "two", "visit.png", "train"),
    }
    lines = findings.report.exclusions()
    assert "  two: 1, same pixels as in one train, itself excluded" in lines


def test_a_colon_alone_makes_no_patient_known_elsewhere(
    prepare: Prepare, say: Say, pictures: list[np.ndarray]
):
    one = [("a.png", pictures[0], "train", "2019:7"), ("b.png", pictures[1], "val", "")]
    two = [("c.png", pictures[2], "test", "2019:7"), ("d.png", pictures[3], "val", "")]
    sets = {"one": prepare("one", one), "two": prepare("two", two)}
    audited = {name: overlaps.Set(folder) for name, folder in sets.items()}

    for said in (None, False):
        say(sets["one"], has_patient_namespace=said)
        assert not overlaps.audit(audited).excluded
    for folder in sets.values():
        say(folder, has_patient_namespace=True)
    assert len(overlaps.audit(audited).excluded) == 1


def test_patients_are_compared_between_sets_by_their_full_name(
    prepare: Prepare, say: Say, pictures: list[np.ndarray]
):
    """Option `patients` gives the name; images on their own are nobody's."""
    train = [("a.png", pictures[0], "train", "7"), ("b.png", pictures[1], "train", "")]
    test = [("c.png", pictures[2], "test", "7"), ("b.png", pictures[3], "test", "")]
    sets = {
        "plain": prepare("plain", train),
        "named": prepare("named", train, patients="nih"),
        "other": prepare("other", train, patients="mura"),
        "held": prepare("held", test, patients="nih"),
    }
    for name, folder in sets.items():
        say(folder, has_patient_namespace=name != "plain")

    found = overlaps.audit(
        {name: overlaps.Set(folder) for name, folder in sets.items()}
    )

    by_patient = [r for r in found.excluded if r.reason == exclusions.SAME_PATIENT]
    assert [(r.dataset, r.image_id) for r in by_patient] == [("named", "a.png")]


def test_the_splits_in_use_decide(leaky: dict[str, overlaps.Set]):
    """Under another manifest, other images are met again, and the key differs."""
    folder = epath.Path(leaky["two"].folder)
    rows = list(csv.DictReader((folder / "index.csv").read_text().splitlines()))
    text = "image_id,split\n" + "".join(f"{row['image_id']},train\n" for row in rows)
    (folder / "splits").mkdir(exist_ok=True)
    whole.write(folder / "splits" / "all.csv", text)
    preparation = json.loads((folder / "preparation.json").read_text())
    digest = hashlib.sha256(text.encode()).hexdigest()
    preparation["manifests"]["all"] = {"version": 1, "sha256": digest, "images": {}}
    whole.write_json(folder / "preparation.json", preparation)

    stored, other = leaky, leaky | {"two": overlaps.Set(folder, "all")}

    assert overlaps.key(stored) != overlaps.key(other)
    found = overlaps.audit(other).excluded
    assert [(row.dataset, row.image_id) for row in found] == [("two", "u.png")]


def test_signatures_are_kept_until_the_folder_changes(
    leaky: dict[str, overlaps.Set], monkeypatch: pytest.MonkeyPatch
):
    first = overlaps.audit(leaky)
    folder = epath.Path(leaky["one"].folder)
    kept = list(folder.glob("signatures-*.npz"))
    read = []
    look = signatures._of_picture
    monkeypatch.setattr(
        signatures, "_of_picture", lambda picture: (read.append(0), look(picture))[1]
    )

    assert overlaps.audit(leaky) == first
    assert not read

    path = folder / "preparation.json"
    whole.write(path, path.read_text() + "\n")
    overlaps.audit(leaky)
    assert len(read) == 7
    now = list(folder.glob("signatures-*.npz"))
    assert len(kept) == len(now) == 1
    assert kept != now


@pytest.mark.parametrize("is_old", [False, True])
def test_other_examples_of_the_same_names_are_looked_at(
    prepare: Prepare,
    say: Say,
    pictures: list[np.ndarray],
    caplog: pytest.LogCaptureFixture,
    is_old: bool,
):
    """Neither index nor source tell them apart; an old folder has but its shards."""

    def make(name: str, last: np.ndarray) -> pathlib.Path:
        rows = [("a.png", pictures[0], "train", "1"), ("b.png", last, "test", "2")]
        folder = prepare(name, rows)
        digest = None if is_old else hashlib.sha256(last.tobytes()).hexdigest()
        say(folder, records_sha256=digest, fingerprint="same")
        return folder

    first, other = make("one", pictures[1]), make("other", pictures[0])
    assert not overlaps.audit({"one": overlaps.Set(first)}).excluded
    assert ("Delete the folder and prepare" in caplog.text) == is_old
    report = other / "preparation.json"
    whole.write(report, (first / "preparation.json").read_text())
    for path in first.glob("signatures-*.npz"):
        shutil.copy(path, other)
    for path in other.glob("*array_record*"):
        os.utime(path, (0, 0))  # Made at another time.
    if not is_old:
        digest = hashlib.sha256(pictures[0].tobytes()).hexdigest()
        say(other, records_sha256=digest)

    assert len(overlaps.audit({"one": overlaps.Set(other)}).excluded) == 1


def test_a_folder_that_may_not_be_written_is_audited_all_the_same(
    leaky: dict[str, overlaps.Set],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def refuse(path: epath.Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(epath.Path("x")), "write_bytes", refuse)

    assert len(overlaps.audit(leaky).excluded) == 5
    assert "can't be kept" in caplog.text
    assert not list(pathlib.Path(leaky["one"].folder).glob("signatures-*"))


def test_damaged_signatures_are_made_anew(
    leaky: dict[str, overlaps.Set], caplog: pytest.LogCaptureFixture
):
    first = overlaps.audit(leaky)
    (kept,) = pathlib.Path(leaky["one"].folder).glob("signatures-*")
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        assert overlaps.audit(leaky) == first
        assert "can't be read" in caplog.text
        assert kept.read_bytes() == whole


def test_processes_that_audit_at_once_do_not_meet(
    leaky: dict[str, overlaps.Set], monkeypatch: pytest.MonkeyPatch
):
    """Another one has written, and cleared away, what was there in the meantime."""
    folder = pathlib.Path(leaky["one"].folder)
    (folder / "signatures-old.npz").touch()
    compute = signatures._compute
    within: list[epath.Path] = []

    def twice(path: epath.Path) -> signatures.Signatures:
        if not within:
            within.append(path)
            signatures.open_folder(path)
        return compute(path)

    monkeypatch.setattr(signatures, "_compute", twice)

    signatures.open_folder(folder)

    assert len(list(folder.glob("signatures-*"))) == 1


def test_what_is_written_is_read_again_unless_it_was_changed(
    leaky: dict[str, overlaps.Set], tmp_path: pathlib.Path
):
    folder = epath.Path(tmp_path / "audit")
    assert overlaps.read(folder) is None
    findings = overlaps.audit(leaky)

    overlaps.write(folder, findings)

    read = overlaps.read(folder)
    assert read is not None
    assert (read.report, read.excluded) == (findings.report, findings.excluded)
    with (folder / "copies.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    path = folder / exclusions.FILE
    whole.write(path, path.read_text().replace("exact.png", "fine.png"))
    with pytest.raises(ValueError, match=r"exclusions.csv was changed after the audit"):
        overlaps.read(folder)


def test_documented_nestings_are_named_where_both_sets_are_there():
    builders = {"masks": "chest_xray_masks", "china": "shenzhen_cxr", "mine": "mura"}

    found = exclusions.nestings(builders)

    assert [(outer, inner) for outer, inner, _ in found] == [("masks", "china")]


def test_a_folder_that_is_not_prepared_is_named(tmp_path: pathlib.Path):
    with pytest.raises(FileNotFoundError, match=r"in .*nowhere: expected"):
        overlaps.audit({"x": overlaps.Set(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match="expected a prepared folder"):
        signatures.key(tmp_path)
