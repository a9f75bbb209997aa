"""Draws of a cell, kept beside its predictions: no second page draws them again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from etils import epath

from mtpret_jax import types
from mtpret_jax.metrics import intervals

_METHOD = 2  # one more whenever the same predictions would give other draws


def draws(
    folder: epath.Path,
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Draws of `intervals.draws`, from `<folder>/draws` where they were made before.

    A file's name is the SHA-256 of all that its draws depend on; one that is damaged
    is made again.

    Args:
      folder: The folder of the predictions that `summary` was made of.
      metric: Turns a summary into values.
      summary: What `metric.summarise` made.
      groups: The group of each example, [N].
      resamples: Number of draws.
      seed: The seed of the draws.
    """
    groups = np.asarray(groups, str)
    facts = [_METHOD, repr(metric), resamples, seed]
    for name, array in sorted({**summary, "": groups}.items()):
        facts += [name, array.dtype.str, array.shape, _digest(array.tobytes()).hex()]
    path = folder / "draws" / _digest(json.dumps(facts).encode()).hex()
    drawn = _read(path)
    if drawn is None:
        drawn = intervals.draws(metric, summary, groups, resamples=resamples, seed=seed)
        _write(path, drawn)
    return drawn


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _read(path: epath.Path) -> dict[str, np.ndarray] | None:
    """None if the file is missing or damaged: its digest stands before its content."""
    whole = path.read_bytes() if path.exists() else b""
    content = whole[hashlib.sha256().digest_size :]
    if whole != _digest(content) + content:
        return None
    file = io.BytesIO(content)
    names, draws_of = np.load(file), np.load(file)
    return dict(zip(names.tolist(), draws_of, strict=True))


def _write(path: epath.Path, drawn: Mapping[str, np.ndarray]) -> None:
    """Whole or not at all, by the first process alone."""
    if jax.process_index():
        return
    content = io.BytesIO()
    np.save(content, np.array(list(drawn)))
    np.save(content, np.stack(list(drawn.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.new")
    whole.write_bytes(_digest(content.getvalue()) + content.getvalue())
    whole.replace(path)
