"""What is told beside files, such as a sex: one class for all, or a table of them."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

from mtpret_jax.inference import model as model_lib
from tfds_builders.sources import tables

FILE = "file"  # the column that names an image


@dataclasses.dataclass(frozen=True)
class Told:
    """What is told beside files.

    Attributes:
      places: Index of the class, by path; of others nothing is known.
      source: What was said: a class, or the SHA-256 of a table; "" for nothing.
    """

    places: Mapping[str, int] = dataclasses.field(default_factory=dict)
    source: str = ""


NOTHING = Told()


def of_all(model: model_lib.Model, files: Sequence[str], name: str) -> Told:
    """The same class for every file; nothing for "".

    Raises:
      ValueError: If the model knows no such class.
    """
    place = model.second_place(name, "--second_input")
    return Told(dict.fromkeys(files, place), name) if name else NOTHING


def of_table(model: model_lib.Model, files: Sequence[str], path: pathlib.Path) -> Told:
    """The class that a table has for each file; files that it lacks are not known.

    Args:
      model: One that can be told something.
      files: Paths.
      path: A table with the columns `file`, as much of the end of a path as tells files
        apart, and the one that the model learnt from; an empty cell is not known.

    Raises:
      ValueError: If a column is missing, a cell names no class, a row fits several
        files, or two rows tell different classes of one.
    """
    option = f"--second_table: {path}"
    if not model.second:
        model.second_place("a table", "--second_table")  # Refuses it.
    column = model.description.tasks[model.task].second_input
    content = path.read_bytes()
    columns, rows = tables.parse(content, option)
    tables.require(columns, [FILE, column], option)
    by_name: dict[str, list[pathlib.PurePath]] = collections.defaultdict(list)
    for file in files:
        by_name[pathlib.PurePath(file).name].append(pathlib.PurePath(file))
    found: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        wanted = pathlib.PurePath(row[FILE])
        fitting = [
            file
            for file in by_name.get(wanted.name, ())
            if file.parts[-len(wanted.parts) :] == wanted.parts
        ]
        if len(fitting) > 1:
            raise ValueError(
                f"{option}, row {number}: {row[FILE]!r} fits {len(fitting)} files, for "
                f"example {str(fitting[0])!r} and {str(fitting[1])!r}. Name the "
                "folder, too."
            )
        place = model.second_place(row[column], f"{option}, row {number}")
        for file in map(str, fitting):
            if found.setdefault(file, place) != place:
                raise ValueError(
                    f"{option}, row {number}: {file!r} has another {column!r} in an "
                    "earlier row. Keep the right one."
                )
    return Told(found, hashlib.sha256(content).hexdigest())
