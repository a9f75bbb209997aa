"""What the monitors of pre-training runs saw: curves, and sentences on a collapse."""

from __future__ import annotations

from mtpret_jax.metrics import representations
from mtpret_jax.report import parts

_SHOWN = {
    representations.RANK: "effective rank",
    representations.SPREAD: "spread of features",
    representations.EMBEDDING: "spread of embeddings",
    representations.KNN: "neighbours (AUROC)",
    representations.LINEAR: "linear probe (AUROC)",
}


def curves(report: parts.Report) -> dict[str, list[tuple[str, parts.Curve]]]:
    """The named curves of each run that had a monitor."""
    found = {
        name: [
            (title, curves[representations.PREFIX + key])
            for key, title in _SHOWN.items()
            if representations.PREFIX + key in curves
        ]
        for name, curves in report.curves.items()
    }
    return {name: shown for name, shown in found.items() if shown}


def warnings(report: parts.Report) -> list[str]:
    """A sentence on each collapse of each run."""
    return [
        f"Run {name}: {sentence}"
        for name, curves in report.curves.items()
        for sentence in representations.collapses(_looks(curves))
    ]


def _looks(curves: dict[str, parts.Curve]) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of what is shown, as `representations` takes them."""
    found = {key: curves.get(representations.PREFIX + key) for key in _SHOWN}
    return {
        key: [*zip(curve.step, curve.value, strict=True)]
        for key, curve in found.items()
        if curve
    }
