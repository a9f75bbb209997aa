"""How well classes are told apart: AUROC, accuracy, sensitivity, specificity, kappa.

A decision is the largest probability where classes exclude each other, else 0.5 for
each label alone. Thresholds fitted on validation do not live here. Where images were
taken together in studies, AUROC and kappa are measured for these too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mtpret_jax.metrics import labels, ratios, studies, weighing


@dataclasses.dataclass(frozen=True)
class OneClass:
    """The images of which a class is known.

    Attributes:
      name: Name of the class.
      probability: Its probability, float [n].
      truth: Whether it is there, bool [n].
      known: Which of all images these are, bool [N].
    """

    name: str
    probability: np.ndarray
    truth: np.ndarray
    known: np.ndarray


@dataclasses.dataclass(frozen=True)
class ClassificationMetric(labels.LabelMetric):
    """Values of a classification task; entries with an unknown label are left out.

    `auroc` is that of the last class where two classes exclude each other, else the
    mean over classes (each against the rest) for which it is defined. With more than
    two classes, or labels that do not exclude each other, `sensitivity` and
    `specificity` are such means too, and `auroc/<class>` stands beside `auroc`.
    Accuracy and kappa of labels that do not exclude each other are means over labels.
    `auroc_study` and `kappa_study` count each study once; see `studies.join`.

    Attributes:
      class_names: Names of the L classes or labels.
      exclusive: Whether exactly one class is true; `probability` is then a softmax.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    class_names: Sequence[str]
    exclusive: bool
    primary: str = dataclasses.field(default="auroc", init=False)
    sign: ClassVar[int] = 1
    titles: ClassVar[Mapping[str, str]] = {
        "auroc": "AUROC",
        "auroc_study": "AUROC per study",
        "kappa_study": "kappa per study",
    }
    meaning: ClassVar[str] = (
        "How often an image that shows the finding gets a higher score than one that "
        "does not: 0.5 is guessing, 1 is perfect."
    )
    positives: ClassVar[str] = "of the rarest class"
    drawn: ClassVar[str] = "bars"

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mean distance of probability and truth over the known labels, [N]."""
        known = np.asarray(records["label_known"], bool)
        gap = np.abs(records["probability"] - (np.asarray(records["label"]) > 0.5))
        return ratios.ratio(np.where(known, gap, 0).sum(axis=1), known.sum(axis=1))

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Ranks the probabilities and takes the decisions.

        Returns:
          `rank` int32 [N, L], equal for equal probabilities; `positive`, `decided`
          and `known` bool [N, L]; `record` int32 [N]. Where there are studies, the
          first three for the study of each image, as `study_rank` and so on, and
          `study_weight` float64 [N, L], the image's share of its study.
        """
        probability = self.finite(records)
        positive, known = self.truth(records)
        summary = {
            "rank": _ranks(probability),
            "positive": positive,
            "decided": self._decide(probability),
            "known": known,
            "record": np.asarray(records["record"], np.int32),
        }
        study = np.asarray(records.get("study", ()), np.int32)
        if not (study >= 0).any():
            return summary
        joined = studies.join(
            study, probability, positive, known, exclusive=self.exclusive
        )
        defined = np.nan_to_num(joined.probability)
        return summary | {
            "study_rank": _ranks(defined),
            "study_positive": joined.positive,
            "study_decided": self._decide(defined),
            "study_weight": joined.weight,
        }

    def classes(self, records: Mapping[str, np.ndarray]) -> list[OneClass]:
        """Each class by itself; where one of two excludes the other, the last alone."""
        summary = self.summarise(records)
        found = []
        for c, name in enumerate(self.class_names):
            if not self.one_area or c == 1:
                known = summary["known"][:, c]
                truth = summary["positive"][known, c].astype(bool)
                probability = records["probability"][known, c]
                found.append(OneClass(name, probability, truth, known))
        return found

    def _decide(self, probability: np.ndarray) -> np.ndarray:
        """The decision on each label, bool [N, L]."""
        if not self.exclusive:
            return probability >= 0.5
        classes = np.arange(probability.shape[1])
        return probability.argmax(axis=1)[:, np.newaxis] == classes

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """All values, each in [0, 1] (kappa: [-1, 1]) or NaN."""
        return weighing.once(self, summary)

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All values with every example counted `weight` times; see `types.Metric`."""
        positive, decided = summary["positive"], summary["decided"]
        known = summary["known"]
        true, false = known & positive, known & ~positive
        right = known & (positive == decided)
        among = known
        if self.exclusive:
            right = np.asarray(right.all(axis=1, keepdims=True))
            among = np.asarray(known.all(axis=1, keepdims=True))

        def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
            part, whole = (weighing.totals(x, weight) for x in (part, whole))
            return ratios.ratio(part, whole)

        sensitivity = share(true & decided, true)
        specificity = share(false & ~decided, false)
        if self.one_area:
            sensitivity, specificity = sensitivity[1:], specificity[1:]
        area = self._areas("auroc", summary["rank"], positive, known, weight)
        values = {
            "auroc": area.pop("auroc"),
            "accuracy": ratios.mean(share(right, among)),
            "sensitivity": ratios.mean(sensitivity),
            "specificity": ratios.mean(specificity),
            "kappa": self._kappa(positive, decided, known, weight),
        }
        if "study_rank" in summary:
            names = ("study_rank", "study_positive", "study_decided", "study_weight")
            rank, positive, decided, known = (summary[name] for name in names)
            area |= self._areas("auroc_study", rank, positive, known, weight)
            values["auroc_study"] = area.pop("auroc_study")
            values["kappa_study"] = self._kappa(positive, decided, known, weight)
        return values | area

    @property
    def one_area(self) -> bool:
        """Whether the last class speaks for both."""
        return self.exclusive and len(self.class_names) == 2

    def _areas(
        self,
        name: str,
        rank: np.ndarray,
        positive: np.ndarray,
        share: np.ndarray,
        weight: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """AUROC as `name`, and `name/<class>` where it is a mean over classes."""
        classes = [1] if self.one_area else range(len(self.class_names))
        area = [
            _auroc_of_ranks(rank[:, c], positive[:, c], share[:, c], weight)
            for c in classes
        ]
        values = {name: ratios.mean(area)}
        if len(area) > 1:
            for part, value in zip(self.class_names, area, strict=True):
                values[f"{name}/{part}"] = value
        return values

    def _kappa(
        self,
        positive: np.ndarray,
        decided: np.ndarray,
        share: np.ndarray,
        weight: np.ndarray,
    ) -> np.ndarray:
        if self.exclusive:
            return kappa(positive, decided, share[:, 0], weight)
        both = [np.stack([~x, x], axis=2) for x in (positive, decided)]
        columns = range(share.shape[1])
        found = [
            kappa(both[0][:, c], both[1][:, c], share[:, c], weight) for c in columns
        ]
        return ratios.mean(found)


def kappa(
    true: np.ndarray, decided: np.ndarray, share: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Agreement beyond chance.

    Args:
      true: One-hot, bool [N, classes].
      decided: One-hot, bool [N, classes].
      share: What each row counts, at least 0, [N].
      weight: How often each row is counted, float64 [N, R].

    Returns:
      float64 [R], at most 1; 0 is what chance gives. NaN unless two classes are true
      somewhere: with one alone it would be 0 whatever is decided.

    Source:
      Cohen 1960.
    """
    rows = np.asarray(share, float)[:, np.newaxis]
    agreed = (true & decided).any(axis=1, keepdims=True)
    columns = np.concatenate([true, decided, agreed, np.ones_like(agreed)], axis=1)
    total = weighing.totals(columns * rows, weight)
    count_true, count_decided = np.split(total[:-2], 2)
    observed = ratios.ratio(total[-2], total[-1])
    by_chance = ratios.ratio((count_true * count_decided).sum(axis=0), total[-1] ** 2)
    several = (count_true > 0).sum(axis=0) >= 2
    return ratios.ratio(observed - by_chance, np.where(several, 1 - by_chance, 0))


def _ranks(score: np.ndarray) -> np.ndarray:
    """Dense rank of each entry in its column, int32 [N, L]; equal for equal scores."""
    columns = [np.unique(column, return_inverse=True)[1] for column in score.T]
    return np.stack(columns, axis=1).astype(np.int32)


def _auroc_of_ranks(
    rank: np.ndarray, positive: np.ndarray, share: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """AUROC of every resample from one sort, float64 [R]; ties count one half.

    Args:
      rank: Integer, equal for equal scores, [N].
      positive: bool [N].
      share: What each example counts, [N]; 0 leaves it out.
      weight: How often each example is counted, float64 [N, R].

    Source:
      Hanley and McNeil 1982: the Mann-Whitney statistic, here from mid-ranks.
    """
    ones, others = (np.flatnonzero(x & (share > 0)) for x in (positive, ~positive))
    level, place = np.unique(rank[ones], return_inverse=True)
    won = weighing.totals_by_bin(place, ones, share[ones], weight, bins=len(level))
    # Negatives below the first level, at it, between it and the second, at that, ...
    below = np.searchsorted(level, rank[others])
    up_to = np.searchsorted(level, rank[others], side="right")
    lost = weighing.totals_by_bin(
        below + up_to, others, share[others], weight, bins=2 * len(level) + 1
    )
    lost.cumsum(axis=0, out=lost)
    # A pair with equal scores counts one half.
    pairs = np.einsum("br,br->r", won, lost[:-1:2] + lost[1::2]) / 2
    return ratios.ratio(ratios.ratio(pairs, won.sum(axis=0)), lost[-1])
