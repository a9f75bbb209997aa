"""Makes the prepared data sets that a config names, and skips those that are ready.

A set is ready when its folder was made with the same options from the same source. If
not, nothing is overwritten unless asked for (`--rebuild`). Reads no prepared record.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import types as python_types
from collections.abc import Iterable, Mapping

import tensorflow_datasets as tfds
from etils import epath

import tfds_builders
from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from tfds_builders import prepared, whole, xray_features
from tfds_builders.prepare import checks, xray_builder
from tfds_builders.releases import release

_LOG = logging.getLogger(__name__)
_POLL, _LOOKS = 2.0, 30  # seconds between looks at another's work; then it is told
_SEEN = "source_state.txt"  # beside preparation.json
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
      ValueError: An unknown builder, option or splits, a set prepared otherwise
        before, or a source that contradicts its options.
      FileNotFoundError: A source that is missing.
    """
    rows = {name: _make_config(name, row) for name, row in datasets.items()}
    root = epath.Path(data_dir)
    # All of them first: preparing the first set may take hours.
    differences = {
        name: _check(name, datasets[name].splits, module, config, root, rebuild=rebuild)
        for name, (module, config) in rows.items()
    }
    return {
        name: _prepare_one(name, module, config, root, differences[name])
        for name, (module, config) in rows.items()
    }


def class_names(
    datasets: Mapping[str, schema.DatasetConfig],
) -> dict[str, types.Names]:
    """What `metadata.json` of each set will say, by its options alone.

    Raises:
      ValueError: An unknown builder or option.
    """
    found = {}
    for name, row in datasets.items():
        fresh = _open_fresh(*_make_config(name, row), epath.Path("nowhere"))
        found[name] = types.Names(**xray_features.metadata(fresh.layout()))
    return found


def _check(
    name: str,
    splits: str,
    module: python_types.ModuleType,
    config: tfds.core.BuilderConfig,
    data_dir: epath.Path,
    *,
    rebuild: bool,
) -> str:
    """Says why a set must be prepared; "" if it is ready. Changes nothing."""
    folder = _folder(name, module, data_dir)
    fresh = _open_fresh(module, config, data_dir)
    difference = "nothing is there yet"
    if folder.exists():
        difference = _difference(folder, fresh, splits, look=rebuild)
        if not difference:
            if splits:
                _check_splits(
                    name, splits, prepared.read_preparation(folder)["manifests"]
                )
            return ""
        if not rebuild:
            raise ValueError(
                f"Dataset {name!r} was prepared otherwise in {os.fspath(folder)}: "
                f"{difference}. Run again with --rebuild to prepare it anew (which "
                "deletes the old one), or give this one another name or --data_dir."
            )
    fresh.fingerprint()  # A missing source is found out before anything is deleted.
    if splits:
        _check_splits(name, splits, fresh.manifests())
    return difference


def _open_fresh(
    module: python_types.ModuleType,
    config: tfds.core.BuilderConfig,
    data_dir: epath.Path,
) -> xray_builder.XrayBuilder:
    """A builder that knows nothing of what was prepared before."""
    # Opened where nothing lies, or TFDS would mix in what an older set says of itself.
    fresh = module.Builder(data_dir=os.fspath(data_dir / "none"), config=config)
    if isinstance(fresh, release.ReleaseBuilder) and not fresh.builder_config.folder:
        fresh.folder = data_dir / "downloads" / "manual"  # Where TFDS will look.
    return fresh


def _check_splits(name: str, splits: str, known: Iterable[str]) -> None:
    if splits not in known:
        raise ValueError(
            f"config.datasets.{name}.splits: the set has no splits {splits!r}."
            f"{rules.nearest(splits, known)}"
        )


def _folder(
    name: str, module: python_types.ModuleType, data_dir: epath.Path
) -> epath.Path:
    return data_dir / module.Builder.name / name / str(module.Builder.VERSION)


def _prepare_one(
    name: str,
    module: python_types.ModuleType,
    config: tfds.core.BuilderConfig,
    data_dir: epath.Path,
    difference: str,
) -> epath.Path:
    """Prepares a set that differs from what is there; see `_check`."""
    folder = _folder(name, module, data_dir)
    if not difference:
        _LOG.info("%s is ready in %s.", name, folder)
        return folder
    if folder.exists():
        _LOG.info("%s: %s; preparing it anew.", name, difference)
        folder.rmtree()
    _LOG.info("Preparing %s in %s.", name, folder)
    state = _open_fresh(module, config, data_dir).state()
    while True:
        builder = module.Builder(data_dir=os.fspath(data_dir), config=config)
        try:
            builder.download_and_prepare()
            break
        except BlockingIOError:
            _LOG.info("%s is being prepared by another process; waiting.", name)
            _wait_while(folder)
    _remember(folder, state)
    _LOG.info("%s: %s", name, _summary(folder))
    return folder


def _wait_while(folder: epath.Path) -> None:
    """Returns when a set may be there that another process prepares, or left."""
    for _ in range(_LOOKS):
        if folder.exists():
            return
        time.sleep(_POLL)


def _difference(
    folder: epath.Path, fresh: xray_builder.XrayBuilder, splits: str, *, look: bool
) -> str:
    """Says how a prepared folder differs from what is asked for; "" if it does not.

    The source's files are opened only where names, sizes or times have changed since
    they were last seen, or with `look`: opening takes 17 s for a hundred thousand.
    """
    path = folder / prepared.PREPARATION
    if not path.exists():
        return f"it has no {path.name}, so it is not known what it was made from"
    try:
        then = prepared.read_preparation(folder)
        if look:
            whole.check(folder, "", more=True)
            known = prepared.read_json(folder / "metadata.json")
            today = xray_features.metadata(fresh.layout())
            if lacking := [k for k, v in today.items() if v and not known.get(k)]:
                return f"an earlier version prepared it, without {lacking}"
    except (FileNotFoundError, whole.DamagedError) as error:
        return str(error).strip(". ")
    if changed := checks.changes(then, fresh.options()):
        return changed
    if damage := prepared.damage(folder, then):
        return damage
    if splits and not then.get("manifests"):
        return "it has one split only, from before there were several"
    try:
        state, seen = fresh.state(), folder / _SEEN
        if state and not look and seen.exists() and seen.read_text() == state:
            return ""
        fingerprint = fresh.fingerprint()
    except FileNotFoundError as error:
        _LOG.warning(
            "The source of %s is gone (%s); the prepared set is used as it is.",
            folder,
            error,
        )
        return ""
    if fingerprint != then["fingerprint"]:
        return "its source has changed"
    _remember(folder, state)
    return ""


def _remember(folder: epath.Path, state: str) -> None:
    """Keeps what a source looked like from outside when it was last looked at."""
    with contextlib.suppress(OSError):  # A set that may not be written is looked at.
        (folder / _SEEN).write_text(state)


def _make_config(
    name: str, row: schema.DatasetConfig
) -> tuple[python_types.ModuleType, tfds.core.BuilderConfig]:
    """Returns the builder's package and its config, made from the row's options."""
    known = tfds_builders.SETS
    if row.builder not in known:
        raise ValueError(
            f"config.datasets.{name}.builder: unknown builder {row.builder!r}."
            f"{rules.nearest(row.builder, known)}"
        )
    module = getattr(tfds_builders, row.builder)
    options = xray_builder.option_names(module.Config)
    for option in row.options:
        if option not in options:
            raise ValueError(
                f"config.datasets.{name}.options: {row.builder} has no option "
                f"{option!r}.{rules.nearest(option, options)}"
            )
    return module, module.Config(name=name, **row.options)


def _summary(folder: epath.Path) -> str:
    made = prepared.read_preparation(folder)
    counts = ", ".join(f"{split} {count}" for split, count in made["splits"].items())
    return f"{counts}; {made['quarantined']} files left out."
