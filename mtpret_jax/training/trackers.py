"""Weights & Biases and MLflow beside `metrics.jsonl`: what a run tells them, and how.

A tracker only listens: whatever goes wrong in one is a warning, after which the run
goes on without it. Each run keeps its trackers' names of it in `trackers.json`, so that
a resumed run goes on under the same one.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from etils import epath

from tfds_builders import whole

_LOG = logging.getLogger(__name__)
_KEPT = "trackers.json"
PROJECT = "mtpret_jax"


class Tracker(Protocol):
    """Where scalars go."""

    identity: str

    def add(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self, *, ended: bool) -> None: ...


class WandbTracker:
    """A run of Weights & Biases; without a network unless WANDB_MODE says otherwise."""

    def __init__(
        self, folder: epath.Path, identity: str, options: Mapping[str, Any]
    ) -> None:
        """Opens the run, again where `identity` is not ""; see `open_all`."""
        wandb = importlib.import_module("wandb")
        self.identity = identity or uuid.uuid4().hex
        workdir = folder.parent.parent
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.identity,
            name=folder.name,
            group=workdir.name,
            dir=os.fspath(workdir),
            config=dict(options),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds values of a step."""
        self._run.log(dict(scalars), step=step)

    def close(self, *, ended: bool) -> None:
        """Ends the run, as failed if it was stopped before its end."""
        self._run.finish(exit_code=0 if ended else 1)


class MlflowTracker:
    """A run of MLflow, in the store that MLFLOW_TRACKING_URI names, else mlflow.db."""

    def __init__(
        self, folder: epath.Path, identity: str, options: Mapping[str, Any]
    ) -> None:
        """Opens the run, again where `identity` is not ""; see `open_all`."""
        workdir = folder.parent.parent
        store = os.fspath((workdir / "mlflow.db").resolve())
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store}"
        self._client = importlib.import_module("mlflow").MlflowClient(uri)
        self._metric = importlib.import_module("mlflow.entities").Metric
        if identity:
            self._client.set_terminated(identity, "RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            made = self._client.create_run(
                known.experiment_id if known else self._client.create_experiment(name),
                run_name=f"{workdir.name}/{folder.name}",
            )
            identity = made.info.run_id
            for option, value in options.items():
                self._client.log_param(identity, option, value)
        self.identity = identity

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds values of a step."""
        now = int(time.time() * 1000)
        metrics = [self._metric(*pair, now, step) for pair in scalars.items()]
        self._client.log_batch(self.identity, metrics)

    def close(self, *, ended: bool) -> None:
        """Ends the run, as killed if it was stopped before its end."""
        self._client.set_terminated(self.identity, "FINISHED" if ended else "KILLED")


TRACKERS: dict[str, Callable[[epath.Path, str, Mapping[str, Any]], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


def check(names: Sequence[str]) -> None:
    """Looks whether trackers can be used, before anything is begun.

    Raises:
      ValueError: If one is not known.
      ModuleNotFoundError: If its library is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"--track: '{name}' is none of {', '.join(TRACKERS)}.")
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ModuleNotFoundError(
                f"--track={name} needs the library: pip install 'mtpret_jax[{name}]' "
                f"({error})."
            ) from error


class Trackers:
    """Those of a run that still listen."""

    def __init__(
        self, names: Sequence[str], folder: epath.Path, options: Mapping[str, Any]
    ) -> None:
        """Opens them.

        Args:
          names: Keys of TRACKERS.
          folder: The run's folder in its work folder.
          options: What is told of the run's config: tables within tables.
        """
        self._name, self._open = folder.name, dict[str, Tracker]()
        if not names:
            return
        path = folder / _KEPT
        kept = whole.read_json(path) if path.exists() else {}
        for name in names:
            known = kept.get(name, "")
            begin = functools.partial(self._begin, name, folder, known, options)
            self._try(name, begin)
        kept |= {name: each.identity for name, each in self._open.items()}
        whole.write_json(path, kept)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Tells them values of a step."""
        for name, each in list(self._open.items()):
            self._try(name, functools.partial(each.add, step, scalars))

    def close(self, *, ended: bool) -> None:
        """Ends them; `ended` says whether the run did its last step."""
        for name, each in list(self._open.items()):
            self._try(name, functools.partial(each.close, ended=ended))
        self._open.clear()

    def _begin(
        self, name: str, folder: epath.Path, known: str, options: Mapping[str, Any]
    ) -> None:
        self._open[name] = TRACKERS[name](folder, known, flat(options))

    def _try(self, name: str, call: Callable[[], None]) -> None:
        """Calls; a failure ends the tracker, not the run."""
        try:
            call()
        except Exception as error:
            self._open.pop(name, None)
            _LOG.warning(
                "%s: %s failed, and is told no more of this run: %s",
                self._name,
                name,
                error,
            )


def flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of tables within tables, by their path with dots."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found
