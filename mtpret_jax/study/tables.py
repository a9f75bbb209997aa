"""The tables of a study's page, as HTML; every text is escaped here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from mtpret_jax.metrics import comparison
from mtpret_jax.report import html, markup, words
from mtpret_jax.study import plots, sentences

Study = Mapping[str, Any]
_LOOKS = {comparison.BETTER: "up", comparison.WORSE: "down"}


def verdicts(study: Study) -> str:
    """A row for each claim and fraction, a column for each task."""
    tasks = study["tasks"]
    head = markup.cells(("claim", "labels"), "th") + "".join(
        _task_head(name, task) for name, task in tasks.items()
    )
    head += f"<th>{words.COST}</th>"
    rows = []
    for claim, fraction in itertools.product(study["claims"], study["fractions"]):
        found = {r["task"]: r for r in claim["rows"] if r["fraction"] == fraction}
        cells = "".join(
            _verdict(found.get(name), is_same=_is_same(claim, task))
            for name, task in tasks.items()
        )
        name = markup.text(f"{claim['arm']} against {claim['baseline']}")
        share = sentences.share(fraction)
        cells += _both_costs(study, claim, fraction, tasks)
        rows.append(f"<tr><th>{name}</th><th>{share}</th>{cells}</tr>")
    key = "; ".join(f"{sign} {verdict}" for verdict, (sign, *_) in plots.MARKS.items())
    return (
        markup.table(head, rows)
        + f'<p class="soft">{key}; – no comparison. Each cell: the difference, and '
        "below it its 95 % interval over other test images and the smallest true "
        f"difference that would be found in 8 of 10 such studies. {words.COSTS}</p>"
    )


def _costs(
    study: Study, arm: str, fraction: str, tasks: Iterable[str], *, start: bool = False
) -> str:
    """Updates and images of an arm on some tasks; of its start alone, if asked."""
    found = [_cell(study["compute"], task, fraction, arm) for task in tasks]
    return words.cost(one.get("start") if start else one for one in found)


def _both_costs(
    study: Study, claim: Mapping[str, Any], fraction: str, tasks: Iterable[str]
) -> str:
    """A cell with those of an arm, and below them of what it is compared with."""
    arm, baseline = (
        _costs(study, claim[side], fraction, tasks) for side in ("arm", "baseline")
    )
    return f"<td>{arm}<small>against {baseline}</small></td>"


def _task_head(name: str, task: Mapping[str, Any]) -> str:
    external = ", external" if task.get("external") else ""
    return (
        f"<th>{markup.text(name)}<small>{markup.text(words.metric(task['primary']))}, "
        f"{markup.text(task['kind'])}{external}<br>"
        f"{markup.text(sentences.size(task))}</small></th>"
    )


def _is_same(claim: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether both arms of a claim come to the same model for a task."""
    same = task.get("same_as", {})
    arm, baseline = (claim[side] for side in ("arm", "baseline"))
    return same.get(arm, arm) == same.get(baseline, baseline)


def _verdict(row: Mapping[str, Any] | None, *, is_same: bool) -> str:
    if row is None:
        why = "<small>the same model</small>" if is_same else ""
        return f'<td class="soft">–{why}</td>'
    look = _LOOKS.get(row["verdict"], "soft")
    return (
        f'<td class="{look}"><b>{plots.mark(row["verdict"])} '
        f"{words.signed(row['difference'])}</b>"
        f"<small>{words.signed_span(row['low'], row['high'])}<br>"
        f"would find ±{words.number(row['detectable'])}</small></td>"
    )


def differences(study: Study, claim: Mapping[str, Any]) -> str:
    """Every number of a claim."""
    rows = [
        (
            row["task"],
            sentences.share(row["fraction"]),
            words.metric(row["metric"]),
            words.signed(row["difference"]),
            words.signed_span(row["low"], row["high"]),
            words.signed_span(row["low_retrained"], row["high_retrained"])
            if len(row["seeds"]) > 1
            else "one seed",
            p_value(row["p"]),
            p_value(row["p_corrected"]),
            f"{plots.mark(row['verdict'])} {sentences.verdict(row['verdict'])}",
            words.number(row["detectable"]),
            len(row["seeds"]),
            words.number(row["spread"]),
            f"{row['images']} ({row['groups']})",
            *(
                _costs(study, claim[side], row["fraction"], [row["task"]])
                for side in ("arm", "baseline")
            ),
        )
        for row in claim["rows"]
    ]
    names = (
        *("task", "labels", "metric", "difference"),
        *("interval: other patients", "interval: other trainings too"),
        *("p", "corrected", "verdict", "would find", "seeds", "SD", "n (groups)"),
        *(f"{words.COST}: {claim[side]}" for side in ("arm", "baseline")),
    )
    return _tight(markup.plain_table(names, rows))


def _tight(table: str) -> str:
    """A table of many columns."""
    return f'<div class="tight">{table}</div>'


def p_value(p: float | None) -> str:
    """A p-value; small ones as a bound."""
    if p is None or not words.is_known(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def values(study: Study, fraction: str) -> str:
    """The primary value of every arm and task at one fraction."""
    tasks, arms = study["tasks"], list(study["arms"])
    head = "<th>arm</th>" + "".join(_task_head(n, t) for n, t in tasks.items())
    head += f"<th>{words.COST}</th>"
    rows = []
    for arm in arms:
        cells = [
            _value(
                _cell(study["values"], name, fraction, arm).get(task["primary"]),
                task.get("same_as", {}).get(arm, ""),
            )
            for name, task in tasks.items()
        ]
        cells.append(f"<td>{_costs(study, arm, fraction, tasks)}</td>")
        rows.append(f"<tr><th>{html.swatch(arms, arm)}</th>{''.join(cells)}</tr>")
    return markup.table(head, rows)


def all_values(study: Study, fraction: str) -> str:
    """Every value, a table for each task, folded."""
    parts = []
    for name, task in study["tasks"].items():
        found = study["values"].get(name, {}).get(fraction, {})
        metrics = list(dict.fromkeys(m for row in found.values() for m in row))
        if not metrics:
            continue
        head = markup.cells(("value", *found), "th")
        rows = [
            f"<tr><th>{markup.text(words.metric(metric))}</th>"
            + "".join(_value(row.get(metric)) for row in found.values())
            + "</tr>"
            for metric in metrics
        ]
        took = (_costs(study, arm, fraction, [name]) for arm in found)
        rows.append(f"<tr><th>{words.COST}</th>{markup.cells(took, 'td')}</tr>")
        title = f"{name}, {sentences.percent(fraction)}, {sentences.size(task)}"
        parts.append(folded(title, markup.table(head, rows)))
    return "".join(parts)


def folded(title: str, body: str) -> str:
    """A part of the page that is opened by a click, and in print."""
    return f"<details><summary>{markup.text(title)}</summary>{body}</details>"


def _cell(found: Mapping[str, Any], task: str, fraction: str, arm: str) -> Any:
    """What a tree by task, fraction and arm holds; an empty entry where nothing."""
    return found.get(task, {}).get(fraction, {}).get(arm, {})


def _value(value: Mapping[str, Any] | None, same_as: str = "") -> str:
    """A cell: the value, its interval, its seeds, and whose run it is too."""
    if value is None:
        return '<td class="soft">–</td>'
    lines = [words.span(value["low"], value["high"]), sentences.seeds(value)]
    lines += [f"the run of {same_as}"] if same_as else []
    below = "".join(f"<small>{markup.text(line)}</small>" for line in lines if line)
    return f"<td><b>{words.number(value['value'])}</b>{below}</td>"


def frozen(study: Study, fraction: str) -> str:
    """Linear probe and kNN of every arm; empty where neither was measured."""
    tasks = [n for n in study["tasks"] if _of(study, "frozen", n).get(fraction)]
    if not tasks:
        return ""
    arms, rows = list(study["arms"]), []
    ways = (("linear", "linear probe"), ("knn", "kNN"))
    for arm in arms:
        cells = ""
        for name, (way, _) in itertools.product(tasks, ways):
            found = _cell(study["frozen"], name, fraction, arm).get(way) or {}
            cells += _value(found.get(study["tasks"][name]["primary"]))
        cells += f"<td>{_costs(study, arm, fraction, tasks, start=True)}</td>"
        rows.append(f"<tr><th>{html.swatch(arms, arm)}</th>{cells}</tr>")
    head = "<th>arm</th>" + "".join(
        f"<th>{markup.text(name)}<small>{title}, "
        f"{markup.text(words.metric(study['tasks'][name]['primary']))}</small></th>"
        for name, (_, title) in itertools.product(tasks, ways)
    )
    head += f"<th>{words.COST} before</th>"
    return markup.table(head, rows)


def _of(study: Study, part: str, task: str) -> Mapping[str, Any]:
    """A task's entry in an optional part of the study."""
    return (study.get(part) or {}).get(task) or {}


def operating_points(study: Study, task: str, fraction: str) -> str:
    """Threshold, sensitivity and specificity of every arm and class."""
    found = _of(study, "calibration", task).get(fraction) or {}
    arms, rows = list(study["arms"]), []
    classes = dict.fromkeys(name for row in found.values() for name in row)
    for name, arm in itertools.product(classes, found):
        row = found[arm].get(name)
        if row is None:
            continue
        cells = (
            words.number(row["threshold"]),
            sentences.proportion(row["sensitivity"]),
            sentences.proportion(row["specificity"]),
            f"{words.number(row['error'])} (chance {words.number(row['floor'])})",
            _costs(study, arm, fraction, [task]),
        )
        rows.append(
            f"<tr><td>{markup.text(name)}</td><td>{html.swatch(arms, arm)}</td>"
            f"{markup.cells(cells, 'td')}</tr>"
        )
    names = ("class", "arm", "threshold", "sensitivity", "specificity")
    head = markup.cells((*names, "calibration error", words.COST), "th")
    return _tight(markup.table(head, rows)) if rows else ""


def areas(study: Study) -> str:
    """DeLong's comparison of areas; empty where there is none."""
    rows = [
        (
            row["name"],
            row["task"],
            sentences.share(row["fraction"]),
            row["class"],
            words.signed(row["difference"]),
            words.signed_span(row["low"], row["high"]),
            p_value(row["p"]),
            f"{row['positives']} and {row['negatives']}",
            *(
                _costs(study, arm, row["fraction"], [row["task"]])
                for arm in row["name"].split(" - ")
            ),
        )
        for row in study.get("areas") or ()
    ]
    names = ("claim", "task", "labels", "class", "difference", "interval", "p")
    names = (*names, "images with and without", words.COST, "of the other arm")
    return _tight(markup.plain_table(names, rows)) if rows else ""


def subgroups(study: Study, task: str, column: str) -> str:
    """A row for each level, a column for each arm."""
    levels = _of(study, "subgroups", task)[column]
    arms = [arm for arm in study["arms"] if any(arm in r["values"] for r in levels)]
    rows = [
        f"<tr><th>{markup.text(row['level'])}</th>"
        f"<td>{row['images']} of {row['groups']}</td>"
        + "".join(_value(row["values"].get(arm)) for arm in arms)
        + "</tr>"
        for row in levels
    ]
    took = (_costs(study, arm, study["fractions"][0], [task]) for arm in arms)
    rows.append(f"<tr><th>{words.COST}</th><td></td>{markup.cells(took, 'td')}</tr>")
    return markup.table(markup.cells((column, "images of groups", *arms), "th"), rows)


def labels(study: Study) -> str:
    """Which labels each run used: how many, of whom, and their digest."""
    rows = [
        (
            run,
            task,
            split,
            sentences.share(used["fraction"]),
            used["records"],
            used["groups"],
            used["positives"],
            used["sha256"][:16],
            words.cost([study["runs"][run]["compute"]]),
        )
        for run, tasks in (study.get("labels") or {}).items()
        for task, splits in (tasks or {}).items()
        for split, used in splits.items()
    ]
    names = ("run", "task", "split", "labels", "images", "groups", "positives")
    if not rows:
        return ""
    title = f"Which labels each run used ({len(rows)} rows)"
    table = markup.plain_table((*names, "sha256 of the list", words.COST), rows)
    return folded(title, _tight(table))
