"""Single flipped bits and cuts, over every file that a command writes and reads again.

A tiny experiment is run to its end and exported. Then, again and again, one bit of one
of its files is changed, or the file is cut, and what reads the file reads it. Either
all numbers and names are as before, or an error of one line names the file.

Run:     python -m benchmarks.flips [--count=1000] [--seed=0] [--folder=FOLDER]
Expect:  0 silent changes, 0 tracebacks, 0 lines that name no file, in half an hour.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from benchmarks import harness
from configs import tiny
from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.exports import folder as hub
from mtpret_jax.inference import golden, loader, results
from mtpret_jax.training import checkpoint, reporting
from tfds_builders import whole

RUNS = ("contrastive", "continual", "mtpret_opacity")
# Nobody reads these again, or only JAX and TensorBoard do.
_UNREAD = ("tensorboard", "compilation_cache", "locks", "lock.", ".html", ".partial")
_UNREAD_HERE = ("quarantine.csv", "source_state.txt", "copies.csv", "README.md")
_ERRORS = (ValueError, OSError, TypeError, RuntimeError)  # as `command.call` has them
_EMPTY: dict[str, Any] = {"backbone": {}, "heads": {}}


@dataclasses.dataclass(frozen=True)
class Target:
    """Files, and what reads them.

    Attributes:
      name: For the table.
      files: That are damaged, one at a time.
      read: Gives all that depends on them, as plain values.
    """

    name: str
    files: Sequence[pathlib.Path]
    read: Callable[[], Any]


def train(
    folder: pathlib.Path,
) -> tuple[schema.ExperimentConfig, pathlib.Path, dict[str, epath.Path]]:
    """A tiny experiment, run into a folder: config, work folder and prepared sets."""
    table: Any = tiny.get_config("demo")
    with table.unlocked():
        for name in list(table.runs):
            if name not in RUNS:
                del table.runs[name]
    table.runs.continual.continual.rounds = 1
    config = schema.parse(table)
    folders = preparation.prepare(config.datasets, folder / "data")
    workfolder.run(config, epath.Path(folder / "work"), folders)
    return config, folder / "work", folders


def make(
    config: schema.ExperimentConfig,
    work: pathlib.Path,
    folders: dict[str, epath.Path],
    folder: pathlib.Path,
) -> list[Target]:
    """Exports a run that has ended, and says what there is to damage.

    Args:
      config: Of the experiment.
      work: Its work folder, with a run `mtpret_opacity`.
      folders: Its prepared sets.
      folder: For what is written here; empty.
    """
    run = work / "runs" / RUNS[-1]
    out, states, lines = (folder / each for each in ("exported", "states", "lines"))
    hub.write(work, run.name, out)
    _save_states(states)
    _write_lines(lines)

    report = functools.partial(_report, config, work, folders)
    of_run = [path for path in _files(work) if "backbone" not in path.parts]
    targets = [
        Target("run", of_run, report),
        Target("backbone", _files(run / "backbone"), functools.partial(_model, run)),
        Target("export", _files(out), functools.partial(_model, out)),
        Target("states", _files(states), functools.partial(_states, states)),
        Target("lines", _files(lines), functools.partial(_write_lines, lines)),
    ]
    return targets + [
        Target(f"set {name}", _files(pathlib.Path(path)), functools.partial(_set, path))
        for name, path in folders.items()
    ]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(name in path.as_posix() for name in _UNREAD)
        and path.name not in _UNREAD_HERE
    ]


def _report(
    config: schema.ExperimentConfig,
    work: pathlib.Path,
    folders: dict[str, epath.Path],
) -> Any:
    result = workfolder.run(config, epath.Path(work), folders, report_only=True)
    return json.loads(json.dumps(result, default=float))


def _model(path: pathlib.Path) -> Any:
    model = loader.load(path)
    found = golden.outputs(model.network, model.tree, model.preparation)
    return [model.describe(), {name: _digest(array) for name, array in found.items()}]


def _set(path: epath.Path) -> Any:
    found = []
    for split in ("train", "validation", "test"):
        source = sources.open_prepared(path, split)
        found += [source.index, dataclasses.asdict(source.metadata)]
        for record in range(len(source)):
            example = source[record]
            found.append({name: _digest(array) for name, array in example.items()})
    return [found, sources.describe(path)]


def _sharded() -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))


def _save_states(folder: pathlib.Path) -> None:
    """A run's folder with two states and the lines before them."""
    saved = checkpoint.RunCheckpoints(folder / "checkpoints")
    writer = reporting.RunWriter(folder, resume_step=0)
    for step in (1, 2):
        weights = jnp.arange(1024.0 * jax.device_count()) + step
        state = types.TrainState(
            jnp.int32(step),
            {"w": jax.device_put(weights, _sharded())},
            _EMPTY,
            _EMPTY,
            {},
        )
        writer.write(step, {"loss": 1.0 / step})
        writer.note()
        saved.save(state, step, 0.25 * step)
    saved.close()
    writer.close()


def _states(folder: pathlib.Path) -> Any:
    copy = folder.with_name(f"{folder.name}.copy")  # A damaged state is taken away.
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    saved = checkpoint.RunCheckpoints(copy / "checkpoints")
    step = saved.latest() or 0
    template = types.TrainState(
        jnp.int32(0),
        {"w": jnp.zeros(1024 * jax.device_count())},
        _EMPTY,
        _EMPTY,
        {},
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape,
            leaf.dtype,
            sharding=_sharded()
            if leaf.ndim
            else jax.sharding.SingleDeviceSharding(jax.devices()[0]),
        ),
        template,
    )
    restored = saved.restore(step, shapes)
    best = saved.best()
    saved.close()
    reporting.RunWriter(copy, resume_step=step).close()
    lines = (copy / "metrics.jsonl").read_text()
    return [step, best, _digest(restored.params["w"]), lines]


def _write_lines(folder: pathlib.Path) -> list[dict[str, Any]]:
    """What `predict` does, begun or gone on with: a file whose line is gone, again."""
    with results.alone(folder):
        kept = results.Results(folder, {"model": "tiny"})
        for number in range(9):
            if f"{number}.png" not in kept.done:
                kept.add({"file": f"{number}.png", "status": "done", "p": number / 9})
        return list(kept.rows())


def _digest(array: Any) -> str:
    array = np.ascontiguousarray(array)
    told = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(told + array.tobytes()).hexdigest()


class _Said(logging.Handler):
    """Keeps what the package warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def damaged(content: bytes, draw: random.Random) -> bytes:
    """One bit changed, or, one time in four, the end cut off."""
    if draw.random() < 0.25:
        return content[: draw.randrange(len(content))]
    place = draw.randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def try_all(
    targets: Sequence[Target], count: int, seed: int
) -> Iterator[tuple[str, str, str]]:
    """Damages a file, reads, and puts it right again, `count` times.

    Yields:
      Name of the target, what came of it and what to look at: "silent" (other values,
      not a word), "traceback" (another error, or more than a line), "unnamed" (a line
      without the file), "refused" or "told" (the file is named), "same".
    """
    draw = random.Random(seed)
    before = {target.name: target.read() for target in targets}
    said = _Said()
    for package in ("mtpret_jax", "tfds_builders"):
        logging.getLogger(package).addHandler(said)
    for number in range(count):
        target = targets[number % len(targets)]
        path = draw.choice([p for p in target.files if p.stat().st_size])
        content = path.read_bytes()
        path.write_bytes(damaged(content, draw))
        said.lines.clear()
        whole._told.clear()
        try:
            found = target.read()
            result = "same" if found == before[target.name] else "silent"
            lines = said.lines
            if lines and result == "silent":
                result = "told"
        except Exception as error:
            lines = [str(error)]
            is_line = isinstance(error, _ERRORS) and "\n" not in str(error)
            result = "refused" if is_line else "traceback"
            lines += [type(error).__name__] if not is_line else []
        name = str(path.parent if path.name == whole.SUMS else path)
        named = [line.replace(".copy", "") for line in lines]
        if result in ("refused", "told") and not any(name in line for line in named):
            result = "unnamed"
        path.write_bytes(content)
        yield target.name, result, f"{path}: {' | '.join(lines)[:400]}"


def main() -> int:
    """Prints a table; the exit code is 0 if nothing went wrong."""
    options = harness.parser(__doc__, count=1000, seed=0, folder="").parse_args()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        targets = make(*train(folder), folder)
        for name, result, told in try_all(targets, options.count, options.seed):
            counts[name, result] += 1
            if result in ("silent", "traceback", "unnamed"):
                wrong += 1
                harness.show(f"{result}: {told}")
        harness.show(f"{sum(len(target.files) for target in targets)} files")
    rows = [[*key, str(number)] for key, number in sorted(counts.items())]
    harness.table([["files of", "came to", "times"], *rows])
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
