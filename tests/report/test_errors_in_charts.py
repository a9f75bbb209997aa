"""Errors, of which lower is better, where a report chooses, shades and draws."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from mtpret_jax.report import agreement, contents, figures, page, view, words


def test_the_run_with_the_lowest_error_is_the_best():
    runs = {"a": (1, 20.0), "b": (2, 10.0), "c": None}

    assert view._best("mae", runs) == "b"
    assert view._best("auroc", runs) == "a"
    assert view._best("mae", {"a": None, "b": (2, 10.0)}) == "b"


def test_the_least_error_of_a_row_is_brightest():
    found = figures._shades(np.array([20.0, math.nan, 10.0, 40.0]), "mae")

    np.testing.assert_allclose(found, [0.5, math.nan, 1.0, 0.25])
    shares = np.array([0.2, 0.8])
    np.testing.assert_array_equal(figures._shades(shares, "dice"), shares)


def test_no_error_at_all_is_brightest_and_others_are_told_apart():
    best, middle, worst = figures._shades(np.array([0.0, 1.0, 2.0]), "mae")

    assert best == 1.0
    assert best > middle + 0.05 > worst + 0.1
    assert figures._shades(np.array([0.0, 0.0]), "mae").tolist() == [1.0, 1.0]


def test_errors_have_a_chart_of_their_own(folder, config, metrics, tmp_path):
    """Five months of one task, on an axis of all, would leave shares no room."""
    built = contents.build(folder, config, metrics, {})
    months = dataclasses.replace(built.tasks["lung_seg"], primary="mae", unit="months")
    claim = built.claims[0]
    rows = [
        dataclasses.replace(row, metric="mae", difference=5.0)
        if row.task == "lung_seg"
        else row
        for row in claim.rows
    ]
    told: Any = dataclasses.replace(
        built,
        tasks={**built.tasks, "lung_seg": months},
        claims=[dataclasses.replace(claim, rows=rows)],
    )
    axis = "mean absolute error (lower is better), in months"

    found = figures.by_axis(rows, told.tasks)

    assert set(found) == {"", axis}
    assert {row.task for row in found[axis]} == {"lung_seg"}
    assert figures.reach(found[axis]) >= 5 > 1 >= figures.reach(found[""])
    text = page.render(folder, told, "results.html")
    assert f"% of labels: {axis}" in text
    assert f"<small>{axis}, segmentation" in text


def test_names_say_which_values_are_errors():
    assert words.metric("mae") == "mean absolute error (lower is better)"
    assert words.metric("kappa_quadratic") == "quadratic kappa"


def test_predictions_are_drawn_against_the_truth_however_few_there_are():
    for count in (1, 3, 5000):
        truth = np.linspace(12.0, 216.0, count)
        image = agreement.chart("months", {"value": truth + 3.0, "truth": truth})

        assert image.startswith("data:image/svg+xml")
        assert len(image) < 1_500_000
