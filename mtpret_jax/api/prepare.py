"""Prepared sets, called from Python."""

from __future__ import annotations

from etils import epath

from mtpret_jax.api import places
from mtpret_jax.experiment import preparation


def prepare(
    config: places.Config,
    data_dir: places.PathLike = places.DATA_DIR,
    *,
    rebuild: bool = False,
) -> dict[str, epath.Path]:
    """Makes the sets that a config names, and skips those that are ready.

    Args:
      config: A `ConfigDict` as `mtpret_jax.config.defaults` gives, or a parsed one.
      data_dir: Folder of prepared sets.
      rebuild: Prepares a set anew whose source or options have changed.

    Returns:
      The prepared folder of each set.

    Raises:
      ValueError: An unknown option, a set prepared otherwise before, or a source that
        contradicts its options.
      FileNotFoundError: A source that is missing.
    """
    root = epath.Path(data_dir).expanduser()
    return preparation.prepare(places.parse(config).datasets, root, rebuild=rebuild)
