"""What the work folder of a training tells of a run: lineage, sets read, figures."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from tfds_builders import whole

CONFIG, SETS, VERSIONS = "config.json", "datasets.json", "versions.json"
_MADE_OF = ("dataset", "kind", "target")  # is told elsewhere
IMAGES_ALONE = ": images alone"
_AGAIN = "Give the --workdir of a training; copy it again, or do the run again."


def read_config(workdir: epath.PathLike) -> schema.ExperimentConfig:
    """The config of a work folder.

    Raises:
      FileNotFoundError: If there is no such work folder.
      ValueError: If it is damaged.
    """
    workdir = epath.Path(workdir)
    if not (workdir / CONFIG).exists():
        raise FileNotFoundError(
            f"No work folder {os.fspath(workdir)}: it has no {CONFIG}. Give the "
            "--workdir of mtpret_jax.main."
        )
    with reading(workdir / CONFIG) as table:
        return schema.parse(table)


@contextlib.contextmanager
def reading(path: epath.PathLike) -> Iterator[Any]:
    """The table in a JSON file of a work folder, for a body that reads it.

    Raises:
      FileNotFoundError: If it is missing.
      ValueError: If it is damaged, as the body may find, too.
    """
    path = epath.Path(path)
    table = whole.read_json(path, advice=_AGAIN)
    try:
        yield table
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{os.fspath(path)}: damaged ({type(error).__name__}: {error}). {_AGAIN}"
        ) from error


def lineage(config: schema.ExperimentConfig, run: str) -> list[str]:
    """The run and those it started from, itself first."""
    chain = []
    while run in config.runs:
        chain.append(run)
        run = config.runs[run].init_from
    return chain


def purposes(config: schema.ExperimentConfig, run: str) -> dict[str, list[str]]:
    """What each set was read for, by the run and those it started from."""
    found: dict[str, list[str]] = {}
    for name in lineage(config, run):
        row = config.runs[name]
        if not row.tasks:
            for dataset in row.contrastive.datasets:
                found.setdefault(dataset, []).append(f"{name}{IMAGES_ALONE}")
        share = row.label_fraction
        part = "" if share == 1 else f" ({share:.0%} of the labels)"
        for task in row.tasks:
            dataset = config.tasks[task].dataset
            found.setdefault(dataset, []).append(f"{name}: {task}{part}")
    return found


def recipe(config: schema.ExperimentConfig, run: str) -> dict[str, Any]:
    """What is not default of a run's recipe and of its tasks, by the names of options.

    Tables of heads and of augmentation are left out.
    """
    row = config.runs[run]
    tables = [("", row.recipe, schema.RunConfig(stage=row.stage).recipe)]
    tables += [
        (f"tasks.{name}.", vars(config.tasks[name]), vars(schema.TaskConfig()))
        for name in row.tasks
    ]
    return {
        f"{table}{name}": value
        for table, options, default in tables
        for name, value in options.items()
        if value != default[name]
        and name not in _MADE_OF
        and not dataclasses.is_dataclass(value)
    }


def measured(workdir: pathlib.Path, run: str) -> dict[str, Any]:
    """What the report of the work folder says of a run; only `file` if nothing."""
    files = [f for f in ("study.json", "report.json") if (workdir / f).exists()]
    for file in files[:1]:
        with reading(workdir / file) as report:
            tasks = report["tasks"]
            for cell in report.get("cells", ()):  # None in those of earlier versions.
                by_share = report["values"].get(cell["task"], {})
                values = by_share.get(f"{cell['fraction']:g}", {}).get(cell["arm"])
                if cell["run"] == run and values:
                    return {
                        **{"file": file, "cell": cell, "values": values},
                        "task": tasks[cell["task"]],
                        "split": report["split"],
                        "resamples": report["interval"]["resamples"],
                    }
            return {"file": file, "values": {}}
    return {"file": ""}
