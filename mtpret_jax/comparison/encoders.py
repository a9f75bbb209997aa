"""Opens the encoders to be judged, and finds out what images they learnt from."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping

from mtpret_jax.comparison import features, gather, lists, tables


def open_all(
    paths: Mapping[str, pathlib.Path],
    listed: Mapping[str, pathlib.Path],
    *,
    kept: pathlib.Path,
    data_dir: pathlib.Path,
) -> dict[str, gather.Known]:
    """Encoders by name, and what is known of the images that each learnt from.

    Args:
      paths: A run, its backbone folder, an exported folder, or a table of features.
      listed: Files by encoder: names of the images that it learnt from, one a line.
      kept: Folder in which the features of networks are kept.
      data_dir: Folder of the prepared sets.

    Raises:
      ValueError: If a path is none of these, or a list is of no encoder.
    """
    for name in listed:
        if name not in paths:
            raise ValueError(
                f"--training_list: '{name}' is no --encoder; these are {list(paths)}."
            )
    return {
        name: _open(name, path, listed.get(name), kept / name, data_dir)
        for name, path in paths.items()
    }


def _open(
    name: str,
    path: pathlib.Path,
    listed: pathlib.Path | None,
    kept: pathlib.Path,
    data_dir: pathlib.Path,
) -> gather.Known:
    """One encoder."""
    known, why = [], "it comes without a list of its training images"
    if listed is not None:
        known, why = [lists.parse(_text(listed), f"--training_list: {listed}")], ""
    if path.suffix in tables.FORMS:
        return gather.Known(features.FromTable(name, path), known, why)
    if not path.is_dir():
        raise ValueError(
            f"--encoder: '{name}' must be a folder of a model, or a table of features "
            f"({', '.join(tables.FORMS)}), got {path}. Of a file of weights, `weights "
            "identify` tells the config to start a run from it."
        )
    encoder = features.FromNetwork(path, kept)
    lineage = lists.of_run(path.absolute(), data_dir)
    exported = path / lists.TRAINING
    if lineage is not None:
        encoder.about = dataclasses.replace(
            encoder.about,
            images=len(lineage.listed.names)
            if lineage.listed and not lineage.why
            else None,
            updates=lineage.updates,
            seen=lineage.seen,
        )
        known += [lineage.listed] if lineage.listed else []
        why = lineage.why if lineage.listed is None or listed is None else why
    elif exported.exists():
        known.append(lists.parse(_text(exported), str(exported)))
        why = ""
    return gather.Known(encoder, known, why)


def _text(path: pathlib.Path) -> str:
    """A list's text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}).") from error
