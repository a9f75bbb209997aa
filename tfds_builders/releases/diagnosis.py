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
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import tqdm
from etils import epath

from tfds_builders import xray_features
from tfds_builders.images import content, reader
from tfds_builders.prepare import examples, xray_builder
from tfds_builders.releases import release
from tfds_builders.sources import files, folders

FOUND, PARTLY, MISSING = "found", "partly there", "missing"
SAMPLE = 200  # images that are read unless all are asked for
# Start of the reason of files that are there, and counted where the set was published,
# but about which the makers had not decided.
UNDECIDED = "undecided: "
_EXAMPLES = 5
_THREADS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Count:
    """How many of something there are, and how many were published."""

    found: int
    expected: int | None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Files that are left out for one reason: how many, and the first of them."""

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
    would_prepare: bool = False
    root: str = ""
    problem: str = ""
    counts: Mapping[str, Count] = dataclasses.field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    read: int = 0
    unreadable: Sequence[xray_builder.Quarantined] = ()
    blank: Sequence[str] = ()
    archives: Sequence[str] = ()
    next_step: str = ""


@dataclasses.dataclass(frozen=True)
class _Tried:
    """An image of a split that was read: why it can't be, "" if it can."""

    split: str
    image_id: str
    reason: str = ""
    is_blank: bool = False

    @property
    def quarantined(self) -> xray_builder.Quarantined:
        """What preparation would make of it, with a reason."""
        return xray_builder.Quarantined(self.image_id, self.reason)


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
      archives: Packed files in the folder, as `folders.packed` returns them.
      taken: Folders that belong to other sets, as `roots` returns them.
    """
    builder = _builder(builder_class, folder)
    mine = [one for one in archives if _belongs(one, builder)]
    unpack = f"Unpack {files.brief(mine, 5)}. " if mine else ""
    diagnosis = functools.partial(Diagnosis, name=builder.name, archives=mine)
    root = folders.find_root(folder, builder.MARKERS)
    if root is None:
        problem = folders.partial(folder, builder.MARKERS, taken)
        status, next_step = PARTLY if problem else MISSING, unpack + builder.how_to_get
        return diagnosis(status=status, problem=problem, next_step=next_step)
    try:
        found, left_out = builder.found, builder.left_out()
        tried = _try_to_read(builder, images, seed)
    # What builders promise to raise about a release, and missing optional libraries.
    except (OSError, ValueError, ImportError) as error:
        return diagnosis(
            status=PARTLY if isinstance(error, OSError) else FOUND,
            root=str(root),
            problem=str(error),
            next_step=unpack + (builder.how_to_get if mine else str(error)),
        )
    counts, problem = _counts(builder, found), _problem(tried)
    lacking = _lacking(builder, counts, left_out)
    return diagnosis(
        status=PARTLY if lacking else FOUND,
        would_prepare=not problem,
        root=str(root),
        problem=problem,
        counts=counts,
        left_out=_by_reason(left_out),
        read=len(tried),
        unreadable=[one.quarantined for one in tried if one.reason],
        blank=[one.image_id for one in tried if one.is_blank],
        next_step=_next_step(builder, folder, lacking, problem, unpack),
    )


def _next_step(
    builder: release.ReleaseBuilder,
    folder: epath.Path,
    lacking: Sequence[str],
    problem: str,
    unpack: str,
) -> str:
    name, how_to_get = builder.name, builder.how_to_get
    if problem:
        return f"{unpack}Get the files again. {how_to_get}"
    prepare = (
        f"Prepare it: from tfds_builders import {name}; {name}.Builder(config="
        f'{name}.Config(name="here", folder={str(folder)!r})).download_and_prepare()'
    )
    if not lacking:
        return prepare
    return (
        f"Fewer than were published: {files.brief(lacking, 5)}. {unpack}To get the "
        f"rest: {how_to_get} Or go on with what is there. {prepare}"
    )


def roots(
    builders: Iterable[type[release.ReleaseBuilder]], folder: epath.Path
) -> set[epath.Path]:
    """Folders of the sets that lie in a folder with all that marks them."""
    found = (folders.find_root(folder, b.MARKERS) for b in builders)
    return {root for root in found if root is not None}


def _belongs(archive: str, builder: release.ReleaseBuilder) -> bool:
    """Whether an archive has the name of a set, or its instructions speak of it."""
    stem = folders.stem(archive)
    return stem == builder.name or f"{stem}." in builder.how_to_get.lower()


def _builder(
    builder_class: type[release.ReleaseBuilder], folder: epath.Path
) -> release.ReleaseBuilder:
    """A builder that reads a release as it is and has nowhere to write to."""
    config = dataclasses.replace(
        builder_class.BUILDER_CONFIGS[0], name="doctor", folder=str(folder)
    )
    with tempfile.TemporaryDirectory() as nowhere:
        return builder_class(data_dir=nowhere, config=config)


def _counts(
    builder: release.ReleaseBuilder, found: Sequence[release.Item]
) -> dict[str, Count]:
    """Counts what the tables of a release tell, with the keys of EXPECTED."""
    counts = {
        "images": len(found),
        "patients": len({item.patient for item in found if item.patient}),
        "masks": sum(bool(item.masks) for item in found),
    }
    for column, names in builder.LABELS.items():
        known = [item.labels[column] for item in found if column in item.labels]
        labels = np.asarray(known).reshape(-1, len(names))
        total = (labels == 1).sum(axis=0)
        counts |= {f"{column}={n}": int(c) for n, c in zip(names, total, strict=True)}
        unknown = (labels == xray_features.UNKNOWN_LABEL).all(axis=1)
        counts[f"{column}=(unknown)"] = int(unknown.sum())
    for index, name in enumerate(builder.layout().object_names):
        counts[f"boxes={name}"] = sum(
            int((item.objects.labels == index).sum())
            for item in found
            if item.objects is not None
        )
    expected = builder.EXPECTED
    return {
        key: Count(counts.get(key, 0), expected.get(key))
        for key in [*counts, *(key for key in expected if key not in counts)]
        if counts.get(key) or key in expected
    }


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
        if count.found + undecided * (key == "images") < (count.expected or 0)
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


def _try_to_read(
    builder: release.ReleaseBuilder, images: int | None, seed: int
) -> list[_Tried]:
    """Does what preparation does, and reads images."""
    builder.fingerprint()
    builder.manifests()
    by_split = builder.records()
    chosen = [(split, r) for split, part in by_split.items() for r in part]
    if images is not None and images < len(chosen):
        chosen = random.Random(seed).sample(chosen, images)

    def attempt(entry: tuple[str, xray_builder.Record]) -> _Tried:
        split, record = entry
        try:
            xray = builder.load(record)
        except reader.UnreadableImage as error:
            return _Tried(split, record.image_id, str(error))
        xray = examples.shrink(xray, builder.builder_config.image_size)
        blank = content.is_blank(xray.image)
        return _Tried(split, record.image_id, is_blank=blank)

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
    looked = {one.image_id for one in tried}
    for split in _hopeless(tried):
        for record in by_split[split]:
            if record.image_id not in looked:
                tried.append(attempt((split, record)))
                if not tried[-1].reason:
                    break
    return tried


def _hopeless(tried: Sequence[_Tried]) -> list[str]:
    """Splits of which no image that was tried can be read."""
    good = {one.split for one in tried if not one.reason}
    return sorted({one.split for one in tried} - good)


def _problem(tried: Sequence[_Tried]) -> str:
    """Why preparation would fail with these images; "" where it would not."""
    for split in _hopeless(tried):
        part = [one for one in tried if one.split == split]
        return (
            f"None of the {len(part)} images of split {split!r} can be read; the "
            f"last one: {part[-1].image_id}: {part[-1].reason}."
        )
    blank = ["", *(one.image_id for one in tried if one.is_blank)]
    readable = sum(not one.reason for one in tried)
    return content.problem(len(blank) - 1, readable, blank[-1])
