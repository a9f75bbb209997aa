"""What can be said about a download folder before anything is prepared.

For each released set: whether it is there, whether it is whole, whether its images
can be read, and what to do next. Nothing is written and nothing is prepared.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
import random
import tempfile
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tqdm
from etils import epath

from tfds_builders import xray_features
from tfds_builders.images import content, reader
from tfds_builders.prepare import examples, xray_builder
from tfds_builders.releases import release, search
from tfds_builders.sources import files, folders

FOUND, PARTLY, MISSING = "found", "partly there", "missing"
SAMPLE = 200  # images that are read unless all are asked for
_EXAMPLES = 5
# Start of the reason of files that are there, and counted where the set was published,
# but about which the makers had not decided.
UNDECIDED = "undecided: "
_THREADS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Count:
    """How many of something there are, and how many were published."""

    found: int
    expected: int | None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Files that are left out for one reason.

    Attributes:
      reason: Why.
      count: How many.
      examples: The first of them.
    """

    reason: str
    count: int
    examples: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is known about one set.

    Attributes:
      name: Name of the dataset.
      status: "found", "partly there" or "missing".
      would_prepare: Whether preparation would succeed, as far as was looked.
      root: Folder of the release; "" where it is missing.
      problem: Why preparation would fail; "" where it would not.
      counts: Numbers of "images", "patients", "masks", "<column>=<class>", of
        "<column>=(unknown)" and of "boxes=<class>".
      left_out: Files that preparation leaves out.
      read: Images that were read, with what belongs to them.
      unreadable: Those that could not be.
      blank: Those that could, and have no content: one grey level, or almost.
      archives: Files beside or in the release that look as if it is still packed.
      next_step: What to do.
    """

    name: str
    status: str
    would_prepare: bool
    root: str = ""
    problem: str = ""
    counts: Mapping[str, Count] = dataclasses.field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    read: int = 0
    unreadable: Sequence[xray_builder.Quarantined] = ()
    blank: Sequence[str] = ()
    archives: Sequence[str] = ()
    next_step: str = ""


def examine(
    builder_class: type[release.ReleaseBuilder],
    folder: epath.Path,
    *,
    images: int | None = SAMPLE,
    seed: int = 0,
    archives: Sequence[str] = (),
    taken: Collection[epath.Path] = (),
) -> Diagnosis:
    """Looks for a set in a folder.

    Args:
      builder_class: Builder of the dataset.
      folder: Where downloads lie; those of several sets may lie side by side.
      images: How many images are read, drawn with `seed`; None for all. Of a split
        of which none of these can be read, more are tried until one can.
      seed: Another seed draws others.
      archives: Packed files in the folder, as `search.packed` returns them.
      taken: Folders that belong to other sets, as `search.roots` returns them.
    """
    builder = _builder(builder_class, folder)
    name, instructions = builder.name, builder.how_to_get
    mine = [one for one in archives if search.belongs(one, name, instructions)]
    unpack = f"Unpack {files.brief(mine, 5)}. " if mine else ""
    diagnosis = functools.partial(Diagnosis, name=name, archives=mine)
    root = folders.find_root(folder, builder.MARKERS, depth=search.DEPTH)
    if root is None:
        partial = search.partial(folder, builder.MARKERS, taken)
        return diagnosis(
            status=PARTLY if partial else MISSING,
            would_prepare=False,
            problem=partial,
            next_step=unpack + instructions,
        )
    try:
        found, left_out = builder.found, builder.left_out()
        tried = _try_to_read(builder, images, seed)
    # What builders promise to raise about a release, and missing optional libraries.
    except (OSError, ValueError, ImportError) as error:
        return diagnosis(
            status=PARTLY if isinstance(error, OSError) else FOUND,
            would_prepare=False,
            root=str(root),
            problem=str(error),
            next_step=unpack + (str(error) if not mine else instructions),
        )
    problem, counts = _problem(tried), _counts(builder, found)
    lacking = _lacking(builder, counts, left_out)
    return diagnosis(
        status=PARTLY if lacking else FOUND,
        would_prepare=not problem,
        root=str(root),
        problem=problem,
        counts=counts,
        left_out=_by_reason(left_out),
        read=len(tried),
        unreadable=_unreadable(tried),
        blank=[record.image_id for _, record, _, is_blank in tried if is_blank],
        next_step=_next_step(name, folder, lacking, problem, unpack, instructions),
    )


def _builder(
    builder_class: type[release.ReleaseBuilder], folder: epath.Path
) -> release.ReleaseBuilder:
    """A builder that reads a release as it is and has nowhere to write to."""
    config = dataclasses.replace(
        builder_class.BUILDER_CONFIGS[0], name="doctor", folder=str(folder)
    )
    with tempfile.TemporaryDirectory() as nowhere:
        return builder_class(data_dir=nowhere, config=config)


def tally(
    layout: xray_features.Layout, found: Sequence[release.Item]
) -> dict[str, int]:
    """Counts what the tables of a release tell, with the keys of EXPECTED."""
    counts = {
        "images": len(found),
        "patients": len({item.patient for item in found if item.patient}),
        "masks": sum(bool(item.masks) for item in found),
    }
    for column, names in layout.label_names.items():
        known = [item.labels[column] for item in found if column in item.labels]
        total = (np.asarray(known).reshape(-1, len(names)) == 1).sum(axis=0)
        counts |= {f"{column}={n}": int(c) for n, c in zip(names, total, strict=True)}
    for index, name in enumerate(layout.object_names):
        counts[f"boxes={name}"] = sum(
            int((np.asarray(item.box_labels) == index).sum())
            for item in found
            if item.boxes is not None and item.box_labels is not None
        )
    return counts


def _counts(
    builder: release.ReleaseBuilder, found: Sequence[release.Item]
) -> dict[str, Count]:
    there = tally(builder.layout(), found)
    for column in builder.layout().label_names:
        there[f"{column}=(unknown)"] = sum(
            bool((item.labels[column] == xray_features.UNKNOWN_LABEL).all())
            for item in found
        )
    keys = [*there, *(key for key in builder.EXPECTED if key not in there)]
    counts = {k: Count(there.get(k, 0), builder.EXPECTED.get(k)) for k in keys}
    return {k: c for k, c in counts.items() if c.found or c.expected is not None}


def _lacking(
    builder: release.ReleaseBuilder,
    counts: Mapping[str, Count],
    left_out: Sequence[xray_builder.Quarantined],
) -> list[str]:
    """The counts that are below those published."""
    undecided = sum(entry.reason.startswith(UNDECIDED) for entry in left_out)
    return [
        key
        for key, count in counts.items()
        if count.expected
        and count.found + undecided * (key == "images") < count.expected
        and (count.found or key not in builder.OPTIONAL)
    ]


def _by_reason(left_out: Sequence[xray_builder.Quarantined]) -> list[LeftOut]:
    by_reason: dict[str, list[str]] = {}
    for entry in left_out:
        by_reason.setdefault(entry.reason, []).append(entry.file)
    return [
        LeftOut(reason, len(names), names[:_EXAMPLES])
        for reason, names in sorted(by_reason.items(), key=lambda e: -len(e[1]))
    ]


Tried = tuple[str, xray_builder.Record, str, bool]


def _try_to_read(
    builder: release.ReleaseBuilder, images: int | None, seed: int
) -> list[Tried]:
    """Does what preparation does, and reads images.

    Returns:
      Split and record of each image that was tried; why it can't be read, "" if it can;
      and whether it has no content.
    """
    builder.fingerprint()
    builder.manifests()
    by_split = builder.records()
    chosen = [(split, r) for split, part in by_split.items() for r in part]
    if images is not None and images < len(chosen):
        chosen = random.Random(seed).sample(chosen, images)

    def attempt(entry: tuple[str, xray_builder.Record]) -> Tried:
        try:
            xray = builder.load(entry[1])
        except reader.UnreadableImage as error:
            return (*entry, str(error), False)
        xray = examples.shrink(xray, builder.builder_config.image_size)
        return (*entry, "", content.is_blank(xray.image))

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        progress = tqdm.tqdm(
            pool.map(attempt, chosen),
            total=len(chosen),
            desc=builder.name,
            unit=" images",
            disable=None,
            leave=False,
        )
        tried = list(progress)
    # One good image saves a split, and the sample may have missed it.
    for split in _hopeless(tried):
        looked = {record.image_id for _, record, *_ in tried}
        for record in by_split[split]:
            if record.image_id not in looked:
                tried.append(attempt((split, record)))
                if not tried[-1][2]:
                    break
    return tried


def _unreadable(tried: Sequence[Tried]) -> list[xray_builder.Quarantined]:
    return [
        xray_builder.Quarantined(record.image_id, reason)
        for _, record, reason, _ in tried
        if reason
    ]


def _hopeless(tried: Sequence[Tried]) -> list[str]:
    """Splits of which no image that was tried can be read."""
    good = {split for split, _, reason, _ in tried if not reason}
    return sorted({split for split, *_ in tried} - good)


def _problem(tried: Sequence[Tried]) -> str:
    """Why preparation would fail with these images; "" where it would not."""
    if hopeless := _hopeless(tried):
        part = [entry for entry in tried if entry[0] == hopeless[0]]
        _, record, reason, _ = part[-1]
        return (
            f"None of the {len(part)} images of split {hopeless[0]!r} can be read; the "
            f"last one: {record.image_id}: {reason}."
        )
    readable = sum(not reason for _, _, reason, _ in tried)
    blank = ["", *(r.image_id for _, r, _, is_blank in tried if is_blank)]
    return content.problem(len(blank) - 1, readable, blank[-1])


def _next_step(
    name: str,
    folder: epath.Path,
    lacking: Sequence[str],
    problem: str,
    unpack: str,
    instructions: str,
) -> str:
    if problem:
        return f"{unpack}Get the files again. {instructions}"
    prepare = (
        f"Prepare it: from tfds_builders import {name}; {name}.Builder(config="
        f'{name}.Config(name="here", folder={str(folder)!r})).download_and_prepare()'
    )
    if lacking:
        return (
            f"Fewer than were published: {files.brief(lacking, 5)}. {unpack}To get the "
            f"rest: {instructions} Or go on with what is there. {prepare}"
        )
    return prepare
