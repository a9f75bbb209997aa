"""Which devices a verb computes on, and whether there is one, before it begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import jax

from mtpret_jax.cli import command

# What a process of its own takes of a TPU host, by the number of chips.
_TPU_BOUNDS = {4: "2,2,1", 8: "2,4,1"}


def keep_to(numbers: Sequence[int]) -> None:
    """Hides all other devices of this machine from JAX, which must not have started.

    A CPU is divided into as many devices.
    """
    chosen, count = ",".join(str(number) for number in numbers), len(numbers)
    jax.config.update("jax_cuda_visible_devices", chosen)
    jax.config.update("jax_rocm_visible_devices", chosen)
    jax.config.update("jax_num_cpu_devices", count)
    os.environ["TPU_VISIBLE_CHIPS"] = chosen
    os.environ["TPU_CHIPS_PER_PROCESS_BOUNDS"] = _TPU_BOUNDS.get(count, f"1,{count},1")
    os.environ["TPU_PROCESS_BOUNDS"] = "1,1,1"


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
