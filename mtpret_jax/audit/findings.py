"""The counts of an audit, as `audit.json` holds them and as lines of text."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

RISK = (
    "What it cannot find: copies that are both turned and cropped, turned by less than "
    "a quarter, or cut to less than 80 % of the sides, or much more along one than "
    "along the other; copies below about 32 pixels, "
    "cropped ones below 64; another exposure of the same visit; and patients whose ids "
    "differ between the sets."
)


@dataclasses.dataclass(frozen=True)
class SetCounts:
    """An audited set: its builder, its manifest, and the images of each split."""

    builder: str
    splits: str
    images: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Pairs of images that two splits of sets share, and the images they are of.

    Within one split every image of a pair is in `images` and in `other_images`.
    """

    kind: str  # as the reasons in `exclusions`
    dataset: str
    split: str
    other_dataset: str
    other_split: str
    pairs: int
    images: int
    other_images: int

    def __str__(self) -> str:
        one = f"{self.dataset} {self.split}"
        other = f"{self.other_dataset} {self.other_split}"
        counts = f"{_count(self.pairs, 'pair')} ({self.images} of {one}"
        if one != other:
            counts += f", {self.other_images} of {other}"
        return f"{self.kind}: {counts})"


@dataclasses.dataclass(frozen=True)
class Nesting:
    """A set that is known to contain images of another, and the pairs found of them."""

    outer: str
    inner: str
    extent: str  # which images
    copies_found: int

    def __str__(self) -> str:
        text = f"{self.outer} contains images of {self.inner} ({self.extent}); "
        if self.copies_found:
            return text + f"{_count(self.copies_found, 'pair')} of copies found."
        return text + "none was found: are these parts of the releases there?"


@dataclasses.dataclass(frozen=True)
class Excluded:
    """Training images of a set that are excluded for one reason."""

    dataset: str
    reason: str
    other_dataset: str
    other_split: str
    images: int

    @property
    def place(self) -> str:
        """The split in which they are met again.

        Of two training images neither leaks, unless one is met again elsewhere.
        """
        is_train = self.other_split == "train"
        return "train, itself excluded" if is_train else self.other_split

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {self.images}, {self.reason} as in "
            f"{self.other_dataset} {self.place}"
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """The content of `audit.json`.

    Attributes:
      key: Digest that changes with the sets, their content, their splits and the rule.
      rule: Limits of what counts as a copy.
      sets: Each audited set, by name.
      overlaps: Pairs of images found, by kind and splits.
      nestings: Documented nestings among the sets.
      excluded: Training images that stage 1 must not read, by reason.
      exclusions_sha256: Digest of the list of these.
    """

    key: str
    rule: Any
    sets: dict[str, SetCounts]
    overlaps: list[Overlap]
    nestings: list[Nesting]
    excluded: list[Excluded]
    exclusions_sha256: str

    @classmethod
    def of_json(cls, found: Any) -> Self:
        """The report from the content of its file."""
        return cls(
            found["key"],
            found["rule"],
            {name: SetCounts(**one) for name, one in found["sets"].items()},
            [Overlap(**row) for row in found["overlaps"]],
            [Nesting(**row) for row in found["nestings"]],
            [Excluded(**row) for row in found["excluded"]],
            found["exclusions_sha256"],
        )

    def lines(self) -> list[str]:
        """The whole of it for people to read."""
        found = ["Sets:"]
        for name, one in self.sets.items():
            counts = ", ".join(f"{split} {n}" for split, n in one.images.items())
            found.append(f"  {name} ({one.builder}, splits {one.splits}): {counts}")
        found.append("Overlaps:" if self.overlaps else "No overlaps.")
        found += [f"  {row}" for row in self.overlaps]
        found += [f"Documented: {row}" for row in self.nestings]
        return [*found, *self.exclusions(), RISK]

    def exclusions(self) -> list[str]:
        """What stage 1 must not read, and why."""
        if not self.excluded:
            return [
                "No training image is met again in validation or test: none excluded."
            ]
        total = _count(sum(row.images for row in self.excluded), "training image")
        head = f"Excluded from the pool of stage 1: {total}."
        return [head, *(f"  {row}" for row in self.excluded)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
