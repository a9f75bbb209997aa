"""The report page: one file without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mtpret_jax.report import audit, figures, markup, pictures, words
from tfds_builders import whole

Report = Mapping[str, Any]
NOT_CLINICAL = (
    "For research only. Not a medical device, not for clinical use: do not use these "
    "models or pictures to diagnose or treat anyone."
)
_MOST_RUNS = 30  # in a table that is not folded
FOOTER = f"<footer><div><p><b>{NOT_CLINICAL}</b></p></div></footer>"


def render(workdir: epath.PathLike, report: Report) -> str:
    """The page as text.

    Args:
      workdir: The work folder; sample pictures are read from its runs.
      report: What `collect.build` made.
    """
    parts = [
        _header(report),
        "<main>",
        _arms(report),
        _differences(report),
        _confusion(report),
        _studies(report),
        _learning(report),
        contrastive(report),
        audit.section(report),
        _forgetting(report),
        _pictures(epath.Path(workdir), report),
        _all_values(report),
        how(report),
        "</main>",
        FOOTER,
    ]
    return markup.document(report["title"], parts)


def _header(report: Report) -> str:
    sentences = "".join(f"<p>{markup.text(line)}</p>" for line in words.opening(report))
    return (
        f"<header><div><h1>{markup.text(report['title'])}</h1>{sentences}"
        f'<p class="note">{NOT_CLINICAL}</p></div></header>'
    )


def _arms(report: Report) -> str:
    tasks = report["tasks"]
    if not tasks:
        return "<h2>Results</h2><p>No fine-tuning run has finished yet.</p>"
    head = "".join(
        f"<th>{markup.text(name)}<small>{words.metric(task['primary'])}, {task['kind']}"
        f"<br>{words.size(task)}</small></th>"
        for name, task in tasks.items()
    )
    arms = arm_names(report)
    rows = []
    for arm in arms:
        cells = (
            _cell(task["arms"].get(arm), task["primary"]) for task in tasks.values()
        )
        measured = [task["arms"].get(arm, {}) for task in tasks.values()]
        took = words.cost(row.get("compute") for row in measured)
        rows.append(
            f"<tr><th>{swatch(arms, arm)}</th>{''.join(cells)}<td>{took}</td></tr>"
        )
    grids = [task["best_dice_of_grid"] for task in tasks.values()]
    if any(grid is not None for grid in grids):
        cells = "".join(
            f"<td>{words.number(g)}</td>" if g is not None else "<td></td>"
            for g in grids
        )
        rows.append(
            '<tr class="aside"><th>best Dice that the<br>output grid can reach</th>'
            f"{cells}<td></td></tr>"
        )
    starts = "".join(
        f"<dt>{swatch(arms, arm)}</dt><dd>{markup.text(words.start(report, arm))}</dd>"
        for arm in arms
    )
    return (
        "<h2>Results on test images</h2><dl>" + starts + "</dl>"
        f"{markup.table(f'<th>arm</th>{head}<th>{words.COST}</th>', rows)}"
        f'<p class="soft">{markup.text(words.interval(report))} {words.COSTS}</p>'
        f'<dl class="soft">{_definitions(report)}</dl>'
    )


def _cell(row: Mapping[str, Any] | None, name: str) -> str:
    if row is None:
        return '<td class="soft">not run</td>'
    value = row["values"][name]
    return (
        f"<td><b>{words.number(value['value'])}</b>"
        f"<small>{words.span(value['low'], value['high'])}</small></td>"
    )


def _definitions(report: Report) -> str:
    names = dict.fromkeys(task["primary"] for task in report["tasks"].values())
    return "".join(
        f"<dt>{words.metric(name)}</dt><dd>{words.meaning(name)}</dd>" for name in names
    )


def _differences(report: Report) -> str:
    baseline = report["baseline"]
    rows, points = [], []
    for name, task in report["tasks"].items():
        metric = task["primary"]
        for arm, row in task["arms"].items():
            if "difference" not in row:
                continue
            gap = row["difference"][metric]
            numbers = (gap["difference"], gap["low"], gap["high"])
            points.append((f"{name} ({words.metric(metric)})", arm, *numbers))
            verdict, mark = words.verdict(gap["low"], gap["high"])
            rows.append(
                f"<tr><td>{markup.text(name)}</td><td>{words.metric(metric)}</td>"
                f"<td>{swatch(arm_names(report), arm)}</td>"
                f"<td><b>{words.signed(gap['difference'])}</b></td>"
                f"<td>{words.signed_span(gap['low'], gap['high'])}</td>"
                f'<td class="{mark}">{verdict}</td>'
                f"<td>{words.cost([row['compute']])}<small>against "
                f"{words.cost([task['arms'][baseline]['compute']])}</small></td></tr>"
            )
    if not rows:
        return ""
    image = figures.forest(points, arms=arm_names(report), baseline=baseline)
    head = "<th>task</th><th>metric</th><th>arm</th><th>difference</th>"
    head += f"<th>95 % interval</th><th>against {markup.text(baseline)}</th>"
    head += f"<th>{words.COST}</th>"
    return (
        f"<h2>Against {markup.text(baseline)}, image by image</h2>"
        f"<p>{markup.text(words.paired(report))}</p>"
        + markup.figure(image, f"Differences to {baseline} with 95 % intervals.")
        + markup.table(head, rows)
    )


def _studies(report: Report) -> str:
    arms, rows = arm_names(report), []
    for name, task in report["tasks"].items():
        for arm, row in task["arms"].items():
            if row["studies"]:
                cells = "".join(_cell(row, value) for value in words.PER_STUDY)
                rows.append(
                    f"<tr><td>{markup.text(name)}</td><td>{swatch(arms, arm)}</td>"
                    f"<td>{row['images']}</td><td>{row['studies']}</td>{cells}"
                    f"<td>{words.cost([row['compute']])}</td></tr>"
                )
    if not rows:
        return ""
    head = markup.cells(("task", "arm", "images", "studies"), "th") + markup.cells(
        ("AUROC per image", "AUROC per study", "kappa per image", "kappa per study")
        + (words.COST,),
        "th",
    )
    table = markup.table(head, rows)
    return f"<h2>Per image and per study</h2><p>{words.STUDIES}</p>{table}"


def _learning(report: Report) -> str:
    arms, parts = arm_names(report), []
    for name, task in report["tasks"].items():
        curves = {
            a: report["curves"].get(r["run"], {}) for a, r in task["arms"].items()
        }
        loss = {a: c["train/loss"] for a, c in curves.items() if "train/loss" in c}
        key = f"validation/{task['primary']}"
        validation = {a: c[key] for a, c in curves.items() if key in c}
        if not loss and not validation:
            continue
        image = figures.learning_curves(
            loss,
            validation,
            arms=arms,
            metric=words.metric(task["primary"]),
            chosen={
                arm: (row["best_step"], row["best_value"])
                for arm, row in task["arms"].items()
            },
        )
        drawn = markup.figure(image, f"Learning of {name}.")
        parts.append(f"<h3>{markup.text(name)}</h3>{drawn}")
    return "<h2>Learning curves of fine-tuning</h2>" + "".join(parts) if parts else ""


def contrastive(report: Report) -> str:
    """The section of stage 1; empty without it."""
    parts = []
    for name, run in report["runs"].items():
        curves = report["curves"].get(name, {})
        if run["stage"] != "contrastive":
            continue
        shown = [
            (key.removeprefix("train/"), curves[key])
            for key in ("train/loss", "train/accuracy")
            if key in curves
        ]
        if shown:
            image = figures.run_curves(shown)
            alt = f"Contrastive loss and accuracy of {name}."
            told = markup.text(words.picked(report, name))
            drawn = markup.figure(image, alt)
            parts.append(f"<h3>{markup.text(name)}</h3>{drawn}<p>{told}</p>")
    if not parts:
        return ""
    return (
        "<h2>Contrastive pre-training</h2><p>The loss, and how often the other view of "
        "the same X-ray is picked out from all the negatives.</p>" + "".join(parts)
    )


def _forgetting(report: Report) -> str:
    parts = []
    for name, matrix in report["forgetting"].items():
        if not matrix["segments"]:
            continue
        image = figures.forgetting(matrix)
        rows = [
            f"<tr><td>{markup.text(task)}</td>"
            f"<td>{words.metric(matrix.get('metric', {}).get(task, ''))}</td>"
            f"<td>{words.measured_on(matrix, task, 'whole')}</td>"
            + "".join(
                f"<td>{words.number(row[key])}</td>"
                for key in ("best", "last", "forgotten")
            )
            + "</tr>"
            for task, row in matrix["summary"].items()
        ]
        head = markup.cells(
            ("task", "metric", "images", "best", "at the end", "lost"), "th"
        )
        drawn = markup.figure(image, f"Forgetting in {name}.")
        table = markup.table(head, rows)
        parts.append(f"<h3>{markup.text(name)}</h3>{drawn}{table}")
    if not parts:
        return ""
    return (
        "<h2>What continual learning keeps and forgets</h2><p>Every task met "
        "so far is measured on validation images, always the same, after each segment, "
        "with statistics of BatchNorm that are taken from its own training images. "
        "A row that fades to the right is a task that is being forgotten; “lost” is "
        "its best value after segments of its own less that at the end, on all "
        "validation images (“–” below 30 positives).</p>" + "".join(parts)
    )


def _pictures(workdir: epath.Path, report: Report) -> str:
    parts = []
    for name, task in report["tasks"].items():
        samples = {}
        for arm, row in task["arms"].items():
            folder = workdir / "runs" / row["run"] / "predictions" / name
            path = folder / f"{report['split']}.samples.npz"
            if path.exists():
                samples[arm] = whole.read_arrays(path)
        samples = {
            arm: arrays for arm, arrays in samples.items() if len(arrays["image"])
        }
        if not samples or not report["samples"]:
            continue
        image, caption = pictures.of_task(task, samples, report["samples"])
        figure = markup.figure(image, f"Samples of {name}.", caption)
        parts.append(f"<h3>{markup.text(name)}</h3>{figure}")
    if not parts:
        return ""
    return (
        "<h2>Sample predictions</h2><p>Test images taken by their place in the file, "
        "not by how well they turned out.</p>"
        '<p class="key soft"><span></span>ground truth'
        '<span class="prediction"></span>prediction</p>' + "".join(parts)
    )


def _confusion(report: Report) -> str:
    """Which class is taken for which, where one excludes the others."""
    parts = []
    for name, task in report["tasks"].items():
        tables = "".join(
            f"<h4>{swatch(arm_names(report), arm)}</h4>"
            + markup.plain_table(
                ("true", *(f"predicted {c}" for c in task["class_names"])),
                [
                    (c, *counts)
                    for c, counts in zip(
                        task["class_names"], row["confusion"], strict=True
                    )
                ],
            )
            for arm, row in task["arms"].items()
            if row.get("confusion") is not None
        )
        if tables:
            title = f"<summary>{markup.text(name)}, {words.size(task)}</summary>"
            parts.append(f"<details>{title}{tables}</details>")
    told = "<p>Test images by their true class and the likeliest by the model.</p>"
    return (
        f"<h2>Which class is taken for which</h2>{told}{''.join(parts)}"
        if parts
        else ""
    )


def _all_values(report: Report) -> str:
    parts = []
    for name, task in report["tasks"].items():
        arms = task["arms"]
        values = dict.fromkeys(v for row in arms.values() for v in row["values"])
        head = "<th>value</th>" + "".join(
            f"<th>{markup.text(arm)}</th>" for arm in arms
        )
        rows = []
        for value in values:
            cells = "".join(_cell(row, value) for row in arms.values())
            title = markup.text(words.metric(value))
            if value == task["primary"]:
                title += (
                    "<small>primary: steps are chosen and arms compared by it</small>"
                )
            rows.append(f"<tr><th>{title}</th>{cells}</tr>")
        kept = "".join(
            f"<td>{markup.text(words.kept(row))}</td>" for row in arms.values()
        )
        rows.append(f'<tr class="aside"><th>model kept</th>{kept}</tr>')
        took = markup.cells((words.cost([r["compute"]]) for r in arms.values()), "td")
        rows.append(f'<tr class="aside"><th>{words.COST}</th>{took}</tr>')
        parts.append(
            f"<details><summary>{markup.text(name)}, {words.size(task)}</summary>"
            f"{markup.table(head, rows)}</details>"
        )
    return "<h2>All values</h2>" + "".join(parts) if parts else ""


def how(report: Report) -> str:
    """The section on runs, splits, versions and configuration."""
    head = markup.cells(
        ("run", "stage", "starts from", "steps", words.COST, "time", "images/s"), "th"
    )
    rows = [
        f"<tr>{markup.cells(words.run(n, r), 'td')}</tr>"
        for n, r in report["runs"].items()
    ]
    runs, title = markup.table(head, rows), f"<summary>{len(rows)} runs</summary>"
    parts = [
        f"<h2>How it was made</h2><p>Seed {report['seed']}.</p>",
        runs if len(rows) <= _MOST_RUNS else f"<details>{title}{runs}</details>",
    ]
    used = words.splits_in_use(report)
    if used:
        titles = ("set", "split", "train", "validation", "test")
        head = markup.cells(
            (*titles, "patients in several", "sha256 of the list"), "th"
        )
        rows = [
            f"<tr>{markup.cells(words.split(n, s), 'td')}</tr>" for n, s in used.items()
        ]
        parts.append(f"<h3>How images were shared out</h3>{markup.table(head, rows)}")
    if report["unfinished"]:
        names = ", ".join(report["unfinished"])
        parts.append(
            f"<p><b>Not finished when this was written:</b> {markup.text(names)}.</p>"
        )
    for title, key in (
        ("Counts of the data sets", "datasets"),
        ("Versions", "versions"),
        ("The whole configuration", "config"),
    ):
        if report[key] is not None:
            text = json.dumps(report[key], indent=2, ensure_ascii=False)
            parts.append(
                f"<details><summary>{title}</summary><pre>{markup.text(text)}</pre></details>"
            )
    return "".join(parts)


def arm_names(report: Report) -> list[str]:
    """All arms in the order of the page: the baseline first."""
    found = dict.fromkeys(a for task in report["tasks"].values() for a in task["arms"])
    first = [report["baseline"]] if report["baseline"] in found else []
    return first + [arm for arm in found if arm != report["baseline"]]


def swatch(arms: Sequence[str], arm: str) -> str:
    """An arm's name behind its colour; `arms` are all in order."""
    colour = figures.style(arms.index(arm))["color"]
    return f'<span class="swatch" style="background:{colour}"></span>{markup.text(arm)}'
