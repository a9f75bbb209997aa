"""Prints a study's values and claims as the Markdown tables that README shows.

python -m benchmarks.study_table docs/study_mini/study.json
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from mtpret_jax.report import words

METRICS = {"auroc": "AUROC", "dice": "Dice", "ap50": "AP50"}


def tables(study: dict[str, Any]) -> list[str]:
    """Lines, for each share of the labels a table."""
    lines = []
    for key, seeds in zip(study["fractions"], study["seeds"], strict=True):
        title = f"{float(key):.0%} of the labels, seeds: {seeds}"
        claims = [claim["name"].replace(" - ", " − ") for claim in study["claims"]]
        head = [title, *study["arms"], *claims]
        lines += [_row(head), _row(["---"] * len(head))]
        for task, about in study["tasks"].items():
            metric = about["primary"]
            values = study["values"][task][key]
            cells = [f"{task} ({METRICS[metric]}, n = {about['images']})"]
            cells += [f"{values[arm][metric]['value']:.3f}" for arm in study["arms"]]
            cells += [_claim(claim, task, key) for claim in study["claims"]]
            lines.append(_row(cells))
        took = [
            words.cost(study["compute"][t][key].get(arm) for t in study["tasks"])
            for arm in study["arms"]
        ]
        lines += [_row([words.COST, *took, *[""] * len(claims)]), ""]
    return lines


def _claim(claim: dict[str, Any], task: str, fraction: str) -> str:
    rows = claim["rows"]
    (row,) = [r for r in rows if (r["task"], r["fraction"]) == (task, fraction)]
    value, low, high = (
        f"{row[name]:+.3f}".replace("-", "−") for name in ("difference", "low", "high")
    )
    verdict = row["verdict"]
    said = f" **{verdict}**" if verdict in ("better", "worse") else ""
    return f"{value} ({low} to {high}){said}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    found = json.loads(pathlib.Path(sys.argv[1]).read_text())
    sys.stdout.write("\n".join(tables(found)))
