"""`embed`: the features of many files as one file with their names, resumable.

Parts of a thousand files lie in `<out>.parts` until the last is there.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mtpret_jax.inference import model as model_lib
from mtpret_jax.inference import results, stream
from tfds_builders import whole

PART = 1000  # files
_AGAIN = "Remove it with its folder, and give the same command again."


def embed(
    model: model_lib.Model,
    files: Sequence[str],
    out: pathlib.Path,
    *,
    batch_size: int,
    begin: Callable[[int], None] = lambda before: None,
    progress: Callable[[stream.Item], None] = lambda item: None,
) -> tuple[int, list[tuple[str, str]], list[str]]:
    """Writes `path` [N], `embedding` float32 [N, D] and `blank` (no content) bool [N].

    Of `.npz`, `skipped`, `reason` and `model` are further arrays. Of `.parquet`, a row
    is a file, and `model` and `skipped` (with its reasons) are JSON in the metadata.

    Args:
      model: With or without a head.
      files: Paths.
      out: A `.npz` or `.parquet` that is not there yet.
      batch_size: Images computed at once.
      begin: Told how many files an earlier call has done.
      progress: Called after each file.

    Returns:
      How many files an earlier call had done, those that could not be read, with the
      reason, and those without content.

    Raises:
      FileExistsError: If `out` is there, or its parts are of another model or list.
      ValueError: If `out` has another suffix, or no file could be read.
    """
    if out.suffix not in (".npz", ".parquet"):
        raise ValueError(f"--out: expected a file in .npz or .parquet, got {out}.")
    if out.exists():
        raise FileExistsError(
            f"--out: {out} is there, and nothing is written over. Give another name, "
            "or remove it."
        )
    parts = out.with_name(out.name + ".parts")
    named = hashlib.sha256("\0".join(files).encode(errors="surrogateescape"))
    settings = {"model": model.describe(), "files": named.hexdigest()}
    with results.alone(parts):
        results.begin(parts, settings)
        groups = {
            parts / f"{place:06d}.npz": files[place : place + PART]
            for place in range(0, len(files), PART)
        }
        left = {path: group for path, group in groups.items() if not _is_whole(path)}
        before = len(files) - sum(map(len, left.values()))
        begin(before)
        for path, group in left.items():
            _compute(model, group, path, batch_size, progress)
        found = _joined([whole.read_arrays(path, _AGAIN) for path in groups])
        skipped = list(
            zip(found["skipped"].tolist(), found["reason"].tolist(), strict=True)
        )
        _write(out, found, skipped, json.dumps(settings["model"]))
        shutil.rmtree(parts)
    return before, skipped, found["path"][found["blank"]].tolist()


def _compute(
    model: model_lib.Model,
    files: Sequence[str],
    path: pathlib.Path,
    batch_size: int,
    progress: Callable[[stream.Item], None],
) -> None:
    """Writes a part: the features of some of the files."""
    read, skipped = [], []
    for item in stream.run(model, files, batch_size=batch_size, wanted=("embedding",)):
        (read if item.radiograph else skipped).append(item)
        progress(item)
    embeddings = [item.outputs["embedding"] for item in read]
    arrays = {
        "path": np.array([item.file for item in read], str),
        "embedding": np.stack(embeddings) if read else np.zeros((0, 0), np.float32),
        "blank": np.array([item.radiograph.is_blank for item in read], bool),
        "skipped": np.array([item.file for item in skipped], str),
        "reason": np.array([item.problem for item in skipped], str),
    }
    whole.write_arrays(path, arrays)


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all parts; empty ones have no width to be joined by.

    Raises:
      ValueError: If no file of any part could be read.
    """
    found = {
        name: np.concatenate(
            [part[name] for part in parts if len(part[name])] or [parts[0][name]]
        )
        for name in parts[0]
    }
    if not len(found["path"]):
        raise ValueError(
            f"None of {len(found['skipped'])} files could be read. The first, "
            f"{found['skipped'][0]}: {found['reason'][0]}."
        )
    return found


def _write(
    path: pathlib.Path,
    arrays: dict[str, np.ndarray],
    skipped: Sequence[tuple[str, str]],
    described: str,
) -> None:
    """Writes the features as the name of the file asks; `described` is the model."""
    if path.suffix == ".parquet":
        metadata = {"model": described, "skipped": json.dumps(dict(skipped))}
        _write_table(path, arrays, metadata)
        return
    named: dict[str, Any] = arrays | {"model": np.array(described)}
    with whole.placing(path) as file:
        np.savez(file, **named)


def _write_table(
    path: pathlib.Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    # Names of files may hold bytes that are not text.
    paths = [str(p).encode(errors="backslashreplace").decode() for p in arrays["path"]]
    features = arrays["embedding"]
    rows = pa.FixedSizeListArray.from_arrays(
        pa.array(features.ravel()), len(features.T)
    )
    table = pa.table({"path": paths, "embedding": rows, "blank": arrays["blank"]})
    with whole.placing(path) as file:
        parquet.write_table(table.replace_schema_metadata(metadata), file)


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a part is there with all its files; those skipped are tried again."""
    try:
        if not path.exists():
            return False
        part = whole.read_arrays(path)
        return len(part["blank"]) == len(part["path"]) and not len(part["skipped"])
    except (OSError, ValueError, KeyError):
        return False  # Damaged: made anew.
