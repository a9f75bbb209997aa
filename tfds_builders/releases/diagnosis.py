"""What can be said about a download folder before anything is prepared.

For each released set: whether it is there, whether it is whole, whether its images
can be read, and what to do next. Nothing is written and nothing is prepared.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
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
from tfds_builders.sources import files

FOUND, PARTLY, MISSING = "found", "partly there", "missing"
SAMPLE = 200  # images that are read unless all are asked for
_DEPTH = 3  # levels below the folder at which a release, or its archive, may lie
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".gz", ".7z", ".rar")
_COMMON = ("images", "masks", "annotations", "train", "test")  # mark nobody's folder
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
      counts: By "images", "patients", "masks", "<column>=<class>", "boxes=<class>".
      labels: Images of each class of each label column, and of "(unknown)".
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
    labels: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
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
      archives: Packed files in the folder, as `packed` returns them.
      taken: Folders that belong to other sets, as `roots` returns them.
    """
    name = builder_class.name
    config = dataclasses.replace(
        builder_class.BUILDER_CONFIGS[0], name="doctor", folder=str(folder)
    )
    instructions = " ".join((builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    with tempfile.TemporaryDirectory() as nowhere:
        builder = builder_class(data_dir=nowhere, config=config)
    mine = [archive for archive in archives if _belongs(archive, name, instructions)]
    unpack = f"Unpack {files.brief(mine, 5)}. " if mine else ""
    root = files.find_root(folder, builder.MARKERS, depth=_DEPTH)
    if root is None:
        partial = _partial(folder, builder.MARKERS, taken)
        return Diagnosis(
            name=name,
            status=PARTLY if partial else MISSING,
            would_prepare=False,
            problem=partial,
            archives=mine,
            next_step=unpack + instructions,
        )
    try:
        found, left_out = builder.found, builder.left_out()
        builder.fingerprint()
        builder.manifests()
        read, unreadable, blank, problem = _read(builder, images, seed)
    # What builders promise to raise about a release, and missing optional libraries.
    except (OSError, ValueError, ImportError) as error:
        return Diagnosis(
            name=name,
            status=PARTLY if isinstance(error, OSError) else FOUND,
            would_prepare=False,
            root=str(root),
            problem=str(error),
            archives=mine,
            next_step=unpack + (str(error) if not mine else instructions),
        )
    counts = _counts(builder, found)
    undecided = sum(entry.reason.startswith(UNDECIDED) for entry in left_out)
    lacking = [
        key
        for key, count in counts.items()
        if count.expected
        and count.found + undecided * (key == "images") < count.expected
        and (count.found or key not in builder.OPTIONAL)
    ]
    return Diagnosis(
        name=name,
        status=PARTLY if lacking else FOUND,
        would_prepare=not problem,
        root=str(root),
        problem=problem,
        counts=counts,
        labels=_labels(builder.layout(), found),
        left_out=_by_reason(left_out),
        read=read,
        unreadable=unreadable,
        blank=blank,
        archives=mine,
        next_step=_next_step(name, folder, lacking, problem, unpack, instructions),
    )


def roots(
    builders: Iterable[type[release.ReleaseBuilder]], folder: epath.Path
) -> set[epath.Path]:
    """Folders of the sets that lie in a folder with all that marks them."""
    found = (files.find_root(folder, b.MARKERS, depth=_DEPTH) for b in builders)
    return {root for root in found if root is not None}


def packed(folder: epath.Path) -> list[str]:
    """Archives in a folder and up to three levels below, as paths below it.

    Those beside a folder of the same name are taken to be unpacked.
    """
    found = []
    for place in files.folders(folder, _DEPTH):
        there = {path.name for path in files.entries(place)}
        for name in sorted(there):
            if name.lower().endswith(_ARCHIVES) and _stem(name) not in there:
                found.append((place / name).relative_to(folder).as_posix())
    return sorted(found)


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


def _stem(archive: str) -> str:
    """The name of an archive without folders and suffixes."""
    name = pathlib.PurePosixPath(archive).name
    suffixes = [suffix for suffix in _ARCHIVES if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))]


def _counts(
    builder: release.ReleaseBuilder, found: Sequence[release.Item]
) -> dict[str, Count]:
    there = tally(builder.layout(), found)
    keys = [*there, *(key for key in builder.EXPECTED if key not in there)]
    counts = {k: Count(there.get(k, 0), builder.EXPECTED.get(k)) for k in keys}
    return {k: c for k, c in counts.items() if c.found or c.expected is not None}


def _labels(
    layout: xray_features.Layout, found: Sequence[release.Item]
) -> dict[str, dict[str, int]]:
    counts = tally(layout, found)
    result: dict[str, dict[str, int]] = {}
    for column, names in layout.label_names.items():
        result[column] = {name: counts[f"{column}={name}"] for name in names}
        result[column]["(unknown)"] = sum(
            bool((item.labels[column] == xray_features.UNKNOWN_LABEL).all())
            for item in found
        )
    return result


def _by_reason(left_out: Sequence[xray_builder.Quarantined]) -> list[LeftOut]:
    by_reason: dict[str, list[str]] = {}
    for entry in left_out:
        by_reason.setdefault(entry.reason, []).append(entry.file)
    return [
        LeftOut(reason, len(names), names[:_EXAMPLES])
        for reason, names in sorted(by_reason.items(), key=lambda e: -len(e[1]))
    ]


def _read(
    builder: release.ReleaseBuilder, images: int | None, seed: int
) -> tuple[int, list[xray_builder.Quarantined], list[str], str]:
    """Reads images as preparation does.

    Returns:
      How many were read, those that could not be, those without content, and the reason
      why preparation would fail, "" where it would not.
    """
    by_split = builder.records()
    everything = [(split, r) for split, part in by_split.items() for r in part]
    if images is not None and images < len(everything):
        everything = random.Random(seed).sample(everything, images)
    unreadable: list[xray_builder.Quarantined] = []
    blank: list[str] = []
    looked: dict[str, set[str]] = {}
    last: dict[str, xray_builder.Quarantined] = {}
    good: set[str] = set()

    def attempt(entry: tuple[str, xray_builder.Record]) -> tuple[str, bool]:
        try:
            xray = builder.load(entry[1])
        except reader.UnreadableImage as error:
            return str(error), False
        xray = examples.shrink(xray, builder.builder_config.image_size)
        return "", content.is_blank(xray.image)

    def note(
        split: str, record: xray_builder.Record, reason: str, is_blank: bool
    ) -> None:
        looked.setdefault(split, set()).add(record.image_id)
        if is_blank:
            blank.append(record.image_id)
        if reason:
            last[split] = xray_builder.Quarantined(record.image_id, reason)
            unreadable.append(last[split])
        else:
            good.add(split)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        seen = tqdm.tqdm(
            pool.map(attempt, everything),
            total=len(everything),
            desc=builder.name,
            unit=" images",
            disable=None,
            leave=False,
        )
        for (split, record), (reason, is_blank) in zip(everything, seen, strict=True):
            note(split, record, reason, is_blank)
    # One good image saves a split, and the sample may have missed it.
    for split in sorted(looked):
        for record in by_split[split]:
            if split in good:
                break
            if record.image_id not in looked[split]:
                note(split, record, *attempt((split, record)))
    read = sum(map(len, looked.values()))
    problem = content.problem(len(blank), read - len(unreadable), (blank or [""])[-1])
    if hopeless := sorted(set(looked) - good):
        failure = last[hopeless[0]]
        problem = (
            f"None of the {len(looked[hopeless[0]])} images of split {hopeless[0]!r} "
            f"can be read; the last one: {failure.file}: {failure.reason}."
        )
    return read, unreadable, blank, problem


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


def _partial(
    folder: epath.Path, markers: Sequence[str], taken: Collection[epath.Path]
) -> str:
    """Where most of several markers lie, and which lack; "" where few do."""
    forbidden = [marker for marker in markers if marker.startswith("!")]
    markers = [marker for marker in markers if marker not in forbidden]
    telling = [
        "|".join(other for other in marker.split("|") if other not in _COMMON)
        for marker in markers
    ]
    telling = [marker for marker in telling if marker]
    best: tuple[list[str], str] = (list(markers), "")
    for place in files.folders(folder, _DEPTH):
        if any(root == place or root in place.parents for root in taken):
            continue
        if files.lacking(place, forbidden):
            continue
        lacking = files.lacking(place, markers)
        if len(lacking) < len(best[0]) and files.lacking(place, telling) != telling:
            best = (lacking, str(place))
    lacking, place = best
    if 2 * len(lacking) > len(markers) or len(lacking) == len(markers):
        return ""
    return f"{place!r} lacks {', '.join(lacking)}."


def _belongs(archive: str, name: str, instructions: str) -> bool:
    """Whether the instructions, or the name of the set, speak of an archive."""
    stem = _stem(archive).lower()
    return f"{stem}." in instructions.lower() or stem == name
