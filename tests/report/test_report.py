"""The report says what the work folder holds, in one file that needs no other."""

import dataclasses
import html
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from etils import epath

from mtpret_jax import main, report
from mtpret_jax.report import contents, page, parts, sentences, words


@pytest.fixture(scope="module")
def built(folder, config, metrics):
    return contents.build(folder, config, metrics, {})


@pytest.fixture(scope="module")
def written(folder, built):
    report.write(epath.Path(folder) / "report.json", built)
    return folder


@pytest.mark.smoke
def test_values_are_those_of_the_predictions_on_disk(built, workdir, metrics):
    path = workdir / "runs/mtpret_chest_cls/predictions/chest_cls/test.npz"
    metric = metrics["chest_cls"]
    with np.load(path) as records:
        values = metric.compute(metric.summarise(records))

    row, task = built.values["chest_cls"]["1"]["mtpret"], built.tasks["chest_cls"]

    assert {name: cell.value for name, cell in row.items()} == values
    assert (task.images, task.groups) == (60, 40)
    assert all(cell.low <= cell.value <= cell.high for cell in row.values())


def test_which_class_is_taken_for_which_is_counted(built, written):
    row, told = built.values["chest_cls"]["1"]["mtpret"], built.confusion
    text = (written / "report.html").read_text()

    counts = np.array(told["chest_cls"]["1"]["mtpret"])
    assert counts.sum() == built.tasks["chest_cls"].images
    assert counts.trace() / counts.sum() == row["accuracy"].value
    cells = "".join(f"<td>{n}</td>" for n in ("normal", *counts[0]))
    assert f"<tr>{cells}</tr>" in re.sub(r"<td\s+style=[^>]*>", "<td>", text)
    assert "<th>predicted opacity</th>" in text
    assert told["lung_seg"] == {}


def test_free_response_is_that_of_the_value(built, written):
    curve = built.froc["chest_det"]["1"]["mtpret"]["opacity"]
    value = built.values["chest_det"]["1"]["mtpret"]["froc"].value

    assert curve == sorted(curve)
    assert np.mean(curve[::4]) == pytest.approx(value)  # at 1/8, 1/4, ... 8
    assert built.froc["lung_seg"] == {}
    text = (written / "report.html").read_text()
    assert text.count('alt="Free response: chest_det') == 1


@pytest.mark.parametrize(("accuracy", "learnt"), [(0.6, True), (0.0, False)])
def test_a_stage_1_that_learnt_nothing_is_told(built, accuracy, learnt):
    found = parts.Curve(list(range(44)), [0.1] * 40 + [accuracy] * 4)
    run = dataclasses.replace(built.runs["stage1"], negatives=199)
    changed = dataclasses.replace(
        built, runs={"stage1": run}, curves={"stage1": {"train/accuracy": found}}
    )

    told = sentences.picked(changed, "stage1")

    assert told.startswith(f"At its end it was picked out {accuracy:.1%} of the time;")
    assert "guessing gives 0.5%" in told
    assert ("little was learnt" in told) != learnt


@pytest.mark.parametrize("embedding", [0.6, 0.01])
def test_what_a_monitor_saw_is_drawn_and_a_collapse_told_first(
    built, workdir, embedding
):
    seen = {"effective_rank": 50.0, "spread": 0.5, "embedding_spread": embedding}
    curves = {
        f"monitor/{name}": parts.Curve([100, 200], [value] * 2)
        for name, value in seen.items()
    }
    changed = dataclasses.replace(built, curves={**built.curves, "stage2": curves})

    text = page.render(workdir, changed)

    told = "Run stage2: collapse at step 200: spread of a batch&#39;s embeddings 0.01"
    assert text.count('alt="Features of stage2."') == 1
    assert (told in text.partition("<main>")[0]) == (embedding < 0.1)


def test_every_table_of_arms_tells_what_they_took(built, written):
    text = (written / "report.html").read_text()
    tables = [t for t in re.findall(r"<table>.*?</table>", text, re.S) if "mtpret" in t]
    assert len(tables) > 3
    assert all("updates / images" in table for table in tables)
    row = built.compute["chest_cls"]["1"]["mtpret"]
    assert f"{row.updates:,} / {row.images:,}" in text


def test_differences_are_to_the_baseline_and_paired(built):
    arms = built.values["lung_seg"]["1"]
    claims = {claim.arm: claim for claim in built.claims}

    (gap,) = (row for row in claims["mtpret"].rows if row.task == "lung_seg")

    value = {arm: row["dice"].value for arm, row in arms.items()}
    assert gap.difference == pytest.approx(value["mtpret"] - value["scratch"])
    assert gap.low <= gap.difference <= gap.high
    assert claims.keys() == {"contrastive", "mtpret"}


def test_order_of_the_predictions_on_disk_does_not_matter(
    built, workdir, config, metrics
):
    path = workdir / "runs/mtpret_lung_seg/predictions/lung_seg/test.npz"
    with np.load(path) as arrays:
        records = {name: array[::-1] for name, array in arrays.items()}
    np.savez(path, **records)

    again = contents.build(workdir, config, metrics, {})

    found, expected = (contents.plain(one.values["lung_seg"]) for one in (again, built))
    assert found == expected


def test_forgetting_counts_from_the_best_to_the_last(built):
    row = built.forgetting["stage2"].summary["lung_seg"]

    assert row.forgotten == pytest.approx(row.best - row.last)


def test_a_run_that_is_not_finished_is_named_and_left_out(workdir, config, metrics):
    path = workdir / "runs/mtpret_chest_det/run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "finished": False}))
    shutil.rmtree(workdir / "runs/mtpret_lung_seg")

    built = contents.build(workdir, config, metrics, {})
    shown = dataclasses.replace(built, samples={})
    report.write(epath.Path(workdir) / "report.json", shown)

    assert built.unfinished == ["mtpret_lung_seg", "mtpret_chest_det"]
    assert set(built.values["chest_det"]["1"]) == {"scratch", "contrastive"}
    text = (workdir / "report.html").read_text()
    assert "Not complete: 2 runs not finished" in text
    assert "mtpret_lung_seg, mtpret_chest_det" in text
    assert "No comparison on 2." in text
    assert text.count('<span class="soft">not run</span>') == 2


def test_an_empty_work_folder_gives_a_page_that_says_so(tmp_path, config, metrics):
    built = contents.build(tmp_path, config, metrics, {})
    report.write(epath.Path(tmp_path) / "report.json", built)

    assert "No fine-tuning run has finished" in (tmp_path / "report.html").read_text()


def test_missing_predictions_and_groups_are_one_clear_error(workdir, config, metrics):
    folder = workdir / "runs/scratch_chest_cls/predictions/chest_cls"
    (folder / "test.csv").write_text("record,image_id,group\n0,a,b\n")
    with pytest.raises(ValueError, match=r"no group for records \[1, 2, 3, 4, 5\]"):
        contents.build(workdir, config, metrics, {})

    (folder / "test.npz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"is missing\. Run 'scratch_chest_cls'"
    ):
        contents.build(workdir, config, metrics, {})


def test_arms_measured_on_other_images_are_refused(workdir, config, metrics):
    path = workdir / "runs/mtpret_chest_cls/predictions/chest_cls/test.npz"
    with np.load(path) as arrays:
        records = {name: array[:50] for name, array in arrays.items()}
    np.savez(path, **records)

    with pytest.raises(
        ValueError, match="'mtpret_chest_cls' was measured on 50 examples"
    ):
        contents.build(workdir, config, metrics, {})


def test_the_json_is_strict_and_holds_null_for_undefined(written):
    text = (written / "report.json").read_text()
    read = json.loads(text)
    assert "NaN" not in text
    assert read["forgetting"]["stage2"]["summary"]["dental_seg"]["best"] is None
    assert read["values"]["chest_det"]["1"]["mtpret"]["ap50"]["value"] > 0


@pytest.mark.smoke
def test_the_page_stands_alone_and_has_every_part(written):
    text = (written / "report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "<script" not in text
    for part in (
        "What is better than what",
        "mtpret against scratch",
        "after Holm's correction",
        "Values on test images",
        "Learning curves",
        "Pre-training without labels",
        "keeps and forgets",
        "Sample predictions",
        "All values",
        "Which class is taken for which",
        "Can the probabilities be trusted?",
        "DeLong's test of areas",
        "What this does not show",
        "Predictions of lung_seg are means over an image and its mirror image",
        "How it was made",
        "starts from stage2 (continual, 450 steps), which started from stage1",
        "n = 60 images of 40 groups",
        "0.981",
        "not for clinical use",
    ):
        assert part in text
    assert text.count("data:image/png") == 3
    # Two forests, three learning curves, stage 1, what was lost, a matrix, reliability,
    # free response.
    assert text.count("data:image/svg") == 10


def test_the_primary_value_of_every_task_is_marked_among_all(written):
    text = (written / "report.html").read_text()
    rows = text.partition("<h3>All values</h3>")[2].split("<tr>")

    marked = [row for row in rows if "primary: steps are chosen" in row]

    found = [row.partition("<small>")[0].strip() for row in marked]
    assert found == ["<th>AUROC", "<th>Dice", "<th>AP50"]
    assert any("HD95" in row for row in rows)
    assert any("FROC" in row for row in rows)


def test_a_kind_whose_metric_names_no_drawing_has_no_sample_images(folder, built):
    known = page.render(folder, built, "pictures.html")
    task = dataclasses.replace(built.tasks["chest_det"], primary="absolute_error")
    other = dataclasses.replace(built, tasks=built.tasks | {"chest_det": task})

    found = page.render(folder, other, "pictures.html")

    assert "<h3>chest_det</h3>" in known
    assert "<h3>chest_det</h3>" not in found
    assert found.count("<h3>") == known.count("<h3>") - 1 > 0


def test_names_are_escaped(built, workdir):
    titled = dataclasses.replace(built, title="<b>a & b</b>", samples={})

    text = page.render(workdir, titled)

    assert "<h1>&lt;b&gt;a &amp; b&lt;/b&gt;</h1>" in text


def test_the_same_folder_gives_the_same_page(written, built):
    again = page.render(written, built)

    assert again == (written / "report.html").read_text()


def test_the_page_ends_with_commands_that_name_its_models(built, written):
    text = (written / "report.html").read_text()

    shown = html.unescape(text.partition("<h2>Use its models</h2>")[2])
    commands = [shlex.split(x) for x in shown.splitlines() if "mtpret_jax " in x]
    assert [command[1] for command in commands[:4]] == [
        *("predict", "embed", "evaluate", "export")
    ]
    # On validation mtpret did best in each task.
    runs = {f"--model={written}/runs/mtpret_{task}" for task in built.tasks}
    assert {word for c in commands for word in c if "--model" in word} == runs
    exported = [command for command in commands if command[1] == "export"]
    assert f"--workdir={written}" in exported[0]
    assert {command[3] for command in exported} == {
        f"--run=mtpret_{task}" for task in built.tasks
    }


@pytest.mark.parametrize("name", ["predict", "embed", "evaluate", "export"])
def test_the_commands_of_the_page_have_options_that_there_are(name, written, capsys):
    shown = html.unescape((written / "report.html").read_text())
    (line, *_) = re.findall(rf"^mtpret_jax {name} .*$", shown, re.M)

    with pytest.raises(SystemExit, match="0"):
        main.run([name, "--help"])

    told = capsys.readouterr().out
    for option in re.findall(r"--\w+", line):
        assert f"{option} " in told or f"{option}=" in told, option


def test_a_run_s_name_with_spaces_stays_one_word_of_a_command(built, written, renamed):
    told = renamed(built, {"mtpret_": "my "})

    shown = html.unescape(page.render(written, told, "commands.html"))

    commands = [shlex.split(x) for x in shown.splitlines() if "mtpret_jax " in x]
    assert f"--model={written}/runs/my chest_cls" in commands[0]


def test_verdicts_are_corrected_for_all_comparisons(built, config):
    rows = [row for claim in built.claims for row in claim.rows]

    assert len(rows) == 6
    for row in rows:
        assert row.p_corrected >= min(1, row.p)
        assert row.verdict.startswith("better") == (
            row.p_corrected < 0.05 and row.difference > 0
        )
    # 100 resamples, as the config asks for, could not decide one of six.
    assert built.interval.resamples == config.report.bootstrap == 100
    assert built.interval.judged == 240
    assert any(row.p < 0.05 < row.p_corrected for row in rows)


def test_numbers_have_a_true_minus_and_a_dash_for_nothing():
    assert words.number(float("nan")) == "–"
    assert words.signed(0.0321) == "+0.032"
    assert words.signed(-0.0321) == "−0.032"


def test_an_arm_with_more_steps_is_named(built):
    runs = {n: dataclasses.replace(run, steps=5) for n, run in built.runs.items()}
    changed = dataclasses.replace(built, runs=runs)
    assert "with the same number of steps" in sentences.opening(changed)[0]

    longer = dataclasses.replace(runs["mtpret_lung_seg"], steps=6)
    changed = dataclasses.replace(built, runs=runs | {"mtpret_lung_seg": longer})

    assert "more were given to mtpret." in sentences.opening(changed)[0]


def test_arms_of_several_recipes_are_not_called_alike(built):
    other = built.runs["mtpret_lung_seg"]
    recipe = other.recipe | {"finetune.ema": 0.9, "optimizer.learning_rate": 9.0}
    runs = built.runs | {"mtpret_lung_seg": dataclasses.replace(other, recipe=recipe)}

    first = sentences.opening(dataclasses.replace(built, runs=runs))[0]

    assert "every arm is fine-tuned alike" in sentences.opening(built)[0]
    assert "they differ in finetune.ema, optimizer.learning_rate, which may" in first


def test_templates_can_be_read_as_a_page():
    """As long as a file of code may be, no line beyond its 88 columns."""
    folder = pathlib.Path(report.__file__).parents[1]
    found = sorted(folder.glob("*/templates/*"))
    lines = {path.name: path.read_text().splitlines() for path in found}

    assert len(found) > 10
    assert [f"{n}: {x}" for n, y in lines.items() for x in y if len(x) > 88] == []
    assert max(map(len, lines.values())) <= 350
