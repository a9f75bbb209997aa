"""Prints a work folder's report as the Markdown tables that docs/results.md shows.

python benchmarks/results_table.py --workdir=runs/mini
"""

from __future__ import annotations

import json
import math

from absl import app, flags
from etils import epath

from mtpret_jax.report import words

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "A finished work folder.", required=True
)


def _value(found: dict[str, float | None]) -> str:
    """A value with its interval."""
    value, low, high = (
        math.nan if found[key] is None else found[key]
        for key in ("value", "low", "high")
    )
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Prints results, differences, data sets and versions."""
    del arguments
    report = json.loads((epath.Path(_WORKDIR.value) / "report.json").read_text())
    arms = list(dict.fromkeys(a for t in report["tasks"].values() for a in t["arms"]))
    lines = [_row(["task", "metric", "n (groups)", *arms, "best Dice of the grid"])]
    lines.append(_row(["---"] * (len(arms) + 4)))
    others = [arm for arm in arms if arm != report["baseline"]]
    second = [_row(["task", *(f"{arm} − {report['baseline']}" for arm in others)])]
    second.append(_row(["---"] * (len(others) + 1)))
    for name, task in report["tasks"].items():
        metric = task["primary"]
        rows = task["arms"]
        any_arm = next(iter(rows.values()))
        grid = task["best_dice_of_grid"]
        lines.append(
            _row(
                [
                    name,
                    metric,
                    f"{any_arm['images']} ({any_arm['groups']})",
                    *(_value(rows[arm]["values"][metric]) for arm in arms),
                    "" if grid is None else f"{grid:.3f}",
                ]
            )
        )
        differences = [rows[arm]["difference"][metric] for arm in others]
        cells = [_value({**d, "value": d["difference"]}) for d in differences]
        second.append(_row([name, *cells]))
    third = [_row(["set", "train / validation / test", "fingerprint of files"])]
    third.append(_row(["---"] * 3))
    for name, made in report["datasets"].items():
        counts = " / ".join(str(count) for count in made["splits"].values())
        third.append(_row([name, counts, f"`{made['fingerprint'][:16]}`"]))
    seconds = sum(run["seconds"] for run in report["runs"].values())
    resumed = {n: r["resumed_at"] for n, r in report["runs"].items() if r["resumed_at"]}
    versions = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    tail = f"Seed {report['seed']}; {seconds / 60:.0f} minutes of steps; {versions}."
    if resumed:
        tail += f" Resumed (time since then): {resumed}."
    took = [
        words.cost(task["arms"][arm]["compute"] for task in report["tasks"].values())
        for arm in arms
    ]
    lines.append(_row([words.COST, "", "", *took, ""]))
    blocks = ["\n".join(block) for block in (lines, second, third)]
    print("\n\n".join([*blocks, tail]))  # noqa: T201


if __name__ == "__main__":
    app.run(main)
