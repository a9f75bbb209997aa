"""What the doctor says about whole, broken, missing and packed releases."""

import json
import pathlib
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from etils import epath

from tfds_builders import doctor, dummy, kermany_pneumonia
from tfds_builders.releases import catalogue, diagnosis

SET = "kermany_pneumonia"


class Whole(kermany_pneumonia.Builder, skip_registration=True):
    """Expects as many images as the dummy release has."""

    EXPECTED: ClassVar[dict[str, int]] = {"images": 50}


@pytest.fixture
def release(tmp_path) -> epath.Path:
    folder = epath.Path(tmp_path) / "downloads"
    dummy.write(SET, folder / "here", images=48)
    return folder


def _json(capsys, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = doctor.main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_release_with_fewer_images_than_published_is_partly_there(release, capsys):
    code, report = _json(capsys, str(release), SET, "--images", "all")

    (entry,) = report["sets"]
    assert code == 0
    assert report["would_prepare"]
    assert (entry["name"], entry["status"]) == (SET, "partly there")
    assert entry["root"] == str(release / "here" / "chest_xray")
    assert entry["counts"]["images"] == {"found": 50, "expected": 5856}
    assert "label=(unknown)" not in entry["counts"]
    assert entry["counts"]["subtype=(unknown)"] == {"found": 1, "expected": None}
    assert entry["read"] == 50
    assert {file["reason"].split(":")[0] for file in entry["unreadable"]} == {
        "damaged",
        "the file is empty",
    }
    assert entry["left_out"][0]["count"] == 1
    assert "Fewer than were published: images" in entry["next_step"]


def test_a_release_with_all_its_images_is_found(release):
    entry = diagnosis.examine(Whole, release, images=5)

    assert entry.status == diagnosis.FOUND
    assert entry.would_prepare
    assert entry.read == 5
    assert entry.next_step.startswith("Prepare it: ")


def test_which_pictures_are_read_depends_on_the_seed_alone(release):
    first, again, other = (
        diagnosis.examine(Whole, release, images=25, seed=seed) for seed in (0, 0, 1)
    )
    none = diagnosis.examine(Whole, release, images=0)

    assert first == again
    assert first.read == other.read == 25
    assert (none.read, none.unreadable, none.would_prepare) == (0, [], True)


def test_an_empty_folder_holds_nothing(tmp_path, capsys):
    code, report = _json(capsys, str(tmp_path))

    assert code == 1
    assert not report["would_prepare"]
    assert {entry["name"] for entry in report["sets"]} == set(catalogue.released())
    assert {entry["status"] for entry in report["sets"]} == {"missing"}
    assert all(entry["next_step"] for entry in report["sets"])


def test_sets_that_are_not_there_do_not_fail_those_that_are(release, capsys):
    everything, _ = _json(capsys, str(release), "--images", "none")
    named, _ = _json(capsys, str(release), SET, "mura", "--images", "none")

    assert everything == 0
    assert named == 1


def test_every_set_is_found_in_its_own_folder(tmp_path, capsys):
    dummy.main([str(tmp_path)])
    capsys.readouterr()

    code, report = _json(capsys, str(tmp_path), "--images", "none")

    assert code == 0
    assert {entry["name"] for entry in report["sets"]} == set(catalogue.released())
    for entry in report["sets"]:
        assert (tmp_path / entry["name"]) in [
            pathlib.Path(entry["root"]),
            *pathlib.Path(entry["root"]).parents,
        ]


def test_a_folder_with_images_is_not_taken_for_a_part_of_another_set(tmp_path, capsys):
    dummy.write("fracatlas", epath.Path(tmp_path), images=None)

    code, report = _json(capsys, str(tmp_path), "--images", "none")

    assert code == 0
    assert [e["name"] for e in report["sets"] if e["status"] != "missing"] == [
        "fracatlas"
    ]


def test_a_missing_part_is_named(release, capsys):
    (release / "here" / "chest_xray" / "test" / "NORMAL").rename(release / "elsewhere")

    code, report = _json(capsys, str(release), SET)

    (entry,) = report["sets"]
    assert code == 1
    assert entry["status"] == "partly there"
    assert "test/normal" in entry["problem"]


def test_a_release_without_its_table_lacks_it(tmp_path, capsys):
    dummy.write("mura", epath.Path(tmp_path), images=None)
    for table in tmp_path.rglob("train_image_paths.csv"):
        table.unlink()

    code, report = _json(capsys, str(tmp_path), "mura")

    (entry,) = report["sets"]
    assert code == 1
    assert entry["status"] == "partly there"
    assert "train_image_paths.csv" in entry["problem"]


def test_pictures_that_are_all_damaged_would_fail(release, capsys):
    for picture in (release / "here" / "chest_xray" / "test").glob("*/*.jpeg"):
        picture.write_bytes(b"no picture")

    code, report = _json(capsys, str(release), SET, "--images", "all")

    (entry,) = report["sets"]
    assert code == 1
    assert "split 'test'" in entry["problem"]
    assert entry["next_step"].startswith("Get the files again.")


@pytest.mark.parametrize("seed", range(6))
def test_a_split_with_one_good_picture_is_not_condemned(release, seed):
    pictures = sorted((release / "here" / "chest_xray" / "test").glob("*/*.jpeg"))
    for picture in pictures[1:]:
        picture.write_bytes(b"no picture")

    entry = diagnosis.examine(Whole, release, images=12, seed=seed)

    assert entry.would_prepare, entry.problem
    assert entry.problem == ""
    assert entry.read >= 12


@pytest.mark.parametrize("seed", range(6))
def test_the_problem_of_a_split_is_its_own(release, seed):
    folder = release / "here" / "chest_xray"
    bad = sorted((folder / "test").glob("*/*.jpeg"))
    for picture in bad:
        picture.write_bytes(b"no picture")
    for picture in sorted((folder / "train").glob("*/*.jpeg"))[1:]:
        picture.write_bytes(b"")

    entry = diagnosis.examine(Whole, release, images=25, seed=seed)

    assert not entry.would_prepare
    assert f"None of the {len(bad)} images of split 'test'" in entry.problem
    assert "not a PNG, JPEG" in entry.problem
    assert "the file is empty" not in entry.problem


def test_an_archive_that_is_not_unpacked_is_told(tmp_path, capsys):
    (tmp_path / "chest-xray-pneumonia.zip").write_bytes(b"PK")
    (tmp_path / "holiday.tar.gz").write_bytes(b"")
    (tmp_path / "done.zip").write_bytes(b"")
    (tmp_path / "done").mkdir()

    code, report = _json(capsys, str(tmp_path), SET)
    doctor.main([str(tmp_path), SET])
    text = capsys.readouterr().out

    (entry,) = report["sets"]
    assert code == 1
    assert report["archives"] == ["chest-xray-pneumonia.zip", "holiday.tar.gz"]
    assert entry["archives"] == ["chest-xray-pneumonia.zip"]
    assert entry["next_step"].startswith("Unpack chest-xray-pneumonia.zip.")
    assert "not unpacked: holiday.tar.gz" in text


def test_a_folder_that_may_not_be_read_is_named(release, capsys, monkeypatch):
    there = type(release).iterdir

    def refuse(self):
        if self.name == "here":
            raise PermissionError(13, "Permission denied", str(self))
        return there(self)

    monkeypatch.setattr(type(release), "iterdir", refuse)

    assert doctor.main([str(release)]) == 1
    assert "here' may not be read: Permission denied" in capsys.readouterr().err


def test_a_folder_called_images_is_no_part_of_a_release(tmp_path, capsys):
    for name in ("images", "masks", "annotations"):
        (tmp_path / "mine" / name).mkdir(parents=True)

    _, report = _json(capsys, str(tmp_path))

    assert {entry["status"] for entry in report["sets"]} == {"missing"}


def test_the_text_says_what_is_there_first(release, capsys):
    code = doctor.main([str(release), "--images", "all"])

    text = capsys.readouterr().out
    assert code == 0
    assert text.index(f"{SET}: partly there") < text.index(": missing")
    assert "images: 50 of 5,856 published" in text
    assert "left out: 1 (chest_xray): 48 files beside the release" in text
    assert "tried to read: 50, 2 unreadable" in text
    assert text.endswith("Preparation would succeed.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}", "kermany"], "Did you mean 'kermany_pneumonia'?"),
        (["{tmp}/nowhere"], "There is no folder"),
        (["{tmp}", "--images", "few"], "invalid choice"),
        ([], "required: folder"),
    ],
)
def test_wrong_use_is_explained(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        doctor.main([argument.format(tmp=tmp_path) for argument in arguments])

    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_it_runs_as_a_command(release):
    done = subprocess.run(
        [sys.executable, "-m", "tfds_builders.doctor", str(release), SET],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.endswith("Preparation would succeed.\n")


def test_dummy_releases_are_not_written_over(release, capsys):
    dummy.main([str(release.parent / "new"), SET])

    assert "kermany_pneumonia" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        dummy.main([str(release.parent / "new"), SET])
    assert stopped.value.code == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--images=0", "--images=-3", "--images=few"])
def test_a_number_of_images_that_is_none_is_refused(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        dummy.main([str(tmp_path / "new"), SET, wrong])

    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "argument --images: expected a whole number, 1 or more, got" in said
    assert not (tmp_path / "new").exists()
