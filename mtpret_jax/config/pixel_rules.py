"""Rules of fixed normalisation, checked before anything is read."""

from __future__ import annotations

import math

from mtpret_jax.config import parts, schema


def check(config: schema.ExperimentConfig) -> None:
    """Checks that fixed normalisation has its numbers, and no other one has any.

    Raises:
      ValueError: If numbers are missing, useless, or set where nothing reads them.
    """
    _check(config, "config")
    for name, row in config.encoders.items():
        _check(row, f"config.encoders.{name}")


def _check(table: schema.ExperimentConfig | schema.EncoderConfig, path: str) -> None:
    """Checks what a table has as its `input` against its `backbone`."""
    row, channels = table.input, table.backbone.in_channels
    if row.normalisation != "fixed":
        if row.fixed != parts.FixedConfig():
            raise ValueError(
                f"{path}.input.fixed: only normalisation 'fixed' reads it, and "
                f"{path}.input.normalisation is '{row.normalisation}'. Leave it out, "
                "or set that to 'fixed'."
            )
        return
    check_numbers(row.fixed, f"{path}.input.fixed")
    if len(row.fixed.mean) not in (1, channels):
        raise ValueError(
            f"{path}.input.fixed.mean: expected one number, or one for each of the "
            f"{channels} of {path}.backbone.in_channels, got {len(row.fixed.mean)}."
        )


def check_numbers(row: parts.FixedConfig, path: str) -> None:
    """Checks the numbers of a fixed normalisation that is in use.

    Raises:
      ValueError: If they are missing or useless.
    """
    if not row.mean or len(row.mean) != len(row.deviation):
        raise ValueError(
            f"{path}: normalisation 'fixed' needs mean and deviation, one number each "
            f"or one for each channel; got {list(row.mean)} and {list(row.deviation)}."
        )
    finite = all(map(math.isfinite, (*row.mean, *row.deviation, *row.greys)))
    if not finite or min(row.deviation) <= 0:
        raise ValueError(
            f"{path}: expected finite numbers and deviations above 0, got mean "
            f"{list(row.mean)}, deviation {list(row.deviation)}."
        )
    if len(row.greys) != 2 or not row.greys[0] < row.greys[1]:
        raise ValueError(
            f"{path}.greys: expected what black and white are, such as [0, 1] or "
            f"[-1024, 1024], got {list(row.greys)}."
        )
