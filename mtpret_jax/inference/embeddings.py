"""`embed`: the features of many files as one file with their names, resumable.

Parts of a thousand files lie in `<out>.parts` until the last is there.
"""

from __future__ import annotations

import io
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
      batch_size: Pictures computed at once.
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
    with results.alone(parts):
        return _embed(
            model, files, out, parts, batch_size, begin=begin, progress=progress
        )


def _embed(
    model: model_lib.Model,
    files: Sequence[str],
    out: pathlib.Path,
    parts: pathlib.Path,
    batch_size: int,
    *,
    begin: Callable[[int], None],
    progress: Callable[[stream.Item], None],
) -> tuple[int, list[tuple[str, str]], list[str]]:
    """See `embed`."""
    settings = json.dumps({"model": model.describe(), "files": list(files)})
    listed = parts / "settings.json"
    if listed.exists() and whole.read(listed, _AGAIN).decode() != settings:
        raise FileExistsError(
            f"--out: {parts} was begun with another model or other files. Remove it, "
            "or give another name."
        )
    if not listed.exists():
        whole.write(listed, settings)
    left = {
        parts / f"{place:06d}.npz": files[place : place + PART]
        for place in range(0, len(files), PART)
    }
    left = {path: group for path, group in left.items() if not _is_whole(path)}
    before = len(files) - sum(map(len, left.values()))
    begin(before)
    for path, group in left.items():
        items = []
        for item in stream.run(
            model, group, batch_size=batch_size, wanted=("embedding",)
        ):
            items.append(item)
            progress(item)
        whole.write(path, _packed(_arrays(items)))
    pieces = [whole.read_arrays(path, _AGAIN) for path in sorted(parts.glob("*.npz"))]
    names = ("path", "embedding", "blank", "skipped", "reason")
    found = {
        name: np.concatenate(
            [piece[name] for piece in pieces if len(piece[name])] or [pieces[0][name]]
        )
        for name in names
    }
    if not len(found["path"]):
        raise ValueError(
            f"None of {len(files)} files could be read. The first, "
            f"{found['skipped'][0]}: {found['reason'][0]}."
        )
    skipped = dict(
        zip(found["skipped"].tolist(), found["reason"].tolist(), strict=True)
    )
    described = json.dumps(model.describe())
    if out.suffix == ".npz":
        whole.place(out, _packed(found | {"model": np.array(described)}))
    else:
        _write_table(out, found, {"model": described, "skipped": json.dumps(skipped)})
    shutil.rmtree(parts)
    return before, list(skipped.items()), found["path"][found["blank"]].tolist()


def _arrays(items: Sequence[stream.Item]) -> dict[str, np.ndarray]:
    read = [item for item in items if not item.problem]
    missed = [item for item in items if item.problem]
    embeddings = [item.outputs["embedding"] for item in read]
    return {
        "path": np.array([item.file for item in read], str),
        "embedding": np.stack(embeddings) if read else np.zeros((0, 0), np.float32),
        "blank": np.array(
            [bool(i.radiograph and i.radiograph.is_blank) for i in read], bool
        ),
        "skipped": np.array([item.file for item in missed], str),
        "reason": np.array([item.problem for item in missed], str),
    }


def _packed(arrays: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _write_table(
    path: pathlib.Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    # Names of files may hold bytes that are no text.
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
