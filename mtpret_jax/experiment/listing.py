"""What lies in work folders, read from their small files alone: no JAX, no config file.

A work folder that is damaged, or of another version, is a row that says so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mtpret_jax import config as schema

DONE, BEGUN, WAITING, DAMAGED = "done", "begun", "waiting", "damaged"
_DEPTH = 3  # of work folders below the one that is named
_LAYOUT = 3  # see `workfolder.LAYOUT`
_TAIL = 4096  # bytes from the end of metrics.jsonl, more than a line has


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A run of a work folder, or a work folder that can't be read.

    Attributes:
      workdir: The work folder.
      run: Name of the run; "" where the folder can't be read.
      state: DONE, BEGUN (has steps, no result), WAITING, or DAMAGED.
      why: What is wrong with it; "" unless damaged.
      stage: Its stage.
      arm: Row of the report that it belongs to.
      task: Tasks that it trains with labels, joined by commas.
      seed: Its own seed.
      steps: Optimiser steps that were done.
      of: Optimiser steps of the whole run.
      metric: Name of `value`; "" where there is none.
      value: Value of the state that was kept, on validation; None without one.
      higher_is_better: Whether a higher value is the better one; None as above.
      validation: For each task the digest of its validation images.
      seconds: Seconds that its last process trained; None until it is done.
      changed: When its newest file was written, seconds since 1970; 0 without one.
    """

    workdir: str
    run: str = ""
    state: str = WAITING
    why: str = ""
    stage: str = ""
    arm: str = ""
    task: str = ""
    seed: int = 0
    steps: int = 0
    of: int = 0
    metric: str = ""
    value: float | None = None
    higher_is_better: bool | None = None
    validation: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    changed: float = 0.0


def find(places: Iterable[str | os.PathLike[str]]) -> list[pathlib.Path]:
    """The work folders that are named, or lie at most three folders below.

    Raises:
      FileNotFoundError: If a place is not there, or there is none in it.
    """
    found: list[pathlib.Path] = []
    for place in map(pathlib.Path, places):
        place = place.expanduser()
        if not place.is_dir():
            raise FileNotFoundError(f"{place}: no such folder.")
        below = list(_below(place, _DEPTH))
        if not below:
            raise FileNotFoundError(
                f"{place}: no work folder (one with config.json and runs/) in it, nor "
                f"up to {_DEPTH} folders below."
            )
        found += below
    return list(dict.fromkeys(found))


def rows(workdir: pathlib.Path) -> list[Row]:
    """Its runs in the order of the config, or a row that says what is wrong."""
    where = str(workdir)
    try:
        config = _json(workdir / "config.json")
        layout = _json(workdir / "versions.json").get("layout")
        if layout != _LAYOUT:
            raise ValueError("of another version of mtpret_jax")
        return [
            _row(workdir, name, row, config) for name, row in config["runs"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [Row(workdir=where, state=DAMAGED, why=_reason(error))]


def best(found: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Ended runs by task, metric and validation images, the best first.

    Values on other images are no rivals, so work folders whose tasks have the same name
    and other images stand apart. Tests have no say.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in found:
        if row.state == DONE and row.value is not None and row.metric:
            digest = row.validation.get(row.task, "")
            groups.setdefault((row.task, row.metric, digest), []).append(row)
    for rivals in groups.values():
        rivals.sort(key=lambda row: -_score(row))
    return groups


@dataclasses.dataclass(frozen=True)
class Told:
    """A run in full.

    Attributes:
      row: Its row of the list.
      options: The options that decide it, by path, without those at their default.
      versions: What it was begun with.
      tests: Values on the test split, by name: value, low and high; of its arm, so
        with several seeds their mean.
      files: Its folder, and the report.
    """

    row: Row
    options: Mapping[str, Any]
    versions: Mapping[str, Any]
    tests: Mapping[str, tuple[float | None, float | None, float | None]]
    files: Mapping[str, str]


def tell(run: str | os.PathLike[str]) -> Told:
    """Everything on a run, by its folder `WORKDIR/runs/NAME`.

    Raises:
      FileNotFoundError: If there is no such run.
      ValueError: If its work folder is damaged or of another version.
    """
    folder = pathlib.Path(run).expanduser()
    workdir = folder.parent.parent
    if folder.parent.name != "runs" or not (workdir / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no run. Give the folder of one: WORKDIR/runs/NAME."
        )
    found = {row.run: row for row in rows(workdir)}
    if damaged := found.get(""):
        raise ValueError(f"{workdir}: {damaged.why}.")
    if folder.name not in found:
        raise FileNotFoundError(
            f"{workdir} has no run '{folder.name}'; it has {', '.join(found)}."
        )
    row, files = found[folder.name], {"run": str(folder)}
    tests: dict[str, tuple[float | None, float | None, float | None]] = {}
    for name in ("report", "study"):
        if (workdir / f"{name}.json").is_file():
            files["report"] = str(workdir / f"{name}.html")
            tests = _tests(_json(workdir / f"{name}.json"), row)
    return Told(
        row, _options(workdir, row), _json(workdir / "versions.json"), tests, files
    )


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Entries that two tables do not share, with both values, None where missing."""
    return {
        name: [one.get(name), two.get(name)]
        for name in dict.fromkeys([*one, *two])
        if one.get(name) != two.get(name)
    }


def _below(folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
    """Work folders in the order of their names; none within another."""
    if (folder / "config.json").is_file() and (folder / "runs").is_dir():
        yield folder
    elif depth:
        with os.scandir(folder) as inside:
            names = sorted(each.name for each in inside if each.is_dir())
        for name in names:
            yield from _below(folder / name, depth - 1)


def _row(
    workdir: pathlib.Path, name: str, row: Mapping[str, Any], config: Mapping[str, Any]
) -> Row:
    """What a run's files say."""
    folder = workdir / "runs" / name
    options = row[row["stage"]]
    trained = options.get("tasks") or filter(None, [options.get("task")])
    known: dict[str, Any] = dict(
        workdir=str(workdir), run=name, stage=row["stage"], arm=row["arm"]
    )
    known |= dict(task=",".join(trained), of=row["steps"])
    known["seed"] = config["seed"] if row["seed"] < 0 else row["seed"]
    record, log = folder / "run.json", folder / "metrics.jsonl"
    try:
        if record.is_file():
            return Row(**known, **_ended(_json(record)), changed=record.stat().st_mtime)
        if log.is_file():
            known |= dict(state=BEGUN, steps=_last_step(log))
            return Row(**known, changed=log.stat().st_mtime)
        return Row(**known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Row(**known, state=DAMAGED, why=_reason(error))


def _ended(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of a run says."""
    labels: Mapping[str, Any] = record["labels"]
    return dict(
        state=DONE,
        steps=record["steps"],
        seconds=record["seconds"],
        metric=record.get("metric") or "",
        value=record.get("best_value"),
        higher_is_better=record.get("higher_is_better"),
        validation={
            task: splits["validation"]["sha256"]
            for task, splits in labels.items()
            if "validation" in splits
        },
    )


def _score(row: Row) -> float:
    """Its value, such that more is better."""
    value = row.value if row.value is not None else float("-inf")
    return value if row.higher_is_better is not False else -value


def _last_step(log: pathlib.Path) -> int:
    """The step of the last whole line."""
    with log.open("rb") as file:
        file.seek(max(0, os.stat(log).st_size - _TAIL))
        lines = file.read().split(b"\n")[:-1]  # What follows is not written yet.
    return json.loads(lines[-1])["step"] if lines else 0


def _options(workdir: pathlib.Path, row: Row) -> dict[str, Any]:
    """Options by path that differ from their defaults: of the run and what it uses."""
    config = _json(workdir / "config.json")
    plain = schema.defaults().to_dict()
    changed = {"seed": config["seed"]}
    for part in ("input", "backbone"):
        changed |= _changed(part, config[part], plain[part])
    own = config["runs"][row.run]
    changed |= _changed("run", own, schema.run(stage=own["stage"]).to_dict())
    for name in filter(None, row.task.split(",")):
        task = config["tasks"][name]
        usual = schema.task(kind=task["kind"]).to_dict()
        changed |= _changed(f"tasks.{name}", task, usual)
        source, none = task["dataset"], schema.dataset("").to_dict()
        changed |= _changed(f"datasets.{source}", config["datasets"][source], none)
    return changed


def _changed(path: str, value: Any, usual: Any) -> dict[str, Any]:
    """Leaves of a table that differ from another's, by path."""
    if isinstance(value, Mapping) and isinstance(usual, Mapping):
        found: dict[str, Any] = {}
        for name, part in value.items():
            # Options of a set have no defaults here, nor have tables of the user's.
            like = usual.get(name, {} if isinstance(part, Mapping) else None)
            found |= _changed(f"{path}.{name}", part, like)
        return found
    if isinstance(usual, tuple):
        usual = list(usual)
    return {} if value == usual else {path: value}


def _tests(
    report: Mapping[str, Any], row: Row
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Values of the run's arm on its task, from the report."""
    for cell in report["cells"]:
        if cell["run"] == row.run:
            shares = report["values"].get(cell["task"], {})
            values = shares.get(f"{cell['fraction']:g}", {}).get(cell["arm"], {})
            return {
                name: (one["value"], one["low"], one["high"])
                for name, one in values.items()
            }
    return {}


def _json(path: pathlib.Path) -> Any:
    """A small file's content."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error


def _reason(error: Exception) -> str:
    """Why a folder can't be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return f"{pathlib.Path(error.filename).name} is missing"
    if isinstance(error, KeyError):
        return f"an entry is missing: {error}"
    return str(error)
