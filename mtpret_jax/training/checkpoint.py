"""Saves and resumes a run; saves and loads a backbone with its own description."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy
from orbax.checkpoint.path import atomicity

from mtpret_jax import types
from mtpret_jax.training import files, sharding, trees
from tfds_builders import whole

METADATA = "backbone.json"
_OF_RUNS = f"runs/*/backbone/{METADATA}"  # in a work folder
_LOG = logging.getLogger(__name__)
_AGAIN = "Copy the folder again, or do the run again."


class _Manager(ocp.CheckpointManager):
    """Orbax's, which saves when it is told to."""

    def reached_preemption(self, step: int) -> bool:
        """Never: asking JAX here would disturb the count of `preemption.is_asked`."""
        return False


class _Sealed(atomicity.AtomicRenameTemporaryPath):
    """A state that is on disk before it gets its name, and then its digests.

    Orbax deletes an older one after both.
    """

    async def finalize(self, *arguments: Any, **options: Any) -> None:
        """Calls Orbax's in between."""
        whole.sync(self.get())
        await super().finalize(*arguments, **options)
        if self.get_final().name.isdecimal():  # Its parts come one by one before.
            whole.seal(self.get_final())
            whole.sync_folder(self.get_final().parent)


class RunCheckpoints:
    """Whole states of one run, saved in the background.

    The two newest are always kept, and the one whose value is highest (the later of
    equals). An unfinished save is not seen by `latest`.
    """

    def __init__(self, folder: epath.PathLike) -> None:
        """Opens `folder`, made when missing; see `_drop_damaged`."""
        if jax.process_index() == 0:
            _drop_damaged(epath.Path(folder))
        files.wait_for_all(f"checkpoints in {folder} are whole")
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(2),
                preservation_policy.BestN(get_metric_fn=_rank, n=1),
            ]
        )
        self._manager = _Manager(
            epath.Path(folder).resolve(),  # Orbax refuses a relative path.
            options=ocp.CheckpointManagerOptions(
                best_fn=_rank,  # Without it, Orbax stores no values.
                preservation_policy=policy,
                temporary_path_class=_Sealed,
                create=True,
            ),
        )

    def latest(self) -> int | None:
        """Steps done in the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> tuple[int, float | None]:
        """Step with the highest value, and the value; the newest where none has one."""
        return self._last_of(lambda ranked: (ranked[1], ranked[0]))

    def newest(self) -> tuple[int, float | None]:
        """The newest step and its value."""
        return self._last_of(lambda ranked: ranked)

    def _last_of(
        self, order: Callable[[tuple[int, float]], tuple[float, float]]
    ) -> tuple[int, float | None]:
        """The step that an order of steps and their values puts last."""
        self.wait()
        ranked = [
            (step, _rank(self._manager.metrics(step) or {"value": None}))
            for step in self._manager.all_steps()
        ]
        if not ranked:
            raise FileNotFoundError(f"No checkpoint in {self._manager.directory}.")
        step, value = max(ranked, key=order)
        return step, value if math.isfinite(value) else None

    def save(self, state: types.TrainState, step: int, value: float = math.nan) -> None:
        """Saves `state`; `value` is validation's; NaN is not ranked."""
        with whole.telling(self._manager.directory):
            self._manager.save(
                step,
                args=ocp.args.StandardSave(_on_all(state)),
                metrics={"value": None if math.isnan(value) else value},
            )

    def restore(self, step: int, template: types.TrainState) -> types.TrainState:
        """The state at `step`, placed as `template` (shapes with shardings) says."""
        restored: Any = self._manager.restore(
            step, args=ocp.args.StandardRestore(_on_all(template))
        )
        return jax.tree.map(_as_told, restored, template)

    def wait(self) -> None:
        """Returns when all saves are complete."""
        with whole.telling(self._manager.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes all saves."""
        with whole.telling(self._manager.directory):
            self._manager.close()


def _drop_damaged(folder: epath.Path) -> None:
    """Takes away states that are damaged, where one that is whole takes their place.

    Raises:
      DamagedError: If none is whole, or the one that validation likes best is not.
    """
    there = [int(path.name) for path in _entries(folder) if path.name.isdecimal()]
    values: dict[int, float] = {}
    damaged: dict[int, Exception] = {}
    for step in sorted(there, reverse=True):
        try:
            whole.check(folder / str(step), "")
            values[step] = _value(folder / str(step))
        except (OSError, ValueError) as error:
            damaged[step] = error
    anew = f"Delete {os.fspath(folder.parent)} to do the run anew"
    for step, error in damaged.items():
        if not values:
            raise whole.DamagedError(
                f"{error}No state of the run is whole. Restore it from a copy. {anew}."
            ) from error
        newest, value = max(values), _value(folder / str(step))
        # As a kill leaves it that strikes while an older one is deleted.
        is_torn = isinstance(error, FileNotFoundError) and math.isnan(value)
        if step < newest and not (is_torn or value <= max(values.values())):
            raise whole.DamagedError(
                f"{error}Validation may like this state best. Restore it from a copy. "
                f"{anew}, or {folder / str(step)} to choose among the others."
            ) from error
        _LOG.warning("%sThe state of step %d is used.", error, newest)
        (folder / str(step)).rmtree()


def _entries(folder: epath.Path) -> list[epath.Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _value(state: epath.Path) -> float:
    """What validation says of a saved state: NaN where that is damaged."""
    try:
        return _rank(whole.read_json(state / "metrics" / "metrics"))
    except (OSError, ValueError, LookupError):
        return math.nan


def _rank(metrics: Mapping[str, float | None]) -> float:
    """Higher is better; below all where nothing was measured."""
    value = metrics["value"]
    return -math.inf if value is None else value


def _on_all(tree: types.Tree) -> types.Tree:
    """What every process has of its own, as one array: Orbax takes no other.

    Such are the states of a run that all processes do alike; see `workshop.fit`.
    """
    first = {device.process_index: device for device in reversed(jax.devices())}
    every = np.asarray([first[index] for index in sorted(first)])
    copies = sharding.replicated(jax.sharding.Mesh(every, ("copies",)))

    def whole(leaf: Any) -> Any:
        if jax.process_count() == 1 or not leaf.sharding.is_fully_addressable:
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=copies)
        (ours,) = (
            shard.data
            for shard in leaf.addressable_shards
            if shard.device == first[jax.process_index()]
        )
        return jax.make_array_from_single_device_arrays(leaf.shape, copies, [ours])

    return jax.tree.map(whole, tree)


def _as_told(leaf: jax.Array, template: jax.ShapeDtypeStruct) -> jax.Array:
    """Undoes `_on_all`."""
    if leaf.sharding == template.sharding:
        return leaf
    return jax.device_put(np.asarray(leaf.addressable_data(0)), template.sharding)


def save_backbone(
    folder: epath.PathLike, tree: types.Tree, metadata: Mapping[str, Any]
) -> None:
    """Writes what `types.Stage.hand_over` gives, then its description.

    A folder without description is an unfinished one and is written over.
    """
    folder = epath.Path(folder).resolve()
    if jax.process_index() == 0:
        (folder / METADATA).unlink(missing_ok=True)
    files.wait_for_all("old backbone is void")
    with (
        whole.telling(folder),
        _hushed(),
        ocp.PyTreeCheckpointer() as checkpointer,
    ):
        checkpointer.save(folder / "arrays", _on_all(tree), force=True)
    if jax.process_index() == 0:
        whole.seal(folder / "arrays")
        whole.write_json(folder / METADATA, dict(metadata))


def load_backbone(
    folder: epath.PathLike,
    expected: Mapping[str, Any],
    wanted: types.Tree | None = None,
) -> tuple[types.Tree, dict[str, Any]]:
    """Reads a backbone folder.

    Args:
      folder: As `save_backbone` wrote it.
      expected: Entries that its description must have, e.g. the architecture.
      wanted: The part of the tree to read, leaves with `shape`; None: all. Names and
        shapes are compared before a number is read.

    Returns:
      Nested dicts of NumPy arrays, and the description.

    Raises:
      FileNotFoundError: If there is no finished backbone.
      ValueError: If the description or the part differs from what is expected, or the
        folder is damaged.
    """
    metadata = read_description(folder, expected)
    arrays = epath.Path(folder).resolve() / "arrays"
    if arrays.exists():
        whole.check(arrays, _AGAIN)
    try:
        with _hushed(), ocp.PyTreeCheckpointer() as checkpointer:
            found: Any = checkpointer.metadata(arrays).item_metadata
            if found is None:
                raise FileNotFoundError("what describes the arrays is not there")
            part = found.tree
            if wanted is not None:
                trees.refuse_unlike(
                    part, wanted, os.fspath(arrays), METADATA, more=True
                )
                part = wanted
            kinds = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), part
            )
            how = ocp.args.PyTreeRestore(
                part, restore_args=kinds, partial_restore=wanted is not None
            )
            return checkpointer.restore(arrays, args=how), metadata
    except trees.Unfit:
        raise
    except Exception as error:  # Orbax raises almost anything on damaged files.
        told = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise ValueError(
            f"{os.fspath(arrays)}: missing, damaged or not whole ({told}). {_AGAIN}"
        ) from error


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keeps back the tracebacks that Orbax leaves where several arrays are damaged.

    At the first it closes its event loop, which the others find closed, perhaps later:
    after an error this stays in force.
    """
    before, logger = sys.unraisablehook, logging.getLogger("asyncio")

    def hook(told: Any) -> None:
        if str(told.exc_value) != "Event loop is closed":
            before(told)

    def is_other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Task exception was never retrieved")

    sys.unraisablehook = hook
    logger.addFilter(is_other)
    yield
    sys.unraisablehook = before
    logger.removeFilter(is_other)


def read_description(
    folder: epath.PathLike,
    expected: Mapping[str, Any],
    give: str = "the 'backbone' folder of a run that has ended",
) -> dict[str, Any]:
    """The description of a backbone folder, checked; see `load_backbone`.

    `give` says what to give where there is none.
    """
    folder = epath.Path(folder).resolve()
    if not (folder / METADATA).exists():
        ended = sorted(path.parent.parent.name for path in folder.glob(_OF_RUNS))
        runs = f" This is a work folder; ended in runs/: {', '.join(ended)}."
        raise FileNotFoundError(
            f"No finished backbone in {folder}: {METADATA} is missing. Give {give}."
            f"{runs if ended else ''}"
        )
    metadata = whole.read_json(folder / METADATA, advice=_AGAIN)
    differing = [
        f"{name}: it has {metadata.get(name)!r}, the config wants {wanted!r}"
        for name, wanted in expected.items()
        if metadata.get(name) != wanted
    ]
    if differing:
        raise ValueError(
            f"The backbone in {folder} does not fit this run. {'; '.join(differing)}. "
            "Change the config, or start from another backbone."
        )
    return metadata
