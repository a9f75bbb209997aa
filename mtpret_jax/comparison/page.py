"""The files of a comparison: `compare.json`, and `compare.html`, which shows it."""

from __future__ import annotations

import pathlib

import jax

from mtpret_jax.comparison import findings, judge, sentences
from mtpret_jax.report import contents, figures, page, parts
from tfds_builders import whole

JSON, HTML = "compare.json", "compare.html"


def write(folder: pathlib.Path, found: findings.Findings) -> None:
    """Writes both, from the first process."""
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        whole.write_json(folder / JSON, contents.plain(found))
        whole.write(folder / HTML, render(found))


def render(found: findings.Findings) -> str:
    """The page as text."""
    return page.fill(
        "compare.html",
        found=found,
        last=found.fractions[-1],
        methods=judge.METHODS,
        seen=sentences.seen,
        curves=_curves(found),
        forests=_forests(found),
        reliability={name: _reliability(found, name) for name in found.tasks},
    )


def _curves(found: findings.Findings) -> dict[str, str]:
    """Charts of the primary value by share of the labels, one for each method."""
    if len(found.fractions) < 2:
        return {}
    charts = {}
    for method in judge.METHODS:
        panels: list[figures.Panel] = []
        for task, told in found.tasks.items():
            points: dict[str, dict[float, parts.Range]] = {}
            for share, row in found.values[task].items():
                for name, of_method in row.items():
                    value = of_method[method][told.metric]
                    points.setdefault(name, {})[float(share)] = value
            panels.append((task, points))
        charts[method] = figures.efficiency(
            panels,
            arms=list(found.encoders),
            fractions=[float(share) for share in found.fractions],
        )
    return charts


def _forests(found: findings.Findings) -> dict[str, str]:
    """Charts of the family, one for each encoder, on one axis."""
    limit = figures.reach(found.judged)
    charts = {}
    for name in [name for name in found.encoders if name != found.baseline]:
        rows = [row for row in found.judged if row.encoder == name]
        charts[name] = figures.forest(
            rows, arm=name, baseline=found.baseline, limit=limit
        )
    return charts


def _reliability(found: findings.Findings, task: str) -> str:
    """Observed frequency against probability, an encoder a row."""
    rows = [
        [(f"{name}: {label}", one) for label, one in classes.items()]
        for name, classes in found.calibration[task].items()
    ]
    return figures.reliability(rows)
