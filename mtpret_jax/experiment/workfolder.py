"""A work folder: it is claimed for a config, its runs are done, then the report.

Interrupted anywhere, the same call resumes: a run that has ended is skipped, one that
has a checkpoint resumes from the newest. Several such calls at a time share the
runs among them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import report
from mtpret_jax.config import budget
from mtpret_jax.data import sources
from mtpret_jax.experiment import locks, pool, precision, schedule, start, workshop
from mtpret_jax.study import external, plan
from mtpret_jax.training import files
from tfds_builders import whole

_LOG = logging.getLogger(__name__)
LAYOUT = 3  # of a work folder; one of another is refused
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def run(
    config: schema.ExperimentConfig,
    workdir: epath.PathLike,
    folders: Mapping[str, epath.PathLike],
    *,
    report_only: bool = False,
    profile: range = range(0),
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Does every run of the config that has not ended, then writes the report.

    Args:
      config: Parsed; with a study, expanded.
      workdir: Folder to write to; see `claim_workdir`.
      folders: Prepared folder of each set.
      report_only: Leaves out the runs, and reports what has ended.
      profile: Which steps of each run are traced; see `tracing.Trace`.
      track: Trackers that are told of every run; see `trackers.TRACKERS`.

    Returns:
      What the report holds; see `report_path`.

    Raises:
      ValueError: If the folder belongs to another config or other data, or parts of
        the config do not fit each other.
      FileNotFoundError: If a set is not prepared, or a start is missing.
    """
    workdir = epath.Path(workdir)
    with locks.alone(workdir / "locks" / "start"):
        _check_layout(workdir)
        findings = pool.find(config, workdir, folders)
        external.check(config, findings)
        shop = workshop.open_workshop(config, workdir, folders, findings)
        files.wait_for_all("read the work folder")
        dtype = shop.config.backbone.compute_dtype
        claim_workdir(
            config, workdir, folders, weights=shop.weights, compute_dtype=dtype
        )
        pool.write(shop)
        schedule.tidy(shop)
    shop = dataclasses.replace(shop, profile=profile, track=track)
    waited = not report_only and schedule.do_all(shop)
    with locks.alone(workdir / "locks" / "report"):
        if waited and _is_reported(shop):
            return whole.read_json(report_path(config, workdir))
        return _report(shop)


def check_place(workdir: epath.Path) -> None:
    r"""Refuses a work folder in whose place checkpoints can't be found again.

    Orbax looks for them by patterns, in which [, ] and \ mean something else.

    Raises:
      ValueError: If the path has such a character.
    """
    path = os.fspath(workdir.resolve())
    if wrong := sorted(set(path) & set("[]\\")):
        raise ValueError(
            f"--workdir: checkpoints in {path} would be lost, since its path has "
            f"{' and '.join(wrong)}. Use another folder."
        )


def _check_layout(workdir: epath.Path) -> None:
    """Raises ValueError if an older version of the package began the work folder."""
    path = workdir / precision.VERSIONS
    if path.exists() and whole.read_json(path).get("layout") != LAYOUT:
        raise ValueError(
            f"{workdir} was begun by another version of mtpret_jax, whose "
            "runs this one can't resume. Use another --workdir."
        )


def check_profile(config: schema.ExperimentConfig, profile: range) -> None:
    """Raises ValueError unless some run of the config gets to the steps to trace."""
    longest = max(budget.count_steps(row) for row in config.runs.values())
    if profile and profile.start >= longest:
        raise ValueError(
            f"--profile={profile.start}:{profile.stop}: no run gets there; the longest "
            f"has {longest} steps."
        )


def report_path(config: schema.ExperimentConfig, workdir: epath.Path) -> epath.Path:
    """The report for machines; beside it is the page, which ends in `.html`."""
    return workdir / ("study.json" if config.study.tasks else "report.json")


def _report(shop: workshop.Workshop) -> dict[str, Any]:
    """Measures what has ended and writes it down."""
    config, workdir = shop.config, shop.workdir
    metrics = {name: task.metric() for name, task in shop.tasks.items()}
    sets = {config.tasks[cell.task].dataset for cell in plan.cells(config)}
    indices = {name: shop.open_set(name, "test").index for name in sets}
    result = report.contents.build(workdir, config, metrics, indices)
    if jax.process_index() != 0:
        return report.contents.plain(result)
    return report.write(report_path(config, workdir), result)


def _is_reported(shop: workshop.Workshop) -> bool:
    """Whether another process has written the report since the last run ended."""
    path = report_path(shop.config, shop.workdir)
    runs = [shop.run_folder(name) / workshop.RECORD for name in shop.config.runs]
    newest = max(os.stat(run).st_mtime_ns for run in runs)
    return path.exists() and os.stat(path).st_mtime_ns > newest


def claim_workdir(
    config: schema.ExperimentConfig,
    workdir: epath.Path,
    folders: Mapping[str, epath.PathLike],
    *,
    weights: Mapping[str, start.Weights] | None = None,
    compute_dtype: str = "float32",
) -> None:
    """Writes config, data and versions into a new folder, or checks a used one.

    Files of weights (`weights`, see `start.check`) are told by their hash. With the
    versions stands what is computed in, which the folder keeps (`precision.settle`).

    Raises:
      ValueError: If the folder holds another config or was made from other data; the
        message shows what differs.
    """
    facts = {"config.json": schema.as_dict(config), "datasets.json": {}}
    for name, folder in folders.items():
        splits = config.datasets[name].splits
        facts["datasets.json"][name] = sources.describe(folder, splits)
    if weights:
        facts["weights.json"] = {
            name: dataclasses.asdict(found) for name, found in weights.items()
        }
    for file, wanted in facts.items():
        wanted = json.loads(json.dumps(wanted))
        path = workdir / file
        if path.exists():
            differing = _differences(whole.read_json(path), wanted, "")
            if differing:
                raise ValueError(
                    f"{path} differs from this call: {'; '.join(differing[:8])}. "
                    "Use another --workdir, or give the same config and data."
                )
        elif jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            whole.write_json(path, wanted)
    path = workdir / precision.VERSIONS
    versions = {"layout": LAYOUT, **_versions(), precision.ENTRY: compute_dtype}
    if not path.exists():
        if jax.process_index() == 0:
            whole.write_json(path, versions)
    elif differing := _differences(whole.read_json(path), versions, ""):
        _LOG.warning("Not as when this folder was begun: %s.", "; ".join(differing))


def _versions() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "mtpret_jax": metadata.version("mtpret_jax"),
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _commit() -> str | None:
    """The commit that the code is of, with "+" if files differ; None outside of git."""
    folder = pathlib.Path(__file__).parents[1]
    command = ("git", "-C", str(folder), "describe", "--always", "--abbrev=40")
    options = ("--dirty=+", "--exclude=*")
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False
        )
    except OSError:  # There is no git.
        return None
    # A folder of packages within somebody else's repository says nothing of this code.
    if done.returncode or not (folder.parent / ".git").exists():
        return None
    return done.stdout.strip()


def _differences(old: Any, new: Any, path: str) -> list[str]:
    """Sentences on where two trees of plain values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            found += _differences(old.get(key), new.get(key), inner)
        if list(old) != list(new) and not found:
            found.append(f"{path}: order was {list(old)}, now {list(new)}")
        return found
    return [] if old == new else [f"{path}: was {old!r}, now {new!r}"]
