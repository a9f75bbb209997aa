"""Lists of the images that encoders learnt from, held against test splits.

A list is text with a name of an image a line: its image_id, with or without
`<dataset>/` before it, or a path of its file. Or it is a CSV with the columns `dataset`
and `image_id`, as `training.csv` of an export, in which names of sets must agree.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Sequence

from mtpret_jax.comparison import sets, tables
from mtpret_jax.config import budget
from mtpret_jax.exports import training, training_images
from tfds_builders.sources import cells

_CSV = "dataset,image_id"
TRAINING = "training.csv"  # in an exported folder


@dataclasses.dataclass(frozen=True)
class List:
    """Images that an encoder learnt from.

    Attributes:
      names: What they are called.
      are_exact: Whether each is `<dataset>/<image_id>` and nothing else.
    """

    names: Sequence[str]
    are_exact: bool


@dataclasses.dataclass(frozen=True)
class Leak:
    """What a list holds of a set.

    Attributes:
      named: Images of the set, of any split.
      images: Images of the test split.
      groups: Groups (patients) of the test split of which it holds an image.
    """

    named: int
    images: int
    groups: int

    @property
    def found(self) -> bool:
        """Whether the test split was seen."""
        return self.groups > 0


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What the work folder of a run tells of it.

    Attributes:
      listed: The images that it and those before it learnt from; None where the sets
        are not there to tell.
      why: Why there is none, else "".
      updates: Optimiser steps, of those before it, too.
      seen: Pictures that went through them in training.
    """

    listed: List | None
    why: str
    updates: int | None
    seen: int | None


def parse(text: str, where: str) -> List:
    """Reads a list.

    Raises:
      ValueError: If it is empty; begins with `where`.
    """
    text = text.removeprefix("\ufeff")
    if text.startswith(_CSV):
        rows = cells.rows(text)
        names = [f"{row['dataset']}/{row['image_id']}" for row in rows]
        return _whole(List(list(dict.fromkeys(names)), are_exact=True), where)
    lines = (line.strip() for line in text.splitlines())
    names = list(dict.fromkeys(line for line in lines if line))
    return _whole(List(names, are_exact=False), where)


def _whole(found: List, where: str) -> List:
    if not found.names:
        raise ValueError(
            f"{where}: the list is empty; give a name of an image a line, or leave the "
            "option out where the training images are not known."
        )
    return found


def of_run(path: pathlib.Path, data_dir: pathlib.Path) -> Lineage | None:
    """What the work folder around a run's folder tells; None where there is none.

    Args:
      path: Folder of a run, or its `backbone`.
      data_dir: Folder of the prepared sets that it learnt from.

    Raises:
      ValueError: If the work folder is damaged.
    """
    folder = path.parent if path.name == "backbone" else path
    workdir = folder.parent.parent
    if folder.parent.name != "runs" or not (workdir / training.CONFIG).exists():
        return None
    config = training.read_config(workdir)
    if folder.name not in config.runs:
        return None
    start = config.runs[training.lineage(config, folder.name)[-1]].init_from
    cost = None if start else budget.compute(config, folder.name)
    updates, seen = (cost.updates, cost.images) if cost else (None, None)
    try:
        text = training_images.table(workdir, folder.name, data_dir)
    except (FileNotFoundError, ValueError) as error:
        return Lineage(None, str(error), updates, seen)
    found = parse(text, str(workdir))
    if start:
        why = f"it started from '{start}', whose training images are not known"
        return Lineage(found, why, updates, seen)
    return Lineage(found, "", updates, seen)


def against(listed: Sequence[List], task: sets.Task, datasets: Collection[str]) -> Leak:
    """Counts what lists hold of a task's set and of its test split.

    Args:
      listed: The lists of one encoder.
      task: The task.
      datasets: Names of all sets; a line that begins with another's is not of this.
    """
    dataset, test = task.row.dataset, task.splits["test"]
    others = {*datasets} - {dataset}
    seen = {x for each in listed for x in _named(each, dataset, task.owners, others)}
    owners = {task.owners[name] for name in seen}
    groups = set(test.groups.tolist())
    return Leak(len(seen), len(seen & {*test.image_ids}), len(owners & groups))


def _named(
    listed: List, dataset: str, ids: Collection[str], others: Collection[str]
) -> Iterable[str]:
    """The images of a set that the list names."""
    if listed.are_exact:
        whole = {f"{dataset}/{name}": name for name in ids}
        yield from (whole[name] for name in listed.names if name in whole)
        return
    # A file's name alone tells an image where no other of the set has it.
    known: dict[str, str] = {}
    shared: set[str] = set()
    for name in ids:
        for tail in tables.tails(name):
            if known.setdefault(tail, name) != name:
                shared.add(tail)
    for tail in shared - {*ids}:
        del known[tail]
    known |= {name: name for name in ids}
    for name in listed.names:
        if name.partition("/")[0] not in others:
            yield from (known[x] for x in tables.tails(name) if x in known)
