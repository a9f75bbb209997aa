"""What a comparison of encoders found: `compare.json` as a value."""

from __future__ import annotations

import dataclasses

from mtpret_jax.comparison import features, lists
from mtpret_jax.metrics import calibration
from mtpret_jax.report import parts

SEEN = "not judged"  # the verdict where a test split was seen


@dataclasses.dataclass(frozen=True)
class Described(features.About):
    """An encoder as the page has it.

    Attributes:
      features: D.
      listed: Images in its lists; None without a list.
      unknown: What is not known of its training images; "" where all is.
    """

    features: int = 0
    listed: int | None = None
    unknown: str = ""


@dataclasses.dataclass(frozen=True)
class Told:
    """A task as the page has it; images and groups of each split."""

    dataset: str
    fingerprint: str
    splits: str
    metric: str
    classes: list[str]
    images: dict[str, int]
    groups: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Probe:
    """How probes learnt: images, and the strength of the linear one's penalty."""

    images: int
    strength: float
    strength_from: str


@dataclasses.dataclass(frozen=True)
class Compared(parts.Difference):
    """An encoder less the baseline; `_retrained`: other training groups, too.

    `p`, `p_corrected` and `detectable` are NaN where it is not judged, and `verdict`
    is then "" or `SEEN`.
    """

    encoder: str
    baseline: str
    method: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """Everything, in the order of the page.

    Attributes:
      baseline: The first encoder.
      encoders: What each is.
      tasks: What each task is.
      left_out: Tasks of the config that are not of classes, and their kind.
      seed: Seed of shares, halves and resamples.
      fractions: Shares of the training groups, rising; the last is judged.
      interval: How intervals are drawn.
      halves: How many halves of the training groups probes are fitted on again.
      values: By task, share, encoder, method and name.
      probes: By task, share and encoder.
      judged: The family.
      others: Differences that are not judged.
      leaks: What lists hold, by task and encoder, of those that have one.
      calibration: The linear probe's from the largest share by task, encoder, class.
      subgroups: Its primary value by task and column.
      said: What may be said.
    """

    baseline: str
    encoders: dict[str, Described]
    tasks: dict[str, Told]
    left_out: dict[str, str]
    seed: int
    fractions: list[str]
    interval: parts.Bootstrap
    halves: int
    values: parts.Cells[dict[str, dict[str, parts.Range]]]
    probes: parts.Cells[Probe]
    judged: list[Compared]
    others: list[Compared]
    leaks: dict[str, dict[str, lists.Leak]]
    calibration: dict[str, dict[str, dict[str, calibration.Calibration]]]
    subgroups: dict[str, dict[str, list[parts.Level]]]
    said: list[str]
