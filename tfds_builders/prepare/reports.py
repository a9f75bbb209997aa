"""What preparation says of a set: sums over its shards, and what to look at.

`quarantine.csv`, beside the tables of `prepared`, lists the files that were left out.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath

from tfds_builders import prepared, xray_features
from tfds_builders.images import polarity
from tfds_builders.prepare import records, shards, statistics
from tfds_builders.sources import cells

QUARANTINE = "quarantine.csv"
_DROPPED = {  # of the tally
    "dropped_boxes": "boxes of the source were left out: crowds, without area, or the "
    "same box of the same image and class again",
    "dropped_landmarks": "landmarks of the source lie beyond their images and count as "
    "unknown",
}


@dataclasses.dataclass
class Totals:
    """Sums over the shards of a set.

    Attributes:
      lengths: Examples of each shard that holds any, by split.
      bytes: Size of the files of each split.
      left_out: Number of files that were left out.
      last_left_out: One of them for each split, and the last of all under "".
      inverted: Images that seem to be dark where rays were stopped.
      an_inverted: The image_id of one of them.
      blank: Images that have no content.
      a_blank: The image_id of one of them.
      tally: Counts of the set.
      records: Digest of the examples of all shards, in their order, with their splits.
    """

    lengths: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    bytes: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    left_out: int = 0
    last_left_out: dict[str, records.Quarantined] = dataclasses.field(
        default_factory=dict
    )
    inverted: int = 0
    an_inverted: str = ""
    blank: int = 0
    a_blank: str = ""
    tally: statistics.Tally = dataclasses.field(default_factory=statistics.Tally)
    records: Any = dataclasses.field(default_factory=hashlib.sha256)

    def counts(self) -> dict[str, int]:
        """Examples of each split."""
        return {split: sum(lengths) for split, lengths in self.lengths.items()}

    def leave_out(self, split: str, found: Sequence[records.Quarantined]) -> None:
        """Counts files that were left out."""
        self.left_out += len(found)
        if found:
            self.last_left_out.update({split: found[-1], "": found[-1]})

    def add(self, split: str, report: shards.Report) -> None:
        """Counts a shard of a split."""
        lengths = self.lengths.setdefault(split, [])
        if report.rows:
            lengths.append(len(report.rows))
        self.bytes[split] += report.bytes
        self.records.update(f"{split}\0{report.sha256}\n".encode())
        self.tally.update(report.tally)
        for row in report.rows:
            if row["looks_inverted"]:
                self.inverted, self.an_inverted = (
                    self.inverted + 1,
                    str(row["image_id"]),
                )
            if row["is_blank"]:
                self.blank, self.a_blank = self.blank + 1, str(row["image_id"])
        self.leave_out(split, report.quarantined)


def write_tables(
    folder: epath.Path,
    layout: xray_features.Layout,
    finished: Iterable[tuple[str, shards.Report]],
    left_out: Sequence[records.Quarantined],
) -> Totals:
    """Writes index.csv and quarantine.csv, one shard at a time.

    Args:
      folder: Where they go.
      layout: Features and class names of the dataset.
      finished: Split and report of each shard, in order.
      left_out: Files that were left out before any was opened.
    """
    totals = Totals()
    totals.leave_out("", left_out)
    with (
        (folder / prepared.INDEX).open("w") as table,
        (folder / QUARANTINE).open("w") as files,
    ):
        index = prepared.IndexWriter(table, [*layout.label_names, *layout.values])
        reasons = cells.Writer(files)
        reasons.writerow(["file", "reason"])
        reasons.writerows([item.file, item.reason] for item in left_out)
        for split, report in finished:
            index.add(split, report.rows)
            reasons.writerows([item.file, item.reason] for item in report.quarantined)
            totals.add(split, report)
    return totals


def warn(name: str, totals: Totals) -> None:
    """Points out what somebody should look at.

    Args:
      name: The dataset and its config.
      totals: Sums over its shards.
    """
    log = logging.getLogger(__name__)
    if totals.left_out:
        log.warning(
            "%s: %d files were left out, for example %s: %s. All are listed, with "
            "their reasons, in %s of the prepared folder.",
            name,
            totals.left_out,
            totals.last_left_out[""].file,
            totals.last_left_out[""].reason,
            QUARANTINE,
        )
    for key, told in _DROPPED.items():
        if totals.tally[key]:
            log.warning("%s: %d %s.", name, totals.tally[key], told)
    if totals.blank:
        log.warning(
            "%s: %d of %d images have no content, one grey level or almost, for "
            "example %s. They are kept, with is_blank = 1 in %s of the prepared "
            "folder: look at them, and take out those that are damaged.",
            name,
            totals.blank,
            sum(totals.counts().values()),
            totals.a_blank,
            prepared.INDEX,
        )
    if totals.inverted:
        flagged, images = totals.inverted, sum(totals.counts().values())
        advice = "Look at them, and name those that are in the option `invert`."
        if not polarity.is_trusted(flagged, images):
            advice = (
                "So many are either all of them (then invert=['*']), or of a view that "
                "this check is not made for: it knows chests, limbs and jaws, and is "
                "mostly wrong of skulls and spines. Look at a few; if bone is bright, "
                "there is nothing to do."
            )
        log.warning(
            "%s: %d of %d images look inverted (bone dark, air bright), for example "
            "%s. None was changed. They have looks_inverted = 1 in %s of the prepared "
            "folder. %s",
            name,
            flagged,
            images,
            totals.an_inverted,
            prepared.INDEX,
            advice,
        )
