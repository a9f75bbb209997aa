"""Sample predictions drawn on the X-rays, as one PNG inside the page for each task.

Blue and solid is the ground truth, orange and dashed the prediction. Which examples are
shown is decided by their place in the file, not by how well any arm does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import patches, patheffects

from mtpret_jax.report import drawing

TRUTH = "#56b4e9"
PREDICTION = "#e69f00"
SCORE_SHOWN = 0.3  # boxes below this are not drawn
BOXES_SHOWN = 5  # of each image and arm
DPI = 120
Samples = Mapping[str, np.ndarray]


def of_task(
    task: Mapping[str, Any], samples: Mapping[str, Samples], count: int
) -> tuple[str, str]:
    """The picture of a task's samples, by arm, and its caption.

    Args:
      task: Its `kind`, `class_names` and `exclusive`.
      samples: Arrays of each arm, as the function of the task's kind takes them.
      count: Pictures at most.
    """
    names = task["class_names"]
    if task["kind"] == "classification":
        image = classification(
            samples, class_names=names, exclusive=task["exclusive"], count=count
        )
        return image, (
            "Bars: each arm's likeliest class and its probability; blue where that "
            "is right, orange and hatched where it is wrong, grey where the label is "
            "unknown."
        )
    if task["kind"] == "segmentation":
        return segmentation(samples, count=count), ""
    image = detection(samples, class_names=names, count=count)
    return image, (
        f"At most {BOXES_SHOWN} predicted boxes of an image are drawn, those with a "
        f"score of {SCORE_SHOWN} or more."
    )


def classification(
    samples: Mapping[str, Samples],
    *,
    class_names: Sequence[str] | None,
    exclusive: bool,
    count: int,
) -> str:
    """X-rays with their true classes, and under each the arms' first choice.

    Args:
      samples: Of each arm: `image` uint8 or uint16 [n, H, W, 1], `label`,
        `label_known` and `probability` [n, L].
      class_names: Names of the L classes.
      exclusive: Whether exactly one class is true.
      count: Pictures at most.
    """
    first = next(iter(samples.values()))
    shown = min(count, len(first["image"]))
    names = _names(class_names, first["label"].shape[1])
    lines = 0.3 * len(samples) + 0.1
    with mpl.rc_context(drawing.RC):
        figure = mpl_figure.Figure(
            figsize=(_WIDTH * shown, _WIDTH + 0.35 + lines), layout="constrained"
        )
        panels = figure.subplots(
            2, shown, squeeze=False, height_ratios=[_WIDTH + 0.3, lines]
        )
        for i in range(shown):
            _xray(panels[0, i], first["image"][i])
            true = [names[c] for c in np.flatnonzero(first["label"][i] > 0.5)]
            title = ",\n".join(true[:2]) + (" …" if len(true) > 2 else "")
            panels[0, i].set_title(f"truth: {title or 'none'}", fontsize=7.5)
            _bars(panels[1, i], samples, i, names, exclusive=exclusive, first=i == 0)
        return drawing.png(figure, dpi=DPI)


def segmentation(samples: Mapping[str, Samples], *, count: int) -> str:
    """One row for each arm: outlines of the true and the predicted regions.

    Args:
      samples: Of each arm: `image` uint8 or uint16 [n, H, W, 1],
        `segmentation_true` and `segmentation` int [n, H, W].
      count: Pictures at most.
    """

    def draw(ax: mpl_axes.Axes, arm: Samples, i: int) -> None:
        for name, colour, line in (
            ("segmentation_true", TRUTH, "solid"),
            ("segmentation", PREDICTION, "dashed"),
        ):
            region = arm[name][i]
            for c in np.unique(region[(region > 0) & (region < 255)]):
                ax.contour(
                    region == c, [0.5], colors=colour, linewidths=1.3, linestyles=line
                )

    return _rows(samples, draw, count=count)


def detection(
    samples: Mapping[str, Samples],
    *,
    class_names: Sequence[str] | None,
    count: int,
) -> str:
    """One row for each arm: true boxes, and predicted ones with their scores.

    Args:
      samples: Of each arm: `image` uint8 or uint16 [n, H, W, 1]; `box_true` [n, M, 4],
        `box_valid`, `box_class` [n, M]; `box` [n, D, 4], `score`, `class`, `valid`
        [n, D]. Boxes are y0, x0, y1, x1 as fractions of the image.
      class_names: Names of the classes.
      count: Pictures at most.
    """

    def draw(ax: mpl_axes.Axes, arm: Samples, i: int) -> None:
        for box in arm["box_true"][i][arm["box_valid"][i].astype(bool)]:
            _box(ax, box, arm["image"][i].shape, TRUTH, "solid")
        score = np.where(arm["valid"][i].astype(bool), arm["score"][i], -1.0)
        best = np.argsort(-score, kind="stable")[:BOXES_SHOWN]
        for place in best[score[best] >= SCORE_SHOWN][::-1]:  # the surest on top
            text = f"{score[place]:.2f}"
            if class_names is not None and len(class_names) > 1:
                text = f"{class_names[int(arm['class'][i][place])]} {text}"
            shape = arm["image"][i].shape
            _box(ax, arm["box"][i][place], shape, PREDICTION, "dashed", text)

    return _rows(samples, draw, count=count)


def attention(
    samples: Mapping[str, Samples],
    *,
    class_names: Sequence[str] | None,
    count: int,
) -> str:
    """One row for each arm: what spoke for its likeliest class, laid on the X-ray.

    Args:
      samples: Of each arm: `image` uint8 or uint16 [n, H, W, 1], `probability` [n, L],
        `attention` float [n, h, w, L], at least 0.
      class_names: Names of the L classes.
      count: Pictures at most.
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
        name = _names(class_names, arm["probability"].shape[1])[top]
        ax.set_title(f"{name} {arm['probability'][i][top]:.2f}", fontsize=7.5)

    return _rows(samples, draw, count=count, above=0.2)


_WIDTH = 1.75  # of a picture, inches
_RIGHT: dict[str, Any] = {"color": "#cfe6f5", "edgecolor": TRUTH}
_WRONG: dict[str, Any] = {"color": "#f6d9b0", "edgecolor": PREDICTION, "hatch": "////"}
_UNKNOWN: dict[str, Any] = {"color": "#eceff2", "edgecolor": "#8b95a1"}


def _rows(
    samples: Mapping[str, Samples],
    draw: Callable[[mpl_axes.Axes, Samples, int], None],
    *,
    count: int,
    above: float = 0.04,
) -> str:
    """A grid of X-rays, arms by examples; `draw(ax, samples of the arm, i)`.

    `above` is the room for a title, inches.
    """
    shown = min(count, min(len(arm["image"]) for arm in samples.values()))
    with mpl.rc_context(drawing.RC):
        figure = mpl_figure.Figure(
            figsize=(_WIDTH * shown + 0.3, (_WIDTH + above) * len(samples)),
            layout="constrained",
        )
        panels = figure.subplots(len(samples), shown, squeeze=False)
        for row, (name, arm) in zip(panels, samples.items(), strict=True):
            row[0].set_ylabel(name, fontsize=9, fontweight="bold")
            for i, ax in enumerate(row):
                _xray(ax, arm["image"][i])
                draw(ax, arm, i)
        return drawing.png(figure, dpi=DPI)


def _xray(ax: mpl_axes.Axes, image: np.ndarray) -> None:
    """The picture in grey; padding, which is exactly zero, in black."""
    image = np.asarray(image, np.float32)[..., 0]
    low, high = np.percentile(image[image != 0], [0.5, 99.5]) if image.any() else (0, 1)
    image = np.where(image == 0, low, image)
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _bars(
    ax: mpl_axes.Axes,
    samples: Mapping[str, Samples],
    i: int,
    names: Sequence[str],
    *,
    exclusive: bool,
    first: bool,
) -> None:
    """One bar for each arm: its likeliest class, hatched where that is wrong."""
    for place, arm in enumerate(samples.values()):
        probability, label = arm["probability"][i], arm["label"][i]
        top = int(np.argmax(probability))
        right = (label[top] > 0.5) == (exclusive or probability[top] >= 0.5)
        looks = _RIGHT if right else _WRONG
        if not arm["label_known"][i][top]:
            looks = _UNKNOWN
        ax.barh(place, probability[top], height=0.78, linewidth=0.8, **looks)
        text = f"{names[top]} {probability[top]:.2f}"
        halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
        ax.text(0.03, place, text, va="center", fontsize=7, path_effects=halo)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(samples) - 0.5, -0.5)
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks(range(len(samples)), list(samples) if first else [""] * len(samples))
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
    # Centres of pixels lie at whole numbers in a picture drawn by `imshow`.
    corner = (left - 0.5, top - 0.5)
    ax.add_patch(
        patches.Rectangle(
            corner,
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            linestyle=line,
            linewidth=1.4,
        )
    )
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


def _names(class_names: Sequence[str] | None, count: int) -> list[str]:
    if class_names is None:
        return [f"class {c}" for c in range(count)]
    return list(class_names)
