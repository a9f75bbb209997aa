"""The page of a study, `study.html`: claims first; one file that needs no other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.report import audit, html, markup, words
from mtpret_jax.study import (
    comparing,
    gallery,
    plan,
    plots,
    retention,
    sentences,
    tables,
)
from tfds_builders import whole

Study = Mapping[str, Any]
FILE = "study.html"
_MOST_ARMS = 7  # in one chart; colours repeat beyond
_MOST_CLASSES = 4  # reliability plots that are not folded


def write(workdir: epath.PathLike, study: Study) -> None:
    """Writes `study.html` into the work folder.

    Args:
      workdir: The work folder; pictures of samples are read from its runs.
      study: What `study.json` holds; None is undefined.
    """
    folder = epath.Path(workdir)
    whole.write(folder / FILE, render(folder, study))


def render(workdir: epath.PathLike, study: Study) -> str:
    """The page as text; see `write`."""
    config = schema.parse(study["config"])
    # The report's sections find here what they look for in a report.
    report = {**study, "seed": config.seed}
    parts = [
        _header(study),
        "<main>",
        _claims(study),
        _differences(study),
        _values(study),
        _efficiency(study),
        retention.section(study, config),
        _learning(study, config),
        html.contrastive(report),
        _calibration(study),
        _frozen(study),
        _subgroups(study),
        _areas(study),
        gallery.section(epath.Path(workdir), study, config),
        _limits(study),
        audit.section(report),
        _used(study),
        html.how(report),
        "</main>",
        html.FOOTER,
    ]
    return markup.document(study["title"], parts)


def _header(study: Study) -> str:
    lines = "".join(f"<p>{markup.text(s)}</p>" for s in sentences.opening(study))
    return (
        f"<header><div><h1>{markup.text(study['title'])}</h1>{lines}"
        f'<p class="note">{html.NOT_CLINICAL}</p></div></header>'
    )


def _section(title: str, body: str, words_first: str = "") -> str:
    """A part of the page; empty where there is nothing to show."""
    if not body:
        return ""
    first = f"<p>{markup.text(words_first)}</p>" if words_first else ""
    return f"<h2>{markup.text(title)}</h2>{first}{body}"


def _side_by_side(drawn: Iterable[str]) -> str:
    found = list(drawn)
    return f'<div class="pair">{"".join(found)}</div>' if found else ""


def _claims(study: Study) -> str:
    arms = list(study["arms"])
    meanings = "".join(
        f"<dt>{html.swatch(arms, arm)}</dt><dd>{markup.text(line)}</dd>"
        for arm, line in study["arms"].items()
    )
    return (
        "<h2>What is better than what</h2>"
        f"{tables.verdicts(study) if study['claims'] else ''}"
        f"<p>{markup.text(sentences.judged(study))}</p>"
        f"<h3>The arms</h3><dl>{meanings}</dl>"
    )


def _differences(study: Study) -> str:
    parts = []
    for claim in study["claims"]:
        arm, baseline = claim["arm"], claim["baseline"]
        limit, drawn = plots.reach(claim["rows"]), []
        for fraction in study["fractions"]:
            rows = [row for row in claim["rows"] if row["fraction"] == fraction]
            if rows:
                image = plots.forest(rows, arm=arm, baseline=baseline, limit=limit)
                title = f"{claim['name']}, {sentences.percent(fraction)}"
                drawn.append(markup.figure(image, f"Differences: {title}.", title))
        if drawn:
            parts.append(
                f"<h3>{markup.text(arm)} against {markup.text(baseline)}</h3>"
                f"{_side_by_side(drawn)}{tables.differences(study, claim)}"
            )
    return _section(
        "Differences, task by task",
        "".join(parts),
        "Right of zero the first arm is better. Thick: 95 % interval over other test "
        "images; thin, where there are several seeds: over other trainings too. ▲ "
        "better, ▼ worse, ○ not distinguishable, after correction for the number of "
        "comparisons. All numbers are in the table below each chart.",
    )


def _values(study: Study) -> str:
    parts = [
        f"<h3>{sentences.percent(fraction)}</h3>{tables.values(study, fraction)}"
        for fraction in study["fractions"]
    ]
    names = dict.fromkeys(task["primary"] for task in study["tasks"].values())
    meanings = "".join(
        f"<dt>{markup.text(words.metric(name))}</dt><dd>{words.meaning(name)}</dd>"
        for name in names
    )
    folded = "".join(tables.all_values(study, f) for f in study["fractions"])
    rest = f"<h3>All values</h3>{folded}" if folded else ""
    return _section(
        "Values on test images",
        f"{''.join(parts)}<dl class='soft'>{meanings}</dl>{rest}",
        "Mean over seeds; below it the 95 % interval over other test images and, where "
        "there are several, the value of each seed with their standard deviation.",
    )


def _charted(study: Study) -> list[str]:
    """The arms that charts show: all, or those of the claims if there are many."""
    arms = list(study["arms"])
    if len(arms) <= _MOST_ARMS:
        return arms
    claimed = {claim[side] for claim in study["claims"] for side in ("arm", "baseline")}
    return [arm for arm in arms if arm in claimed]


def _efficiency(study: Study) -> str:
    shown, panels = _charted(study), []
    for name, task in study["tasks"].items():
        found = study["efficiency"].get(name, {})
        points = {arm: found[arm] for arm in shown if found.get(arm)}
        if points:
            panels.append((f"{name} ({words.metric(task['primary'])})", points))
    if not panels or len(study["fractions"]) < 2:
        return ""
    arms, fractions = list(study["arms"]), [float(f) for f in study["fractions"]]
    image = plots.efficiency(panels, arms=arms, fractions=fractions)
    drawn = markup.figure(image, "Values by share of labels; numbers: tables above.")
    return _section("How many labels it takes", drawn, sentences.EFFICIENCY)


def _learning(study: Study, config: schema.ExperimentConfig) -> str:
    shown, arms, parts = _charted(study), list(study["arms"]), []
    cells = [cell for cell in plan.cells(config) if cell.arm in shown]
    for (name, task), fraction in itertools.product(
        study["tasks"].items(), study["fractions"]
    ):
        wanted = ("train/loss", f"validation/{task['primary']}")
        found: dict[str, dict[str, list[Any]]] = {key: {} for key in wanted}
        for cell in cells:
            if (cell.task, comparing.key(cell.fraction)) == (name, fraction):
                curves = study["curves"].get(cell.run, {})
                for key in wanted:
                    if curves.get(key):
                        found[key].setdefault(cell.arm, []).append(curves[key])
        if any(found.values()):
            image = plots.learning_curves(
                *found.values(), arms=arms, metric=words.metric(task["primary"])
            )
            title = f"{name}, {sentences.percent(fraction)}"
            drawn = markup.figure(image, f"Learning of {title}.")
            parts.append(f"<h4>{markup.text(title)}</h4>{drawn}")
    return _section("Learning curves", "".join(parts), sentences.LEARNING)


def _calibration(study: Study) -> str:
    parts = []
    for name, fraction in itertools.product(study["tasks"], study["fractions"]):
        found = (study["calibration"].get(name) or {}).get(fraction) or {}
        arms = [arm for arm in _charted(study) if found.get(arm)]
        classes = list(dict.fromkeys(c for row in found.values() for c in row))
        if not arms or not classes:
            continue
        grid = [
            [(f"{arm}: {label}", found[arm].get(label)) for arm in arms]
            for label in classes
        ]
        title = f"{name}, {sentences.percent(fraction)}"
        drawn = markup.figure(
            plots.reliability(grid), f"Reliability plots of {title}."
        ) + tables.operating_points(study, name, fraction)
        parts.append(
            f"<h3>{markup.text(title)}</h3>{drawn}"
            if len(classes) <= _MOST_CLASSES
            else tables.folded(title, drawn)
        )
    return _section(
        "Can the probabilities be trusted?",
        f"<p>{sentences.OPERATING}</p>{''.join(parts)}" if parts else "",
        f"{sentences.CALIBRATION} First seed only.",
    )


def _frozen(study: Study) -> str:
    parts = [
        f"<h3>{sentences.percent(fraction)}</h3>{table}"
        for fraction in study["fractions"]
        if (table := tables.frozen(study, fraction))
    ]
    return _section(
        "The backbone alone, frozen", "".join(parts), sentences.frozen(study)
    )


def _subgroups(study: Study) -> str:
    parts = [
        f"<h3>{markup.text(f'{name}: {column}')}</h3>"
        f"{tables.subgroups(study, name, column)}"
        for name, columns in (study["subgroups"] or {}).items()
        for column, levels in columns.items()
        if levels
    ]
    return _section("Subgroups", "".join(parts), sentences.SUBGROUPS)


def _areas(study: Study) -> str:
    return _section("DeLong's test of areas", tables.areas(study), sentences.AREAS)


def _limits(study: Study) -> str:
    lines = "".join(f"<li>{markup.text(s)}</li>" for s in sentences.limits(study))
    return f"<h2>What this does not show</h2><ul>{lines}</ul>"


def _used(study: Study) -> str:
    """Compute, the exclusion list's digest, and the labels of every run."""
    findings = (study["audit"] or {}).get("findings") or {}
    digest = findings.get("exclusions_sha256")
    line = f"Exclusion list of pre-training: sha256 {digest}." if digest else ""
    parts = [f"<p>{markup.text(s)}</p>" for s in (sentences.compute(study), line) if s]
    return _section("What was used", "".join(parts) + tables.labels(study))
