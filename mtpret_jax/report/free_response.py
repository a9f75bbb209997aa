"""Chart of boxes found against false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl

from mtpret_jax.metrics import detection
from mtpret_jax.report import drawing


def chart(
    arms: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]
) -> str:
    """Sensitivity by false alarms an image, a panel a class, a line an arm.

    Args:
      arms: What `DetectionMetric.curves` gave, by arm.
      names: All arms of the report, whose order gives each its looks.
    """
    classes = list(next(iter(arms.values())))
    with mpl.rc_context(drawing.RC):
        wide = min(len(classes), 4)
        rows = -(-len(classes) // wide)
        figure = drawing.empty(max(3.2, drawing.WIDTH * wide / 4), 0.4 + 2.2 * rows)
        grid = figure.subplots(rows, wide, squeeze=False, sharex=True, sharey=True)
        for ax, name in zip(grid.flat, classes, strict=False):
            for arm, found in arms.items():
                looks = drawing.style(names.index(arm)) | {"marker": ""}
                ax.plot(detection.SHOWN_ALARMS, found[name], linewidth=1.5, **looks)
            ax.set_title(name, fontsize=8.5)
            ax.set_xscale("log", base=2)
            ax.set_xticks([0.125, 1, 8], ["1/8", "1", "8"])
            ax.set_ylim(0, 1)
        for ax in grid.flat[len(classes) :]:
            ax.set_visible(False)
        for ax in grid[-1]:
            ax.set_xlabel("false alarms an image")
        for ax in grid[:, 0]:
            ax.set_ylabel("sensitivity")
        drawing.legend(figure, names, list(arms))
        return drawing.svg(figure)
