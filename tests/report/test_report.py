"""The report says what the work folder holds, in one file that needs no other."""

import copy
import json
import re
import shutil

import numpy as np
import pytest

from mtpret_jax import report
from mtpret_jax.report import collect, words


@pytest.fixture(scope="module")
def built(folder, config, metrics):
    return collect.build(folder, config, metrics)


@pytest.fixture(scope="module")
def written(folder, built):
    report.write(folder, built)
    return folder


@pytest.mark.smoke
def test_values_are_those_of_the_predictions_on_disk(built, workdir, metrics):
    path = workdir / "runs/mtpret_chest_cls/predictions/chest_cls/test.npz"
    metric = metrics["chest_cls"]
    with np.load(path) as records:
        values = metric.compute(metric.summarise(records))

    row = built["tasks"]["chest_cls"]["arms"]["mtpret"]

    assert {name: cell["value"] for name, cell in row["values"].items()} == values
    assert (row["images"], row["groups"]) == (60, 40)
    for cell in row["values"].values():
        assert cell["low"] <= cell["value"] <= cell["high"]
        assert cell["resamples"] == 100


def test_which_class_is_taken_for_which_is_counted(built, written):
    row = built["tasks"]["chest_cls"]["arms"]["mtpret"]
    page = (written / "report.html").read_text()

    counts = np.array(row["confusion"])
    assert counts.sum() == row["images"]
    assert counts.trace() / counts.sum() == row["values"]["accuracy"]["value"]
    cells = "".join(f"<td>{n}</td>" for n in ("normal", *counts[0]))
    assert f"<tr>{cells}</tr>" in page
    assert "<th>predicted opacity</th>" in page
    assert "confusion" not in built["tasks"]["lung_seg"]["arms"]["mtpret"]


@pytest.mark.parametrize(("accuracy", "learnt"), [(0.6, True), (0.0, False)])
def test_a_stage_1_that_learnt_nothing_is_told(built, accuracy, learnt):
    config = {"runs": {"stage1": {"contrastive": {"queue_size": 199}}}}
    curves = {"stage1": {"train/accuracy": {"value": [0.1] * 40 + [accuracy] * 4}}}

    told = words.picked({**built, "config": config, "curves": curves}, "stage1")

    assert told.startswith(f"At its end it was picked out {accuracy:.1%} of the time;")
    assert "guessing gives 0.5%" in told
    assert ("little was learnt" in told) != learnt
    assert words.picked({**built, "curves": curves}, "stage1") == ""


def test_every_table_of_arms_tells_what_they_took(built, written):
    page = (written / "report.html").read_text()
    tables = [t for t in re.findall(r"<table>.*?</table>", page) if "mtpret" in t]
    assert len(tables) > 3
    assert all("updates / images" in table for table in tables)
    row = built["tasks"]["chest_cls"]["arms"]["mtpret"]["compute"]
    assert f"{row['updates']:,} / {row['images']:,}" in page


def test_differences_are_to_the_baseline_and_paired(built):
    arms = built["tasks"]["lung_seg"]["arms"]

    gap = arms["mtpret"]["difference"]["dice"]

    value = {arm: row["values"]["dice"]["value"] for arm, row in arms.items()}
    assert gap["difference"] == pytest.approx(value["mtpret"] - value["scratch"])
    assert gap["low"] <= gap["difference"] <= gap["high"]
    assert "difference" not in arms["scratch"]


def test_order_of_the_predictions_on_disk_does_not_matter(
    built, workdir, config, metrics
):
    path = workdir / "runs/mtpret_lung_seg/predictions/lung_seg/test.npz"
    with np.load(path) as arrays:
        records = {name: array[::-1] for name, array in arrays.items()}
    np.savez(path, **records)

    again = collect.build(workdir, config, metrics)

    found, expected = (
        collect.without_nan(one["tasks"]["lung_seg"]) for one in (again, built)
    )
    assert found == expected


def test_forgetting_counts_from_the_best_to_the_last(built):
    row = built["forgetting"]["stage2"]["summary"]["lung_seg"]

    assert row["forgotten"] == pytest.approx(row["best"] - row["last"])


def test_a_run_that_is_not_finished_is_named_and_left_out(workdir, config, metrics):
    path = workdir / "runs/mtpret_chest_det/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "finished": False}))
    shutil.rmtree(workdir / "runs/mtpret_lung_seg")

    built = collect.build(workdir, config, metrics)
    report.write(workdir, {**built, "samples": 0})

    assert built["unfinished"] == ["mtpret_lung_seg", "mtpret_chest_det"]
    assert set(built["tasks"]["chest_det"]["arms"]) == {"scratch", "contrastive"}
    assert "not run" in (workdir / "report.html").read_text()


def test_an_empty_work_folder_gives_a_page_that_says_so(tmp_path, config, metrics):
    report.write(tmp_path, collect.build(tmp_path, config, metrics))

    assert "No fine-tuning run has finished" in (tmp_path / "report.html").read_text()


def test_missing_predictions_and_groups_are_one_clear_error(workdir, config, metrics):
    folder = workdir / "runs/scratch_chest_cls/predictions/chest_cls"
    (folder / "test.csv").write_text("record,image_id,group\n0,a,b\n")
    with pytest.raises(ValueError, match=r"no group for records \[1, 2, 3, 4, 5\]"):
        collect.build(workdir, config, metrics)

    (folder / "test.npz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"is missing\. Run 'scratch_chest_cls'"
    ):
        collect.build(workdir, config, metrics)


def test_arms_measured_on_other_images_are_refused(workdir, config, metrics):
    path = workdir / "runs/mtpret_chest_cls/predictions/chest_cls/test.npz"
    with np.load(path) as arrays:
        records = {name: array[:50] for name, array in arrays.items()}
    np.savez(path, **records)

    with pytest.raises(ValueError, match="'mtpret' of task 'chest_cls' was measured"):
        collect.build(workdir, config, metrics)


def test_the_json_is_strict_and_holds_null_for_undefined(written):
    text = (written / "report.json").read_text()
    read = json.loads(text)
    assert "NaN" not in text
    assert read["forgetting"]["stage2"]["summary"]["dental_seg"]["best"] is None
    assert read["tasks"]["chest_det"]["arms"]["mtpret"]["values"]["ap50"]["value"] > 0


@pytest.mark.smoke
def test_the_page_stands_alone_and_has_every_part(written):
    page = (written / "report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "<script" not in page
    for part in (
        "Results on test images",
        "Against scratch, image by image",
        "Learning curves",
        "Contrastive pre-training",
        "keeps and forgets",
        "Sample predictions",
        "All values",
        "How it was made",
        "n = 60 images of 40 groups",
        "0.981",
        "not for clinical use",
    ):
        assert part in page
    assert page.count("data:image/png") == 3
    assert page.count("data:image/svg") == 6


def test_the_primary_value_of_every_task_is_marked_among_all(written):
    page = (written / "report.html").read_text()
    rows = page.partition("<h2>All values</h2>")[2].split("<tr>")

    marked = [row for row in rows if "primary: steps are chosen" in row]

    assert [row.partition("<small>")[0] for row in marked] == [
        "<th>AUROC",
        "<th>Dice",
        "<th>AP50",
    ]
    assert any("HD95" in row for row in rows)
    assert any("FROC" in row for row in rows)


def test_names_are_escaped(built, workdir):
    few = {**built, "tasks": {}, "forgetting": {}, "runs": {}}

    page = report.html.render(workdir, {**few, "title": "<b>a & b</b>"})

    assert "<h1>&lt;b&gt;a &amp; b&lt;/b&gt;</h1>" in page


def test_the_same_folder_gives_the_same_page(written, built):
    again = report.html.render(written, built)

    assert again == (written / "report.html").read_text()


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "no clear difference"),
        (0.0, 0.1, "no clear difference"),
        (float("nan"), float("nan"), "cannot be told"),
    ],
)
def test_an_interval_is_read_as_a_person_would(low, high, word):
    assert words.verdict(low, high)[0] == word


def test_numbers_have_a_true_minus_and_a_dash_for_nothing():
    assert words.number(float("nan")) == "–"
    assert words.signed(0.0321) == "+0.032"
    assert words.signed(-0.0321) == "−0.032"


def test_an_arm_with_more_steps_is_named(built):
    changed = copy.deepcopy(built)
    arms = next(iter(changed["tasks"].values()))["arms"]
    for task in changed["tasks"].values():
        for row in task["arms"].values():
            row["steps"] = 5
    assert "with the same number of steps" in words.opening(changed)[0]

    arm = sorted(arms)[0]
    arms[arm]["steps"] = 6

    assert f"more were given to {arm}." in words.opening(changed)[0]
