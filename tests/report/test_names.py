"""Names that a user gives: no chart breaks, and nothing is taken for markup."""

import pathlib
import re

import markupsafe
import pytest

from mtpret_jax.report import contents, drawing, figures, page, parts

TASK = '<x1>$x_{$ & "q"'
ARM = "<x2>$^$_{"
CLASS = "<x3>$\\frac{$'s"


def test_the_report_escapes_every_name(folder, config, metrics, renamed):
    built = contents.build(folder, config, metrics, {})
    names = {"chest_cls": TASK, "mtpret": ARM, "scratch": f"{ARM}0", "normal": CLASS}
    told = renamed(built, {**names, "Phantom": CLASS, "stage2": f"{ARM}2"})

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
    curve = parts.Curve([1, 2], [0.5, 0.6])
    gap = parts.Difference(
        *(name, "1", "auroc", 0.1, 0.0, 0.2, (0.1,), 0.1, 0.0, 0.2),
        *(0.04, 0.04, "better", 0.1, (0,), 60, 40),
    )
    point = parts.Range(0.5, 0.4, 0.6)
    segment = parts.Segment(name, 0, {name: 0.5}, {name: 0.5})
    matrix = parts.Matrix([name], [segment], {name: "auroc"}, {})
    drawn = [
        figures.forgetting(matrix),
        figures.run_curves([(name, curve)]),
        figures.forest([gap], arm=name, baseline=name, limit=1.0),
        figures.efficiency(
            [(name, {name: {1.0: point}})], arms=[name], fractions=[0.1, 1.0]
        ),
        figures.learning_curves(
            {name: [curve]},
            {name: [curve]},
            arms=[name],
            metric=name,
            kept={name: [(1, 0.5)]},
        ),
        figures.lost({name: {name: 0.1}}),
        figures.reliability([[(name, None)]]),
    ]
    assert all(re.match("data:image/svg", image) for image in drawn)
