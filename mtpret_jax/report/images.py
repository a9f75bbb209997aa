"""Sample predictions drawn on the X-rays, as one PNG inside the page for each task.

Blue and solid is the ground truth, orange and dashed the prediction. Which examples are
shown is decided by their place in the file, not by how well any arm does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import patches, patheffects

from mtpret_jax.metrics import table
from mtpret_jax.report import agreement, drawing, parts

TRUTH = "#56b4e9"
PREDICTION = "#e69f00"
SCORE_SHOWN = 0.3  # boxes below this are not drawn
BOXES_SHOWN = 5  # of each image and arm
DPI = 120
# `image`, uint8 or uint16 [n, H, W, 1], and what an arm's drawing asks for.
Samples = Mapping[str, np.ndarray]
_WIDTH = 1.75  # of an image, inches
_RIGHT: drawing.Looks = {"color": "#cfe6f5", "edgecolor": TRUTH}
_WRONG: drawing.Looks = {
    "color": "#f6d9b0",
    "edgecolor": PREDICTION,
    "hatch": "////",
}
_UNKNOWN: drawing.Looks = {"color": "#eceff2", "edgecolor": "#8b95a1"}


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How the samples of a kind of task are drawn.

    Attributes:
      chart: Makes the chart of a task from its samples, by arm, and how many at most.
      caption: What it shows; "" where the colours say all.
      shares_images: Whether the images of the first arm stand for all arms.
      whole: Makes a chart of all predictions of an arm, of the name of what is
        predicted and the records of the metric; None where there is none.
    """

    chart: Callable[[parts.Task, Mapping[str, Samples], int], str]
    caption: str = ""
    shares_images: bool = False
    whole: Callable[[str, Mapping[str, np.ndarray]], str] | None = None


def of_task(task: parts.Task) -> Drawing | None:
    """How a task's samples are drawn; None where its metric names no drawing."""
    metric = table.PRIMARY.get(task.primary)
    return DRAWINGS.get(metric.drawn) if metric else None


def attention(
    samples: Mapping[str, Samples], *, class_names: Sequence[str], count: int
) -> str:
    """One row for each arm: what spoke for its likeliest class, laid on the X-ray.

    Args:
      samples: `image` of each arm, uint8 or uint16 [n, H, W, 1], `probability` [n, L],
        `attention` float [n, h, w, L], at least 0.
      class_names: Names of the L classes.
      count: Images at most.
    """

    def draw(ax: mpl_axes.Axes, arm: Samples, i: int) -> None:
        top = int(np.argmax(arm["probability"][i]))
        found = np.asarray(arm["attention"][i][..., top], float)
        found = found / max(float(found.max()), 1e-12)
        height, width = arm["image"][i].shape[:2]
        ax.imshow(
            found,
            cmap="inferno",
            alpha=0.1 + 0.5 * found,
            vmin=0,
            vmax=1,
            interpolation="bilinear",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        title = f"{class_names[top]} {arm['probability'][i][top]:.2f}"
        ax.set_title(title, fontsize=7.5)

    return _rows(samples, draw, count, above=0.2)


def _bars(task: parts.Task, samples: Mapping[str, Samples], count: int) -> str:
    """X-rays with their true classes, and under each the arms' first choice.

    By `label`, `label_known` and `probability` [n, L].
    """
    first, names = next(iter(samples.values())), task.class_names
    shown = min(count, len(first["image"]))
    lines = 0.3 * len(samples) + 0.1
    with mpl.rc_context(drawing.RC):
        figure = drawing.empty(_WIDTH * shown, _WIDTH + 0.35 + lines)
        heights = [_WIDTH + 0.3, lines]
        panels = figure.subplots(2, shown, squeeze=False, height_ratios=heights)
        for i in range(shown):
            _xray(panels[0, i], first["image"][i])
            true = [names[c] for c in np.flatnonzero(first["label"][i] > 0.5)]
            title = ",\n".join(true[:2]) + (" …" if len(true) > 2 else "")
            panels[0, i].set_title(f"truth: {title or 'none'}", fontsize=7.5)
            for place, arm in enumerate(samples.values()):
                _bar(panels[1, i], place, arm, i, task)
            _bare(panels[1, i], list(samples), named=i == 0)
        return drawing.png(figure, dpi=DPI)


def _numbers(task: parts.Task, samples: Mapping[str, Samples], count: int) -> str:
    """X-rays with their true number, and under each that of the arms.

    By `value_true` and `value`, float [n].
    """
    del task
    first = next(iter(samples.values()))
    shown = min(count, len(first["image"]))
    with mpl.rc_context(drawing.RC):
        height = _WIDTH + 0.3 + 0.17 * len(samples)
        figure = drawing.empty(_WIDTH * shown, height)
        for i, ax in enumerate(figure.subplots(1, shown, squeeze=False)[0]):
            _xray(ax, first["image"][i])
            ax.set_title(f"truth: {first['value_true'][i]:.1f}", fontsize=7.5)
            told = [f"{name}: {arm['value'][i]:.1f}" for name, arm in samples.items()]
            ax.set_xlabel("\n".join(told), fontsize=7.5)
        return drawing.png(figure, dpi=DPI)


def _outlines(task: parts.Task, samples: Mapping[str, Samples], count: int) -> str:
    """X-rays with regions, by `segmentation_true` and `segmentation`, int [n, H, W]."""
    del task
    return _rows(samples, _regions, count)


def _regions(ax: mpl_axes.Axes, arm: Samples, i: int) -> None:
    """Outlines of the true and the predicted regions."""
    for region, colour, line in (
        (arm["segmentation_true"][i], TRUTH, "solid"),
        (arm["segmentation"][i], PREDICTION, "dashed"),
    ):
        for c in np.unique(region[(region > 0) & (region < 255)]):
            inside, one = region == c, [colour]
            ax.contour(inside, [0.5], colors=one, linestyles=[line], linewidths=1.3)


def _boxes(task: parts.Task, samples: Mapping[str, Samples], count: int) -> str:
    """X-rays with boxes, y0, x0, y1, x1 as fractions of the image.

    By `box_true` [n, M, 4], `box_valid`, `box_class` [n, M], `box` [n, D, 4], `score`,
    `class` and `valid` [n, D].
    """
    draw = functools.partial(_rectangles, names=task.class_names)
    return _rows(samples, draw, count)


def _rectangles(ax: mpl_axes.Axes, arm: Samples, i: int, names: Sequence[str]) -> None:
    """True boxes, and predicted ones with their scores."""
    shape = arm["image"][i].shape
    for box in arm["box_true"][i][arm["box_valid"][i].astype(bool)]:
        _box(ax, box, shape, TRUTH, "solid")
    score = np.where(arm["valid"][i].astype(bool), arm["score"][i], -1.0)
    best = np.argsort(-score, kind="stable")[:BOXES_SHOWN]
    for place in best[score[best] >= SCORE_SHOWN][::-1]:  # the surest on top
        text = f"{score[place]:.2f}"
        if len(names) > 1:
            text = f"{names[int(arm['class'][i][place])]} {text}"
        _box(ax, arm["box"][i][place], shape, PREDICTION, "dashed", text)


def _points(task: parts.Task, samples: Mapping[str, Samples], count: int) -> str:
    """X-rays with landmarks, y, x as fractions of the image.

    By `landmark_true` [n, P, 2], `landmark_known` [n, P] and `landmark` [n, P, 2].
    """
    del task
    return _rows(samples, _crosses, count)


def _crosses(ax: mpl_axes.Axes, arm: Samples, i: int) -> None:
    """True landmarks as circles, found ones as crosses, and what lies between."""
    known = arm["landmark_known"][i].astype(bool)
    sides = np.array(arm["image"][i].shape[:2])
    # Centres of pixels lie at whole numbers in an image drawn by `imshow`.
    true, found = (
        np.asarray(arm[name][i][known], float) * sides - 0.5
        for name in ("landmark_true", "landmark")
    )
    between = np.stack([true, found])  # [2, points, 2]
    ax.plot(between[..., 1], between[..., 0], color=PREDICTION, linewidth=0.8)
    ax.plot(*true[:, ::-1].T, "o", color=TRUTH, markersize=3.5, fillstyle="none")
    ax.plot(*found[:, ::-1].T, "x", color=PREDICTION, markersize=3)
    ax.set_xlim(-0.5, sides[1] - 0.5)
    ax.set_ylim(sides[0] - 0.5, -0.5)


def _rows(
    samples: Mapping[str, Samples],
    draw: Callable[[mpl_axes.Axes, Samples, int], None],
    count: int,
    above: float = 0.04,
) -> str:
    """A grid of X-rays, arms by examples; `draw(ax, samples of the arm, i)`.

    `above` is the room for a title, inches.
    """
    shown = min(count, min(len(arm["image"]) for arm in samples.values()))
    with mpl.rc_context(drawing.RC):
        height = (_WIDTH + above) * len(samples)
        figure = drawing.empty(_WIDTH * shown + 0.3, height)
        panels = figure.subplots(len(samples), shown, squeeze=False)
        for row, (name, arm) in zip(panels, samples.items(), strict=True):
            row[0].set_ylabel(name, fontsize=9, fontweight="bold")
            for i, ax in enumerate(row):
                _xray(ax, arm["image"][i])
                draw(ax, arm, i)
        return drawing.png(figure, dpi=DPI)


def _xray(ax: mpl_axes.Axes, image: np.ndarray) -> None:
    """The image in grey; padding, which is exactly zero, in black."""
    image = np.asarray(image, np.float32)[..., 0]
    low, high = np.percentile(image[image != 0], [0.5, 99.5]) if image.any() else (0, 1)
    image = np.where(image == 0, low, image)
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _bar(ax: mpl_axes.Axes, place: int, arm: Samples, i: int, task: parts.Task) -> None:
    """An arm's likeliest class, hatched where that is wrong."""
    probability, label = arm["probability"][i], arm["label"][i]
    top = int(np.argmax(probability))
    right = (label[top] > 0.5) == (task.exclusive or probability[top] >= 0.5)
    looks = _RIGHT if right else _WRONG
    if not arm["label_known"][i][top]:
        looks = _UNKNOWN
    ax.barh(place, probability[top], height=0.78, linewidth=0.8, **looks)
    text = f"{task.class_names[top]} {probability[top]:.2f}"
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    ax.text(0.03, place, text, va="center", fontsize=7, path_effects=halo)


def _bare(ax: mpl_axes.Axes, names: Sequence[str], *, named: bool) -> None:
    """Bars without an axis below them, their names at the first alone."""
    ax.set_xlim(0, 1)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks(range(len(names)), names if named else [""] * len(names))
    ax.tick_params(length=0, labelsize=7)
    ax.spines["bottom"].set_visible(False)


def _box(
    ax: mpl_axes.Axes,
    box: np.ndarray,
    shape: tuple[int, ...],
    colour: str,
    line: str,
    text: str = "",
) -> None:
    """A rectangle from fractions, with a word at its top left corner."""
    top, left, bottom, right = np.asarray(box, float) * np.tile(shape[:2], 2)
    # Centres of pixels lie at whole numbers in an image drawn by `imshow`.
    corner = (left - 0.5, top - 0.5)
    looks = {"edgecolor": colour, "linestyle": line, "linewidth": 1.4}
    size = (right - left, bottom - top)
    ax.add_patch(patches.Rectangle(corner, *size, fill=False, **looks))
    if text:
        above = top > 0.1 * shape[0]
        ax.text(
            max(corner[0], 0),
            max(corner[1], 0),
            text,
            color=colour,
            fontsize=7,
            va="bottom" if above else "top",
            clip_on=True,
            bbox={"facecolor": "black", "alpha": 0.65, "linewidth": 0, "pad": 0.8},
        )


DRAWINGS: Mapping[str, Drawing] = {  # by what a metric calls `drawn`
    "bars": Drawing(
        _bars,
        "Bars: each arm's likeliest class and its probability; blue where that is "
        "right, orange and hatched where it is wrong, grey where the label is unknown.",
        shares_images=True,
    ),
    "numbers": Drawing(
        _numbers,
        "Below each X-ray: the number that each arm predicts.",
        shares_images=True,
        whole=agreement.chart,
    ),
    "outlines": Drawing(_outlines),
    "boxes": Drawing(
        _boxes,
        f"At most {BOXES_SHOWN} predicted boxes of an image are drawn, those with a "
        f"score of {SCORE_SHOWN} or more.",
    ),
    "points": Drawing(
        _points,
        "Circles are true landmarks, crosses those that were found; a line joins them.",
    ),
}
