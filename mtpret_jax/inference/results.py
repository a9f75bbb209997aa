"""A folder of results that grows file by file and goes on after a stop.

`predictions.jsonl` holds a line for each file, written after everything else of that
file. What is done there is not done again; what was skipped is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import itertools
import json
import logging
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfds_builders import whole
from tfds_builders.sources import cells

SETTINGS, LINES, TABLE = "settings.json", "predictions.jsonl", "predictions.csv"
SKIPPED = "skipped"
_CHECK = "crc32"  # of the rest of a line
_LOG = logging.getLogger(__name__)


class Results:
    """The folder that a command writes to.

    Attributes:
      done: Files that have their line and were not skipped.
    """

    def __init__(self, folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
        """Opens a new folder, or one that the same command began; see `begin`.

        Raises:
          ValueError: If a line is damaged.
        """
        self.folder = folder
        self._lines = folder / LINES
        begin(folder, settings)
        _cut_short(self._lines)
        self.done = {row["file"] for row in self.rows() if row["status"] != SKIPPED}

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the line of a file."""
        with (
            whole.telling(self._lines),
            self._lines.open("a", encoding="utf-8") as file,
        ):
            file.write(_checked(row))

    def settle(self, files: Sequence[str]) -> None:
        """Leaves one line for each file, its last, those of `files` in their order."""
        order = {file: place for place, file in enumerate(files)}
        last = {row["file"]: row for row in self.rows()}
        named = iter(sorted(last.keys() & order.keys(), key=lambda file: order[file]))
        rows = (last[next(named) if file in order else file] for file in last)
        whole.place(self._lines, "".join(map(_checked, rows)).encode())

    def write(self, kind: str, file: str, content: bytes, suffix: str = ".png") -> str:
        """Writes an image that belongs to a file; gives its path in the folder."""
        with whole.telling(self.folder / kind):
            (self.folder / kind).mkdir(exist_ok=True)
        name = f"{kind}/{safe_name(file)}{suffix}"
        whole.place(self.folder / name, content)
        return name

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines that there are.

        Raises:
          ValueError: If one is damaged.
        """
        if not self._lines.exists():
            return
        # Folders from before digests have lines without a checksum.
        old = not (self.folder / whole.SUMS).exists()
        with self._lines.open(encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                    if not row["file"] or not row["status"]:
                        raise ValueError("no file or status")
                    check = row.pop(_CHECK, None)
                    if check != _sum(row) and not (old and check is None):
                        raise ValueError("another checksum")
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{self._lines}, line {number}: damaged. Remove that line, and "
                        "its file is done anew; or give another --out."
                    ) from error
                yield row

    def write_table(
        self,
        columns: Sequence[str],
        name: str = TABLE,
        rows: Callable[[dict[str, Any]], Sequence[Mapping[str, Any]]] = lambda row: [
            row
        ],
    ) -> None:
        """Writes all lines as a table; nested values are joined to `a:b` columns.

        Args:
          columns: Names of the table's columns.
          name: Name of its file.
          rows: Makes the table's rows of a line.
        """
        with whole.placing(self.folder / name) as file:
            # Names of files may hold bytes that are not text.
            text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
            writer = cells.Writer(text)
            writer.writerow(columns)
            for row in itertools.chain.from_iterable(map(rows, self.rows())):
                flat = dict(_flat(row))
                writer.writerow(flat.get(column, "") for column in columns)
            text.detach()


def begin(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Keeps in a new folder what its results depend on; an old one must have the same.

    Args:
      folder: One that is there, within `alone`.
      settings: Plain values.

    Raises:
      FileExistsError: If the folder holds something else.
      ValueError: If its settings are damaged.
    """
    path = folder / SETTINGS
    if not any(folder.iterdir()):
        whole.write_json(path, settings)
        return
    if not path.exists():
        raise FileExistsError(
            f"--out: {folder} is there and was not begun by this command; nothing is "
            "written over. Give another, or remove it."
        )
    then = whole.read_json(path, advice="Give another --out, or remove this folder.")
    now = json.loads(json.dumps(settings))
    differing = [
        f"{name} was {then.get(name)!r}, now {now.get(name)!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if differing:
        raise FileExistsError(
            f"--out: {folder} was begun otherwise: {'; '.join(differing)}. Nothing is "
            "written over: give another folder, or remove this one."
        )


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Within, no other process writes to the folder, which is made if need be.

    Some network file systems know no locks; there nothing is refused.

    Raises:
      FileExistsError: If one does, or there is a file of that name.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(
            f"--out: {folder} is a file, and nothing is written over. Give a folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise FileExistsError(
            f"--out: another process is writing to {folder}. Wait for it, or give "
            "another folder."
        ) from error
    except OSError as error:
        _LOG.info("%s can't be locked (%s): use it from one process.", folder, error)
    try:
        yield
    finally:
        os.close(handle)


def safe_name(file: str) -> str:
    """A name for results of a file: no folders, nothing odd, and no two alike."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", pathlib.PurePath(file).stem)[:80]
    path = os.path.abspath(file).encode(errors="surrogateescape")
    return f"{stem}-{hashlib.sha256(path).hexdigest()[:10]}"


def _cut_short(path: pathlib.Path) -> None:
    """Takes off a line that a kill left without its end."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            file.truncate(end)


def _checked(row: Mapping[str, Any]) -> str:
    """The line of a row, with the checksum by which a changed one is found."""
    return json.dumps({**row, _CHECK: _sum(row)}) + "\n"


def _sum(row: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row).encode()):08x}"


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}:")
        elif isinstance(value, list):
            simple = all(isinstance(each, str) for each in value)
            yield f"{before}{name}", "; ".join(value) if simple else len(value)
        else:
            yield f"{before}{name}", value
