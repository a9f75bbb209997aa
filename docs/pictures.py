"""Draws the diagrams of the page about the three stages; every X-ray is simulated.

    python docs/pictures.py

writes `docs/pictures/*.svg`. They are 420 pixels wide, for a phone, on a light ground
of their own, so that they look alike on light and dark pages. Colours are near those of
Okabe and Ito (2008), which colour-blind readers can tell apart, darkened until they can
be read as text; nothing rests on colour alone.
"""

from __future__ import annotations

import base64
import pathlib

import cv2
import numpy as np

from mtpret_jax import config
from mtpret_jax.data import augment
from tfds_builders.phantom_xray import simulator

FOLDER = pathlib.Path(__file__).parent / "pictures"
WIDTH = 420  # pixels of a diagram
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0065a0", "#a04f00", "#00785a", "#9c4f83"
_INK, _GROUND = "#1b1b1b", "#fbfbf8"
_BLUE_PAPER, _ORANGE_PAPER, _GREEN_PAPER = "#e3f0f8", "#fbeedd", "#dff2ec"


class Diagram:
    """Shapes on a light ground, drawn in the order in which they are added."""

    def __init__(self, height: int, title: str) -> None:
        """Begins a diagram of `height` pixels; `title` is for those who cannot see."""
        self._height, self._title, self._shapes = height, title, []

    def box(
        self, x: float, y: float, width: float, height: float, line: str, fill: str
    ) -> None:
        """A rounded rectangle."""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" '
            f'fill="{fill}" stroke="{line}" stroke-width="1.5"/>'
        )

    def say(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 14,
        bold: bool = False,
        colour: str = _INK,
        anchor: str = "middle",
    ) -> None:
        """A line of text whose foot is at y."""
        weight = ' font-weight="700"' if bold else ""
        self._shapes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}>{text}</text>'
        )

    def title(self, y: float, text: str, colour: str) -> None:
        """A line of larger text in the middle."""
        self.say(WIDTH / 2, y, text, size=16, bold=True, colour=colour)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        dashed: bool = False,
    ) -> None:
        """A straight arrow."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<line x1="{start[0]:g}" y1="{start[1]:g}" x2="{end[0]:g}" '
            f'y2="{end[1]:g}" stroke="{_INK}" stroke-width="1.8" '
            f'marker-end="url(#tip)"{dash}/>'
        )

    def picture(self, x: float, y: float, image: np.ndarray, side: float = 72) -> None:
        """An X-ray, uint8 [H, W] or BGR [H, W, 3], laid into a square of `side`."""
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 78])
        data = base64.b64encode(encoded.tobytes()).decode()
        self._shapes.append(
            f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" '
            f'href="data:image/jpeg;base64,{data}"/>'
        )

    def interval(self, x: float, half: float, y: float, colour: str) -> None:
        """A value and its interval."""
        self._shapes.append(
            f'<line x1="{x - half:g}" y1="{y:g}" x2="{x + half:g}" y2="{y:g}" '
            f'stroke="{colour}" stroke-width="3"/>'
            f'<circle cx="{x:g}" cy="{y:g}" r="6" fill="{colour}"/>'
        )

    def write(self, name: str) -> None:
        """Writes `docs/pictures/<name>.svg`."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
            f'{self._height}" width="{WIDTH}" height="{self._height}" role="img" '
            f'font-family="system-ui, sans-serif"><title>{self._title}</title>'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" '
            'markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L10 5L0 10z" fill="{_INK}"/></marker></defs>'
            f'<rect width="{WIDTH}" height="{self._height}" rx="10" fill="{_GROUND}"/>'
        )
        body = "\n".join([head, *self._shapes, "</svg>", ""])
        (FOLDER / f"{name}.svg").write_text(body, encoding="utf-8")


def shot(body: str, index: int, size: int = 144) -> simulator.Radiograph:
    """A simulated radiograph with its labels."""
    return simulator.simulate(body, size=size, seed=0, split_index=0, index=index)


def view(image: np.ndarray, seed: int) -> np.ndarray:
    """A view as stage 1 draws it, uint8 [size, size]."""
    drawn = augment.draw_view(
        np.random.default_rng(seed),
        config.AUGMENT_PRESETS["contrastive"],
        image,
        size=max(image.shape),
        mode="pad",
    )
    return drawn.image


def square(image: np.ndarray) -> np.ndarray:
    """The picture in the middle of a black square."""
    down, across = (max(image.shape[:2]) - side for side in image.shape[:2])
    sides = (down // 2, down - down // 2, across // 2, across - across // 2)
    return cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT)


def labelled(radiograph: simulator.Radiograph) -> np.ndarray:
    """BGR, with the outline of the mask or the boxes drawn in."""
    image = cv2.cvtColor(radiograph.image, cv2.COLOR_GRAY2BGR)
    height, width = image.shape[:2]
    if radiograph.boxes is not None:
        for box in radiograph.boxes * np.array([height, width, height, width]):
            y0, x0, y1, x1 = np.rint(box).astype(int).tolist()
            cv2.rectangle(image, (x0, y0), (x1, y1), (66, 159, 230), 2)
    elif radiograph.mask is not None:
        rings, _ = cv2.findContours(
            radiograph.mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(image, rings, -1, (233, 180, 86), 2)
    return square(image)


def overview() -> None:
    """The three stages, one under the other."""
    d = Diagram(716, "Three stages: contrastive, continual, fine-tuning")
    d.say(210, 28, "X-rays of many sets, without labels", bold=True)
    for x, body, index in ((80, "chest", 0), (174, "hand", 2), (268, "head", 4)):
        d.picture(x, 40, square(shot(body, index).image))
    d.arrow((210, 116), (210, 140))
    d.box(20, 144, 380, 76, _BLUE, _BLUE_PAPER)
    d.title(170, "Stage 1: contrastive pre-training", _BLUE)
    d.say(210, 190, "Two views of a picture belong together;")
    d.say(210, 208, "those of other pictures do not.")
    d.arrow((210, 222), (210, 258))
    d.say(220, 245, "backbone", anchor="start")
    d.box(20, 262, 380, 186, _ORANGE, _ORANGE_PAPER)
    d.title(288, "Stage 2: continual learning", _ORANGE)
    d.say(210, 308, "All tasks in turn, again and again, in a new")
    d.say(210, 326, "order, held near what was learnt before.")
    tasks = (("chest", 2, "boxes"), ("head", 3, "masks"), ("hand", 2, "classes"))
    for x, (body, index, name) in zip((80, 174, 268), tasks, strict=True):
        radiograph = shot(body, index)
        image = square(radiograph.image) if name == "classes" else labelled(radiograph)
        d.picture(x, 338, image)
        d.say(x + 36, 430, name)
    d.arrow((210, 450), (210, 486))
    d.say(220, 473, "backbone", anchor="start")
    d.box(20, 490, 380, 94, _GREEN, _GREEN_PAPER)
    d.title(516, "Stage 3: fine-tuning", _GREEN)
    d.say(210, 536, "One task at a time. Beside it, as long,")
    d.say(210, 554, "the same training from random weights")
    d.say(210, 572, "and from stage 1 alone.")
    d.arrow((210, 586), (210, 622))
    d.box(60, 626, 300, 70, _INK, "#ffffff")
    d.title(654, "The report", _INK)
    d.say(210, 676, "what it bought, with intervals")
    d.write("stages")


def contrastive() -> None:
    """Stage 1: two views, two encoders, a queue."""
    d = Diagram(622, "Momentum contrast: two views, two encoders and a queue")
    picture = square(shot("chest", 0).image)
    d.say(210, 26, "one picture", bold=True)
    d.picture(174, 36, picture)
    d.arrow((174, 100), (120, 138))
    d.arrow((246, 100), (300, 138))
    d.say(210, 132, "chance", size=13)
    d.picture(70, 142, view(picture, 3), 80)
    d.picture(270, 142, view(picture, 8), 80)
    d.arrow((110, 226), (110, 250))
    d.arrow((310, 226), (310, 250))
    d.box(30, 254, 160, 64, _BLUE, _BLUE_PAPER)
    d.say(110, 282, "query encoder", bold=True, colour=_BLUE)
    d.say(110, 302, "learns at every step")
    d.box(230, 254, 160, 64, _PURPLE, "#f7ecf3")
    d.say(310, 282, "key encoder", bold=True, colour=_PURPLE)
    d.say(310, 302, "follows it slowly")
    d.arrow((192, 286), (228, 286), dashed=True)
    d.arrow((110, 320), (110, 372))
    d.arrow((310, 320), (310, 372))
    d.box(70, 376, 80, 34, _BLUE, "#ffffff")
    d.say(110, 398, "query")
    d.box(270, 376, 80, 34, _PURPLE, "#ffffff")
    d.say(310, 398, "its key")
    d.say(210, 386, "pulled", colour=_GREEN, bold=True)
    d.say(210, 404, "together", colour=_GREEN, bold=True)
    d.arrow((110, 412), (110, 476))
    d.say(122, 440, "pushed away from", colour=_ORANGE, bold=True, anchor="start")
    d.arrow((310, 412), (310, 476), dashed=True)
    d.say(300, 466, "joins", anchor="end")
    d.box(20, 480, 380, 122, _ORANGE, _ORANGE_PAPER)
    d.say(210, 504, "the queue: keys of other pictures", bold=True, colour=_ORANGE)
    others = (("hand", 2), ("chest", 4), ("head", 6), ("hand", 6), ("head", 2))
    for n, (body, index) in enumerate(others):
        d.picture(38 + 72 * n, 518, square(shot(body, index).image), 56)
    d.say(210, 594, "the oldest leave it", size=13)
    d.write("contrastive")


def continual() -> None:
    """Stage 2: rounds of segments, and what holds the weights."""
    d = Diagram(470, "Tasks in turn, reshuffled each round, held by anchors")
    colours = {
        "boxes": (_BLUE, _BLUE_PAPER),
        "masks": (_ORANGE, _ORANGE_PAPER),
        "classes": (_GREEN, _GREEN_PAPER),
    }
    rounds = (
        ("boxes", "masks", "classes"),
        ("classes", "boxes", "masks"),
        ("masks", "classes", "boxes"),
    )
    d.say(210, 28, "every round has each task once, in a new order", bold=True)
    for row, names in enumerate(rounds):
        y = 46 + 62 * row
        d.say(20, y + 29, f"round {row + 1}", anchor="start")
        for column, name in enumerate(names):
            line, fill = colours[name]
            x = 84 + 112 * column
            d.box(x, y, 92, 46, line, fill)
            d.say(x + 46, y + 28, name, bold=True, colour=line)
            if column:
                d.arrow((x - 19, y + 23), (x - 1, y + 23))
    d.say(210, 244, "a box is a segment: so many steps of one task")
    d.box(140, 290, 140, 56, _INK, "#ffffff")
    d.say(210, 314, "weights of the", bold=True)
    d.say(210, 333, "backbone now", bold=True)
    for x, words in ((104, ("before", "the stage")), (316, ("before", "the segment"))):
        d.box(x - 74, 394, 148, 58, _PURPLE, "#f7ecf3")
        d.say(x, 418, words[0], colour=_PURPLE, bold=True)
        d.say(x, 438, words[1], colour=_PURPLE, bold=True)
    d.arrow((172, 348), (118, 390), dashed=True)
    d.arrow((248, 348), (302, 390), dashed=True)
    d.say(210, 376, "pulled back", bold=True)
    d.say(210, 276, "cross-task memorization", colour=_PURPLE, bold=True)
    d.write("continual")


def finetune() -> None:
    """Stage 3: arms that differ in their start alone."""
    d = Diagram(452, "Arms start differently and are trained and tested alike")
    starts = (
        ("scratch", "random weights", _ORANGE, _ORANGE_PAPER),
        ("contrastive", "after stage 1", _BLUE, _BLUE_PAPER),
        ("mtpret", "after stages 1, 2", _GREEN, _GREEN_PAPER),
    )
    d.say(210, 28, "arms: they differ in their start alone", bold=True)
    for n, (arm, start, line, fill) in enumerate(starts):
        x = 76 + 134 * n
        d.box(x - 62, 44, 124, 56, line, fill)
        d.say(x, 68, arm, bold=True, colour=line)
        d.say(x, 88, start, size=13)
        d.arrow((x, 102), (x, 130))
    d.box(14, 134, 392, 78, _INK, "#ffffff")
    d.picture(24, 141, labelled(shot("chest", 2)), 64)
    d.say(250, 162, "the same task, pictures,", bold=True)
    d.say(250, 181, "number of steps and seeds", bold=True)
    d.say(250, 200, "the model is chosen on validation", size=13)
    d.arrow((210, 214), (210, 240))
    d.box(14, 244, 392, 192, _INK, "#ffffff")
    d.say(210, 268, "tested once, with intervals", bold=True)
    values = ((250, 66), (276, 60), (264, 62))
    for n, ((arm, _, line, _), (at, half)) in enumerate(
        zip(starts, values, strict=True)
    ):
        y = 298 + 36 * n
        d.say(30, y + 5, arm, anchor="start", colour=line, bold=True)
        d.interval(at, half, y, line)
    d.say(160, 404, "worse", size=13)
    d.arrow((186, 400), (338, 400))
    d.say(366, 404, "better", size=13)
    d.say(210, 428, "(a sketch of such a chart; these are no results)", size=13)
    d.write("finetune")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (overview, contrastive, continual, finetune):
        draw()
