"""The page of a study says what study.json holds, in one file that needs no other."""

from __future__ import annotations

import dataclasses
import html
import math
import pathlib
import re
from typing import Any

import markupsafe
import numpy as np
import pytest

from mtpret_jax.report import figures, page, parts, sentences, words

SIZE = 24
PARTS = (
    "What is better than what",
    "Differences, task by task",
    "Values on test images",
    "How many labels it takes",
    "What continual pre-training keeps and forgets",
    "Learning curves",
    "Pre-training without labels",
    "Can the probabilities be trusted?",
    "The backbone alone, frozen",
    "Subgroups",
    "DeLong's test of areas",
    "What this does not show",
    "Training took",
    "Which labels each run used",
    "How it was made",
    "not for clinical use",
)


def _text(page_text: str) -> str:
    """What a reader sees: without tags, entities resolved."""
    return html.unescape(re.sub(r"<[^>]*>", " ", page_text))


def test_the_page_stands_alone_and_has_every_part(written: str):
    addresses = re.findall(r'(?:src|href)="([^"]{0,30})', written)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "<script" not in written
    shown = _text(written)
    assert not [part for part in PARTS if part not in shown]


def test_every_table_tells_what_its_arms_took(finished: parts.Report, written: str):
    tables = re.findall(r"<table>.*?</table>", written, re.S)
    tables = [table for table in tables if "predicted" not in table]  # below an arm
    assert len(tables) > 10
    assert all("updates / images" in table for table in tables)
    spent = finished.compute["opacity"]["0.1"]
    assert spent["mtpret"].updates > spent["scratch"].updates
    for arm in ("scratch", "mtpret"):
        row = spent[arm]
        assert f"{row.updates:,} / {row.images:,}" in written


def test_nothing_from_the_outside_is_taken_for_markup(written: str, nasty: str):
    assert nasty not in written
    assert nasty[:4] not in written  # nor where quotes alone were escaped
    assert written.count(str(markupsafe.escape(nasty))) > 20


def test_every_number_of_every_claim_is_in_a_table(
    finished: parts.Report, written: str
):
    shown = re.sub(r"\s+", " ", _text(written))

    for claim in finished.claims:
        for row in claim.rows:
            line = (
                f"{row.task} {words.share(row.fraction)} "
                f"{figures.mark(row.verdict)} {words.verdict(row.verdict)} "
                f"{words.metric(row.metric)} {words.signed(row.difference)} "
                f"{words.signed_span(row.low, row.high)} "
                f"{words.signed_span(row.low_retrained, row.high_retrained)} "
                "< 0.001 0.012"
            )
            assert line in shown


def test_the_first_sentences_count_the_verdicts(finished: parts.Report):
    lines = sentences.opening(finished)

    wanted = (
        "mtpret better than scratch on 1 of 3 tasks with 10 % of labels, worse on 1, "
        "not distinguishable on 1."
    )
    assert wanted in lines
    assert any("fracture is external" in line for line in lines)
    for counts, said in (
        (dict(better=0, worse=0, undecided=1), "on 1. No comparison on 2."),
        (dict(better=0, worse=0, undecided=0), "nothing to compare."),
    ):
        claim = dataclasses.replace(finished.claims[0], summary={"0.1": counts})
        assert sentences.claim(claim, "0.1", 3).endswith(said)


def _holed(tree: Any) -> Any:
    """Every number undefined but counts and steps."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **_holed(vars(tree)))
    if isinstance(tree, dict):
        return {name: _holed(part) for name, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_holed(part) for part in tree)
    return math.nan if isinstance(tree, float) else tree


def test_undefined_numbers_do_not_break_the_page(
    finished: parts.Report, tmp_path: pathlib.Path
):
    kept = ("config", "interval", "cells")
    runs = {
        name: dataclasses.replace(run, seconds=None, images_per_second=None)
        for name, run in finished.runs.items()
    }
    parts_of = {name: getattr(finished, name) for name in kept}
    holed = dataclasses.replace(_holed(finished), **parts_of, runs=runs)

    text = page.render(tmp_path, holed)

    assert not re.search(r"\b(nan|None)\b", _text(text).partition("How it was")[0])
    assert "no interval" in text


def test_a_study_that_has_just_begun_has_a_page(
    finished: parts.Report, tmp_path: pathlib.Path
):
    begun = dataclasses.replace(
        finished,
        claims=[
            dataclasses.replace(claim, rows=[], summary={}) for claim in finished.claims
        ],
        tasks={
            name: dataclasses.replace(task, images=None, groups=None, positives=None)
            for name, task in finished.tasks.items()
        },
        **{
            name: {}
            for name, part in vars(finished).items()
            if isinstance(part, dict) and name not in ("arms", "tasks", "config")
        },
        areas=[],
        unfinished=list(finished.runs),
    )

    shown = _text(page.render(tmp_path, begun))

    assert "Nothing to compare yet" in shown
    assert f"Not complete: {len(finished.runs)} runs" in shown
    for part in ("Learning curves", "frozen", "trusted", "Subgroups"):
        assert part not in shown.partition("How it was made")[0]


@pytest.mark.parametrize(
    ("batches", "said"),
    [(0, "BatchNorm are left as they are"), (10, "taken from 10 training batches")],
)
def test_the_page_says_what_was_done_to_batch_norm_before_features_were_measured(
    batches, said, finished: parts.Report, tmp_path: pathlib.Path
):
    runs = {
        name: dataclasses.replace(run, batch_norm=batches)
        for name, run in finished.runs.items()
    }
    study = dataclasses.replace(finished, runs=runs)

    shown = " ".join(_text(page.render(tmp_path, study)).split())

    assert said in shown


def test_samples_and_the_worst_are_shown(
    finished: parts.Report, tmp_path: pathlib.Path
):
    rng = np.random.default_rng(0)
    label = np.eye(2, dtype=np.float32)[[0, 1, 0]]
    arrays = {
        "image": rng.normal(size=(3, SIZE, SIZE, 1)).astype(np.float32),
        "label": label,
        "label_known": label >= 0,
        "probability": label[::-1],
        "attention": rng.uniform(size=(3, 2, 2, 2)).astype(np.float32),
    }
    for run in finished.samples["opacity"].values():
        folder = tmp_path / "runs" / run / "predictions" / "opacity"
        folder.mkdir(parents=True)
        for file in ("test.samples.npz", "test.worst.npz"):
            np.savez(folder / file, **arrays)

    text = page.render(tmp_path, finished, "pictures.html")

    assert "Sample predictions" in text
    for arm in finished.arms:
        assert f"The worst in opacity: {arm}." in text
    assert "Grad-CAM in opacity." in text
    none = page.render(
        tmp_path, dataclasses.replace(finished, samples={}), "pictures.html"
    )
    assert not none.strip()


def test_beside_each_verdict_stands_what_would_have_been_found(
    finished: parts.Report, tmp_path: pathlib.Path
):
    shown = " ".join(_text(page.render(tmp_path, finished)).split())

    rows = [row for claim in finished.claims for row in claim.rows]
    assert shown.count("would find ±0.06") == len(rows)
    assert "in 8 of 10 such studies, seeds and correction included, are 0.061" in shown
