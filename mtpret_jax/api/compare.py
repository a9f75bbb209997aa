"""A comparison of encoders, called from Python."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.api import places
from mtpret_jax.comparison import encoders as encoders_lib
from mtpret_jax.comparison import findings, gather, judge, page, sentences, sets
from mtpret_jax.report import contents

_LOG = logging.getLogger(__name__)


def compare(
    config: places.Config,
    encoders: Mapping[str, places.PathLike],
    out: places.PathLike,
    data_dir: places.PathLike = places.DATA_DIR,
    *,
    tasks: Sequence[str] = (),
    training_lists: Mapping[str, places.PathLike] | None = None,
    fractions: Sequence[float] = (0.1, 0.3, 1.0),
    resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Judges encoders by their frozen features on the class tasks of a config.

    Args:
      config: A `ConfigDict` or a parsed one, as `train` takes it.
      encoders: Path of each by name: a run, its backbone folder, an exported folder,
        or a table of features. The others are compared with the first.
      out: Folder for the page and the features, which a second call reads again.
      data_dir: Folder of the prepared sets.
      tasks: Rows of `config.tasks`; () is all.
      training_lists: Files by encoder: the images that it learnt from, one a line.
      fractions: Shares of the labels, in (0, 1].
      resamples: Draws of patients for each interval.
      seed: Decides all draws.
      progress: Is told a line for each step, and what may be said in the end.

    Returns:
      What `compare.json` holds.

    Raises:
      ValueError: If a task or an encoder is not what it must be.
      FileNotFoundError: If a set is not prepared.
    """
    settings = judge.Settings(judge.shares(fractions), seed, resamples)
    parsed = places.parse(config)
    chosen = sets.choose(parsed, tasks)
    place, root = places.path(out), places.path(data_dir)
    opened = encoders_lib.open_all(
        {name: places.path(path) for name, path in encoders.items()},
        {name: places.path(path) for name, path in (training_lists or {}).items()},
        kept=place / "features",
        data_dir=root,
    )
    read = [sets.read(parsed, name, root) for name in chosen]
    found = gather.build(
        read,
        opened,
        settings,
        datasets=list(parsed.datasets),
        left_out=_not_probed(parsed),
        progress=progress,
    )
    _write(place, found, progress)
    return contents.plain(found)


def _not_probed(config: schema.ExperimentConfig) -> dict[str, str]:
    """Tasks that frozen features are not judged on, and their kinds."""
    return {
        name: row.kind for name, row in config.tasks.items() if not row.can_be_probed
    }


def _write(
    place: pathlib.Path, found: findings.Findings, progress: Callable[[str], None]
) -> None:
    """Writes the files, and tells of them and of encoders that saw a test split."""
    page.write(place, found)
    for name in found.encoders:
        _warn(name, found)
    for line in [*found.said, f"Written to {place / page.HTML}."]:
        progress(line)


def _warn(name: str, found: findings.Findings) -> None:
    """One line where an encoder is known to have seen a test split."""
    told = [
        f"{sentences.seen(leaks[name])} of task '{task}'"
        for task, leaks in found.leaks.items()
        if name in leaks and leaks[name].found
    ]
    if told:
        _LOG.warning(
            "Warning: encoder '%s' learnt from %s. Its values there say nothing of "
            "new patients, and nothing is said of them.",
            name,
            "; ".join(told),
        )
