"""Names that a user gives: no chart breaks, and nothing is taken for markup."""

import json
import pathlib
import re

import markupsafe
import pytest

from mtpret_jax.report import contents, drawing, figures, page

TASK = '<x1>$x_{$ & "q"'
ARM = "<x2>$^$_{"
CLASS = "<x3>$\\frac{$'s"


def _renamed(value, names):
    """A tree with names in keys and values replaced, alone or within others."""
    if isinstance(value, dict):
        return {_renamed(k, names): _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(each, names) for each in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
    return value


def test_the_report_escapes_every_name(folder, config, metrics):
    built = contents.without_nan(contents.build(folder, config, metrics, {}))
    told = json.loads(json.dumps(built))
    names = {"chest_cls": TASK, "mtpret": ARM, "scratch": f"{ARM}0", "normal": CLASS}
    told = _renamed(told, {**names, "Phantom": CLASS, "stage2": f"{ARM}2"})

    text = page.render(pathlib.Path(folder), told)

    for name in (TASK, ARM, CLASS):
        assert markupsafe.escape(name) in text, name
        assert name[:3] not in text, name


def test_a_legend_leaves_no_arm_out():
    """Matplotlib leaves out labels that begin with an underscore."""
    for name in ("_first", "first"):
        assert not drawing.label(name).startswith("_")
        assert drawing.label(name).endswith(name)


@pytest.mark.parametrize("name", [TASK, ARM, CLASS, "$", "\\", "_first", "%d {} ^_"])
def test_no_name_breaks_a_chart(name):
    curve = {"step": [1, 2], "value": [0.5, 0.6]}
    gap = {"task": name, "difference": 0.1, "low": 0.0, "high": 0.2}
    gap |= {"low_retrained": 0.0, "high_retrained": 0.2, "metric": "auroc"}
    gap |= {"verdict": "better", "fraction": "1", "seeds": [0]}
    point = {"fraction": 1.0, "value": 0.5, "low": 0.4, "high": 0.6}
    matrix = {
        "tasks": [name],
        "metric": {name: "auroc"},
        "segments": [{"task": name, "round": 0, "values": {name: 0.5}}],
    }
    drawn = [
        figures.forgetting(matrix),
        figures.run_curves([(name, curve)]),
        figures.forest([gap], arm=name, baseline=name, limit=1.0),
        figures.efficiency(
            [(name, {name: [point]})], arms=[name], fractions=[0.1, 1.0]
        ),
        figures.learning_curves(
            {name: [curve]},
            {name: [curve]},
            arms=[name],
            metric=name,
            kept={name: [(1, 0.5)]},
        ),
        figures.lost([{"title": name, "lost": {name: 0.1}}]),
        figures.reliability([[(name, None)]]),
    ]
    assert all(re.match("data:image/svg", image) for image in drawn)
