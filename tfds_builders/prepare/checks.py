"""What preparation refuses: a set made otherwise, records that clash, empty content."""

from __future__ import annotations

import collections
import contextlib
import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence

from etils import epath

from tfds_builders import prepared, prepared_types, xray_features
from tfds_builders.images import content
from tfds_builders.prepare import records, reports, shards, statistics
from tfds_builders.prepare import staging as staging_lib
from tfds_builders.sources import files


def refuse_stale(
    name: str,
    folder: epath.Path,
    options: Mapping[str, prepared_types.Json],
    fingerprint: Callable[[], str],
) -> None:
    """Refuses to take a prepared set for one that it is not.

    Args:
      name: The set and its config, for errors.
      folder: The folder of the prepared set; it may not be there.
      options: The options of today, as `XrayBuilder.options` gives them.
      fingerprint: Makes a digest of the source as it is now.

    Raises:
      ValueError: If the folder was prepared with other options, or its source has
        changed since. A source that is gone is not a difference.
    """
    if not (folder / prepared.PREPARATION).exists():
        return
    then = prepared.read_preparation(folder)
    difference = changes(then, options)
    with contextlib.suppress(FileNotFoundError):
        if fingerprint() != then["fingerprint"]:
            difference = difference or "its source has changed"
    if difference:
        raise ValueError(
            f"{name} was prepared otherwise in {folder}: {difference}. Delete "
            "that folder to prepare it anew, or give this one another name or data_dir."
        )


def changes(
    then: prepared_types.Preparation, options: Mapping[str, prepared_types.Json]
) -> str:
    """How options differ from those that a set was prepared with; "" if they do not.

    Args:
      then: What its `preparation.json` holds.
      options: Those of today, as `XrayBuilder.options` gives them.
    """
    old = then["options"]
    return "; ".join(
        f"{option} was {_short(old.get(option))}, now {_short(options.get(option))}"
        for option in sorted(options.keys() | old.keys())
        # An option that is newer than the set asked for nothing then.
        if not (option not in old and not options[option])
        # As text: the order of classes counts, and dictionaries would hide it.
        and json.dumps(options.get(option)) != json.dumps(old.get(option))
    )


def check_columns(layout: xray_features.Layout) -> None:
    """Raises ValueError if a label or value is called as another of index.csv."""
    taken = {*prepared.INDEX_START, *prepared.INDEX_END}
    for what, columns in (("Label", layout.label_names), ("Value", layout.values)):
        if reserved := taken & {*columns}:
            raise ValueError(
                f"{what} columns may not be called {sorted(reserved)}: these are "
                f"columns of {prepared.INDEX}. Rename them."
            )
        taken |= {*columns}


def check_records(
    name: str,
    found: Mapping[str, Sequence[records.Record]],
    invert: Sequence[str],
) -> None:
    """Checks the records of a set before any is loaded.

    Args:
      name: The set and its config, for errors.
      found: The records of each split.
      invert: Patterns of the image_ids of images to turn around.

    Raises:
      ValueError: If there are none, if two have one image_id, if a pattern names no
        image, or if the option is a lone string.
    """
    if not found:
        raise ValueError(f"{name}: no images.")
    ids = collections.Counter(r.image_id for part in found.values() for r in part)
    if isinstance(invert, str):
        raise ValueError(
            f"{name}: option `invert` must be a list of image_ids, got {invert!r}."
        )
    for pattern in invert:
        if not fnmatch.filter(ids, pattern):
            raise ValueError(
                f"{name}: no image is called {pattern!r}, which option `invert` "
                f"names. There are: {files.brief(ids, 3)}."
                f"{files.nearest(pattern, ids)}"
            )
    (image_id, count), *_ = ids.most_common(1)
    if count > 1:
        raise ValueError(
            f"{name}: {count} images have the image_id {image_id!r}; expected one."
        )


def check_splits(
    name: str,
    plan: Sequence[shards.Shard],
    staging: staging_lib.Staging,
    totals: reports.Totals,
) -> None:
    """Refuses splits of which no image can be read; they will be read again.

    Raises:
      ValueError: If there is one.
    """
    counts = totals.counts()
    emptied = [shard for shard in plan if not counts[shard.split]]
    for shard in emptied:
        staging.forget(shard.number)
    if emptied:
        split = emptied[0].split
        images = sum(len(s.records) for s in emptied if s.split == split)
        last = totals.last_left_out[split]
        raise ValueError(
            f"{name}: none of the {images} images of split {split!r} can be read; the "
            f"last one: {last.file}: {last.reason}."
        )


def check_content(
    name: str,
    totals: reports.Totals,
    layout: xray_features.Layout,
    about_masks: Callable[[], str],
) -> None:
    """Refuses a set whose images, or whose masks, show nothing.

    Args:
      name: The set and its config, for errors.
      totals: Sums over the shards.
      layout: Features and class names of the set.
      about_masks: Says what to look at where every mask is background.

    Raises:
      ValueError: If more than half of the images have no content, or if the masks of
        the training split are all background.
    """
    images = sum(totals.counts().values())
    if problem := content.problem(totals.blank, images, totals.a_blank):
        raise ValueError(f"{name}: {problem}")
    if statistics.is_only_background(totals.tally):
        classes = " or ".join(map(repr, layout.mask_names))
        raise ValueError(
            f"{name}: no mask of the training split has a pixel of {classes}. "
            f"{about_masks()}"
        )


def _short(value: prepared_types.Json, limit: int = 80) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[:limit]}…"
