"""The section on what the continual stage keeps and forgets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.report import figures, markup, words
from mtpret_jax.study import plots, sentences

Study = Mapping[str, Any]
_NARROW = 8  # columns of matrices that fit side by side


def section(study: Study, config: schema.ExperimentConfig) -> str:
    """Matrices of each arm, what each lost, and transfer; empty without any."""
    ways: dict[tuple[float, str], list[str]] = {}
    for name, matrix in study["forgetting"].items():
        if len(matrix["tasks"]) > 1 and matrix["segments"]:
            place = (float(matrix["fraction"]), matrix["arm"])
            ways.setdefault(place, []).append(name)
    if not ways:
        return ""
    lost, rows, maps = {}, [], []
    for (fraction, arm), names in sorted(ways.items()):
        found = [study["forgetting"][name] for name in names]
        how = _how(config.runs[names[0]].continual)
        title = f"{arm}, {sentences.share(fraction)}"
        lost[title] = {
            task: _mean(one["summary"][task]["forgotten"] for one in found)
            for task in found[0]["tasks"]
        }
        share, total = sentences.share(fraction), _mean(lost[title].values())
        moved = study["transfer"].get(arm, {}).get(found[0]["fraction"], {})
        gains = (_transfer(moved.get(way)) for way in ("backward", "forward"))
        took = words.cost(study["runs"][name]["compute"] for name in names)
        rows.append((arm, share, *how, words.number(total), *gains, took))
        caption = f"{title} of labels: {how[0]} memorization, tasks {how[1]}"
        sizes = (f"{t} {words.measured_on(found[0], t)}" for t in found[0]["tasks"])
        image = figures.forgetting(found[0])
        drawn = markup.figure(
            image,
            f"Forgetting matrix: {caption}. Validation images: {', '.join(sizes)}.",
        )
        maps.append(f"<div><h4>{markup.text(caption)}</h4>{drawn}</div>")
    narrow = all(len(m["segments"]) <= _NARROW for m in study["forgetting"].values())
    drawn = "".join(maps)
    names = ("arm", "labels", "memorization", "tasks", "lost (mean)")
    return (
        "<h2>What continual pre-training keeps and forgets</h2>"
        f"<p>{sentences.FORGETTING}</p>"
        + markup.figure(plots.lost(lost), "Lost by each arm, task by task.")
        + markup.plain_table(
            (*names, "backward transfer", "forward transfer", words.COST), rows
        )
        + "<h3>Forgetting matrices (first seed)</h3>"
        + (f'<div class="pair">{drawn}</div>' if narrow else drawn)
    )


def _how(stage: schema.ContinualConfig) -> tuple[str, str]:
    """Whether a stage memorizes, and in which order its tasks come."""
    kept = (stage.anchor_previous, stage.anchor_pretrained, stage.feature_memory)
    if stage.rounds == 1:
        order = "once each, fixed order"
    else:
        order = "reshuffled each round" if stage.reshuffle else "in turn, fixed order"
    return ("with" if any(kept) else "without", order)


def _transfer(found: Mapping[str, Any] | None) -> str:
    """A transfer's mean over seeds and their spread."""
    if not found or not words.is_known(found["value"]):
        return "–"
    text = words.signed(found["value"])
    if words.is_known(found.get("spread")):
        text += f" (SD {words.number(found['spread'])}, {len(found['by_seed'])} seeds)"
    return text


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined; None of nothing."""
    known = [value for value in values if value is not None and words.is_known(value)]
    return statistics.fmean(known) if known else None
