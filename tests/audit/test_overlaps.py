"""The audit of prepared folders: what is found, excluded, kept and read again."""

from __future__ import annotations

import csv
import hashlib
import json
import pathlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax.audit import exclusions, nestings, overlaps, signatures
from mtpret_jax.data import transforms

Prepare = Callable[..., pathlib.Path]


def _smaller(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


@pytest.fixture
def leaky(prepare: Prepare, pictures: list[np.ndarray]) -> dict[str, overlaps.Set]:
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
        ("z.png", p[7], "test", "nih:7"),
        ("t.png", p[4], "train", "d"),
        ("u.png", _smaller(p[6]), "train", "5"),
        ("w.png", p[8], "test", "8"),
        ("v.png", p[3], "test", "6"),
    ]
    folders = {"one": prepare("one", one), "two": prepare("two", two)}
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
        (row["kind"], row["split"], row["other_split"]): row["pairs"]
        for row in findings.report["overlaps"]
    }
    assert counted == {
        ("near copy", "train", "validation"): 1,
        ("near copy", "validation", "train"): 1,
        ("same patient", "train", "test"): 1,
        ("same pixels", "train", "test"): 2,
        ("same pixels", "train", "train"): 1,
    }
    assert len(findings.copies) == 5
    assert {row["kind"] for row in findings.copies} == {"near copy", "same pixels"}
    images = findings.report["sets"]["one"]["images"]
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
    assert findings.report["overlaps"][0] == {
        "kind": "near copy",
        "dataset": "only",
        "split": "train",
        "other_dataset": "only",
        "other_split": "train",
        "pairs": 1,
        "images": 2,
        "other_images": 2,
    }


def test_patients_are_compared_between_sets_by_their_full_name(
    prepare: Prepare, pictures: list[np.ndarray]
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
    (folder / "splits" / "all.csv").write_text(text)
    preparation = json.loads((folder / "preparation.json").read_text())
    digest = hashlib.sha256(text.encode()).hexdigest()
    preparation["manifests"]["all"] = {"version": 1, "sha256": digest, "images": {}}
    (folder / "preparation.json").write_text(json.dumps(preparation))

    stored, other = leaky, leaky | {"two": overlaps.Set(folder, "all")}

    assert overlaps.key(stored) != overlaps.key(other)
    found = overlaps.audit(other).excluded
    assert [(row.dataset, row.image_id) for row in found] == [("two", "u.png")]


def test_signatures_are_kept_until_the_folder_changes(
    leaky: dict[str, overlaps.Set], monkeypatch: pytest.MonkeyPatch
):
    first = overlaps.audit(leaky)
    folder = epath.Path(leaky["one"].folder)
    kept = list(folder.parent.glob("signatures-*.npz"))
    read = []
    decode = transforms.decode
    monkeypatch.setattr(
        transforms, "decode", lambda encoded: (read.append(0), decode(encoded))[1]
    )

    assert overlaps.audit(leaky) == first
    assert not read

    path = folder / "preparation.json"
    path.write_text(path.read_text() + "\n")
    overlaps.audit(leaky)
    assert len(read) == 7
    now = list(folder.parent.glob("signatures-*.npz"))
    assert len(kept) == len(now) == 1
    assert kept != now


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
    path.write_text(path.read_text().replace("exact.png", "fine.png"))
    with pytest.raises(ValueError, match=r"exclusions.csv was changed after the audit"):
        overlaps.read(folder)


def test_documented_nestings_are_named_where_both_sets_are_there():
    builders = {"masks": "chest_xray_masks", "china": "shenzhen_cxr", "mine": "mura"}

    found = nestings.present(builders)

    assert [(outer, inner) for outer, inner, _ in found] == [("masks", "china")]


def test_a_folder_that_is_not_prepared_is_named(tmp_path: pathlib.Path):
    with pytest.raises(FileNotFoundError, match=r"in .*nowhere: expected"):
        overlaps.audit({"x": overlaps.Set(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match="expected a prepared folder"):
        signatures.key(tmp_path)
