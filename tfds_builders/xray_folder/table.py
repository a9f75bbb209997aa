"""The table of a folder of X-rays: rows, labels, splits, groups; opens no image."""

from __future__ import annotations

import collections
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfds_builders import xray_features
from tfds_builders.sources import files, identities, readings, splits, tables
from tfds_builders.xray_folder import configuration

_SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_GROUP_COLUMNS = ("group", "patient", "patient_id")
_ALONE = "image:"  # before the name of an image whose patient is not known
_FEW = 20  # values of a column that splits can share alike
_MANY = 20  # different numbers, above which they were measured rather than named
_LARGEST = float(np.finfo(np.float32).max)
_MEASURED = (
    "look like numbers that were measured. Name the column in `values` and learn it by "
    "a task of kind 'regression', or make classes of ranges: {'0 to 9': [0, 1, ...]}."
)


_READ_ABOUT: Mapping[str, Callable[[str, str], Any]] = {
    "age": readings.read_age,
    "sex": readings.read_sex,
}


def require_column(column: str, columns: Sequence[str], option: str, name: str) -> None:
    """Refuses a column that the table does not have, listing those it has."""
    if column not in columns:
        raise ValueError(
            f"{name} has no column {column!r}, which option `{option}` names. Its "
            f"columns: {files.brief(columns, 40)}.{files.nearest(column, columns)}"
        )


def labels(
    config: configuration.XrayFolderConfig, column: str, cells: Sequence[str]
) -> np.ndarray:
    """Codes the cells of one label column.

    Returns:
      int8 [len(cells), L]: 1 for the classes that a cell names, else 0; -1 throughout
      where the cell is unknown.

    Raises:
      ValueError: If a value belongs to no class and is not unknown; lists them all.
    """
    classes = config.classes_of(column)
    index = {v: i for i, values in enumerate(classes.values()) for v in values}
    is_multi = column in config.multi_label
    coded = np.zeros((len(cells), len(classes)), np.int8)
    strangers: collections.Counter[str] = collections.Counter()
    for row, cell in enumerate(cells):
        values = (
            [v.strip() for v in cell.split(config.separator)] if is_multi else [cell]
        )
        values = [value for value in values if value]
        if not values or any(value in config.unknown for value in values):
            coded[row] = xray_features.UNKNOWN_LABEL
            continue
        for value in values:
            if value in index:
                coded[row, index[value]] = 1
            elif not (is_multi and value in config.negative):
                strangers[value] += 1
    if _are_measured(classes):
        logging.getLogger(__name__).warning(
            "Column %r of %s: its %d classes %s",
            column,
            config.table,
            len(classes),
            _MEASURED,
        )
    if strangers:
        advice = ", `negative`" if is_multi else ""
        raise ValueError(
            f"Column {column!r} of {config.table} holds values that are in no class: "
            f"{files.brief(f'{v!r} ({n} rows)' for v, n in strangers.most_common())}. "
            f"Classes: {classes}. Put each into a class of "
            f"`labels`{advice} or `unknown`."
            f"{f' They {_MEASURED}' if _are_measured(strangers) else ''}"
        )
    return coded


def values(
    config: configuration.XrayFolderConfig, column: str, rows: tables.Rows
) -> np.ndarray:
    """The numbers of a value column, float32 [rows]; not a number where unknown.

    Raises:
      ValueError: If a cell holds something else; names its row.
    """
    found = np.full(len(rows), np.nan, np.float32)
    for place, row in enumerate(rows):
        if row[column] and row[column] not in config.unknown:
            where = f"{config.table}: {row[config.file_column]!r}, {column}"
            if not _is_number(row[column]):
                raise ValueError(f"{where}: expected a number, got {row[column]!r}.")
            found[place] = float(row[column])
    return found


def _are_measured(values: Iterable[str]) -> bool:
    """Whether there are many different numbers among the values."""
    return sum(map(_is_number, set(values))) > _MANY


def _is_number(text: str) -> bool:
    """Whether it is a number that float32 holds; Python's "1_000" is none."""
    try:
        return "_" not in text and abs(float(text)) <= _LARGEST
    except ValueError:
        return False


def about(
    config: configuration.XrayFolderConfig,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> list[xray_features.About]:
    """What the option `about` asks for of each row; empty cells are unknown.

    Raises:
      ValueError: If a column is missing, or a cell holds no age or sex.
    """
    for column in config.about.values():
        require_column(column, columns, "about", config.table)
    found = []
    for row in rows:
        told: dict[str, Any] = {}
        for name, column in config.about.items():
            where = f"{config.table}: {row[config.file_column]!r}, {column}"
            read = _READ_ABOUT.get(name)
            told[name] = read(row[column], where) if read else row[column]
        found.append(xray_features.About(**told))
    return found


def spacings(
    config: configuration.XrayFolderConfig,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> list[float]:
    """Millimetres of a pixel of each row's file; NaN where unknown, or so called.

    Raises:
      ValueError: If the column is missing, or a cell holds no number above 0.
    """
    column = config.spacing_column
    if not column:
        return [math.nan] * len(rows)
    require_column(column, columns, "spacing_column", config.table)
    found = [math.nan] * len(rows)
    for place, row in enumerate(rows):
        if row[column] and row[column] not in config.unknown:
            # Above 0 in float32, too.
            if not (_is_number(row[column]) and np.float32(float(row[column])) > 0):
                raise ValueError(
                    f"{config.table}: {row[config.file_column]!r}, {column}: expected "
                    f"millimetres of a pixel, above 0; got {row[column]!r}."
                )
            found[place] = float(row[column])
    return found


def groups(
    config: configuration.XrayFolderConfig,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    ids: Sequence[str],
) -> list[str]:
    """Returns the group of each image; its own, with a warning, where none is known."""
    column = config.group_column
    if column:
        require_column(column, columns, "group_column", config.table)
    else:
        column = next((name for name in _GROUP_COLUMNS if name in columns), "")
    found = [row.get(column, "") for row in rows]
    alone = sum(not group for group in found)
    if alone:
        logging.getLogger(__name__).warning(
            "xray_folder %r: %d of %d images have no patient or group (%s) and are "
            "taken for patients of their own. If some show the same patient, name "
            "them in `group_column`.",
            config.name,
            alone,
            len(found),
            f"column {column!r} is empty" if column else "no such column",
        )
    return [group or f"{_ALONE}{name}" for group, name in zip(found, ids, strict=True)]


def unified(
    config: configuration.XrayFolderConfig, written: Sequence[str]
) -> list[str]:
    """Groups with one spelling each, unless option `exact_groups` says they differ.

    Of several ways to write an id, see `identities`, the first by the alphabet stands
    for all, so that a table with one way for each keeps its groups and splits.
    """
    if config.exact_groups:
        return list(written)
    known = [group for group in written if not group.startswith(_ALONE)]
    ways = identities.spellings(known)
    twice = [names for names in ways.values() if len(names) > 1]
    if twice:
        logging.getLogger(__name__).warning(
            "xray_folder %r: %d groups are written in more than one way, for example "
            "%s, and are taken for one each. If they are different patients, set "
            "`exact_groups`.",
            config.name,
            len(twice),
            files.brief((_ways(names) for names in twice), 2),
        )
    stands = {name: names[0] for names in ways.values() for name in names}
    return [stands.get(group, group) for group in written]


def _ways(names: Sequence[str]) -> str:
    return " = ".join(map(repr, names))


def named(config: configuration.XrayFolderConfig, groups: Sequence[str]) -> list[str]:
    """The groups with option `patients` before them, but for images on their own."""
    if not config.patients:
        return list(groups)
    return [
        group if group.startswith(_ALONE) else f"{config.patients}:{group}"
        for group in groups
    ]


def strata(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What splits should share alike: all columns with few values, such as a diagnosis.

    No option plays a part, so that two sets made from one folder with other labels
    share its images out alike.
    """
    most = min(_FEW, len(rows) // 2)
    few = [c for c in columns if 2 <= len({row[c] for row in rows}) <= most]
    return ["|".join(row[column] for column in few) for row in rows]


def assign_splits(
    config: configuration.XrayFolderConfig,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    ids: Sequence[str],
    group_of: Sequence[str],
    written: Sequence[str],
) -> list[str]:
    """Returns the split of each image: the table's, else shared out by group.

    `group_of` are the groups, `written` the same as the table has them.

    How images are shared out depends on the table, the groups and `split_seed`, not on
    the configuration's name or labels, nor on where the folder lies.

    Raises:
      ValueError: If a value names no split, or a group crosses splits.
    """
    column = config.split_column
    if column:
        require_column(column, columns, "split_column", config.table)
    elif "split" in columns:
        column = "split"
    if not column:
        alike = strata(columns, rows)
        shares = splits.grouped(
            ids, group_of, alike, seed=config.split_seed, name="xray_folder"
        )
        split_of = {i: split for split, found in shares.items() for i in found}
        return [split_of[i] for i in ids]
    values = [row[column] for row in rows]
    strangers = collections.Counter(v for v in values if v.lower() not in _SPLITS)
    if strangers:
        seen = files.brief(f"{v!r} ({n} rows)" for v, n in strangers.most_common())
        raise ValueError(
            f"Column {column!r} of {config.table} holds values that name no split: "
            f"{seen}. Use {', '.join(_SPLITS)}."
        )
    found = [_SPLITS[value.lower()] for value in values]
    where: dict[str, set[str]] = {}
    for group, split in zip(group_of, found, strict=True):
        where.setdefault(group, set()).add(split)
    crossing = sorted(group for group, places in where.items() if len(places) > 1)
    if crossing:
        ways: dict[str, set[str]] = {}
        for group, spelling in zip(group_of, written, strict=True):
            ways.setdefault(group, set()).add(spelling)
        told = [_ways(sorted(ways[group])) for group in crossing]
        many = any(len(ways[group]) > 1 for group in crossing)
        differ = " If these ids are of different patients, set `exact_groups`."
        raise ValueError(
            f"{config.table}: {len(crossing)} groups cross splits, so that the test "
            f"would not be of unseen patients: {files.brief(told, 5)}. Correct "
            f"column {column!r}, or remove it to have the images shared out by group."
            f"{differ if many else ''}"
        )
    return found
