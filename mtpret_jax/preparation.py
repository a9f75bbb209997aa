"""Makes the prepared data sets that a config names, and leaves alone what is ready.

    python -m mtpret_jax.preparation --config=configs/demo.py --data_dir=data

A set is ready when its folder was made with the same options from the same source. If
not, nothing is overwritten unless asked for (`--rebuild`). Reads no prepared record.
"""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
import pkgutil
import sys
import types as python_types
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow_datasets as tfds
from absl import app, flags
from etils import epath
from ml_collections import config_flags

import tfds_builders
from mtpret_jax import config as schema
from tfds_builders import xray_builder

_LOG = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]


def prepare(
    datasets: Mapping[str, schema.DatasetConfig],
    data_dir: PathLike,
    *,
    rebuild: bool = False,
) -> dict[str, epath.Path]:
    """Prepares each set that is not ready.

    Args:
      datasets: Rows of `config.datasets`.
      data_dir: Prepared sets go to `<data_dir>/<builder>/<name>/<version>/`.
      rebuild: Prepares a set anew whose source or options have changed.

    Returns:
      The prepared folder of each set.

    Raises:
      ValueError: An unknown builder or option, a set prepared otherwise before, or a
        source that contradicts its options.
      FileNotFoundError: A source that is missing.
    """
    rows = {name: _make_config(name, row) for name, row in datasets.items()}
    return {
        name: _prepare_one(name, module, config, epath.Path(data_dir), rebuild=rebuild)
        for name, (module, config) in rows.items()
    }


def _prepare_one(
    name: str,
    module: python_types.ModuleType,
    config: tfds.core.BuilderConfig,
    data_dir: epath.Path,
    *,
    rebuild: bool,
) -> epath.Path:
    builder_name = module.Builder.name
    folder = data_dir / builder_name / name / str(module.Builder.VERSION)
    is_there = folder.exists()
    # Opened where nothing lies, or TFDS would mix in what an older set says of itself.
    fresh = module.Builder(data_dir=os.fspath(data_dir / "none"), config=config)
    difference = _difference(folder, fresh) if is_there else ""
    if is_there and not difference:
        _LOG.info("%s is ready in %s.", name, folder)
        return folder
    if is_there and not rebuild:
        raise ValueError(
            f"Dataset {name!r} was prepared otherwise in {os.fspath(folder)}: "
            f"{difference}. Run again with --rebuild to prepare it anew (which deletes "
            "the old one), or give this one another name or --data_dir."
        )
    fresh.fingerprint()  # A missing source is found out before anything is deleted.
    if is_there:
        _LOG.info("%s: %s; preparing it anew.", name, difference)
        folder.rmtree()
    _LOG.info("Preparing %s in %s.", name, folder)
    builder = module.Builder(data_dir=os.fspath(data_dir), config=config)
    builder.download_and_prepare()
    _LOG.info("%s: %s", name, _summary(folder))
    return folder


def _difference(folder: epath.Path, fresh: xray_builder.XrayBuilder) -> str:
    """Says how a prepared folder differs from what is asked for; "" if it does not."""
    path = folder / xray_builder.PREPARATION
    if not path.exists():
        return f"it has no {path.name}, so it is not known what it was made from"
    then: dict[str, Any] = json.loads(path.read_text())
    options = fresh.options()
    changed = [
        f"{option} was {_short(then['options'].get(option))}, "
        f"now {_short(options.get(option))}"
        for option in sorted(options.keys() | then["options"].keys())
        # As text: the order of classes counts, and dictionaries would hide it.
        if json.dumps(options.get(option)) != json.dumps(then["options"].get(option))
    ]
    if changed:
        return "; ".join(changed)
    try:
        fingerprint = fresh.fingerprint()
    except FileNotFoundError as error:
        _LOG.warning(
            "The source of %s is gone (%s); the prepared set is used as it is.",
            folder,
            error,
        )
        return ""
    return "" if fingerprint == then["fingerprint"] else "its source has changed"


def _make_config(
    name: str, row: schema.DatasetConfig
) -> tuple[python_types.ModuleType, tfds.core.BuilderConfig]:
    """Returns the builder's package and its config, made from the row's options."""
    known = [m.name for m in pkgutil.iter_modules(tfds_builders.__path__) if m.ispkg]
    if row.builder not in known:
        raise ValueError(
            f"config.datasets.{name}.builder: unknown builder {row.builder!r}. Known: "
            f"{sorted(known)}.{_nearest(row.builder, known)}"
        )
    module = importlib.import_module(f"tfds_builders.{row.builder}")
    options = xray_builder.option_names(module.Config)
    for option in row.options:
        if option not in options:
            raise ValueError(
                f"config.datasets.{name}.options: {row.builder} has no option "
                f"{option!r}.{_nearest(option, options)} Known: {sorted(options)}."
            )
    return module, module.Config(name=name, **row.options)


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _short(value: Any, limit: int = 80) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _summary(folder: epath.Path) -> str:
    made = json.loads((folder / xray_builder.PREPARATION).read_text())
    counts = ", ".join(f"{split} {count}" for split, count in made["splits"].items())
    return f"{counts}; {made['quarantined']} files left out."


def run() -> None:
    """The command; a mistake in the input ends in one line, not a traceback."""
    # Defined here, since the main command has flags of the same names.
    config = config_flags.DEFINE_config_file("config", None, "The config file.")
    data_dir = flags.DEFINE_string(
        "data_dir",
        os.path.join("~", "tensorflow_datasets"),
        "Folder of prepared sets.",
    )
    rebuild = flags.DEFINE_bool(
        "rebuild", False, "Prepare sets again whose source or options have changed."
    )
    flags.mark_flags_as_required(["config"])

    def main(arguments: list[str]) -> None:
        if len(arguments) > 1:
            raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
        logging.basicConfig(format="%(message)s", level=logging.INFO)
        datasets = schema.parse(config.value).datasets
        prepare(
            datasets, epath.Path(data_dir.value).expanduser(), rebuild=rebuild.value
        )

    try:
        app.run(main)
    except (ValueError, OSError, TypeError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    run()
