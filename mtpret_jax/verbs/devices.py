"""Looks whether there is a device to compute on, before a verb begins."""

from __future__ import annotations

import os
import sys

import jax

from mtpret_jax import command


def require() -> None:
    """Starts JAX; ends the process in one line, exit code 2, where it finds no device.

    JAX itself would end in a traceback, of whichever line asks it first.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        named = os.environ.get("JAX_PLATFORMS", "")
        asked = f"JAX_PLATFORMS is '{named}', but " if named else ""
        reason = str(error).partition("\n")[0]
        found = f" ({reason})" if reason else ""
        sys.stderr.write(
            f"Error: {asked}JAX finds no such device on this machine{found}. Unset "
            "JAX_PLATFORMS or set it to cpu; for a GPU or TPU install '.[cuda]' or "
            "'.[tpu]'.\n"
        )
        sys.exit(command.USAGE)
