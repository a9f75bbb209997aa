"""Devices of accelerators that are not here, to compile for.

The compiler of TPUs is the library libtpu, which needs no TPU: the extra `tpu` has it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jax.experimental import topologies

MEMORY: Mapping[str, float] = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}  # GiB a chip
# Without these libtpu asks a server for the TPU that this machine is taken to have, no
# two processes may use it, and it complains of not knowing the machine.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


def kind(name: str) -> str:
    """The generation of the chips of a topology, a key of `MEMORY`."""
    return name.split(":")[1]


def devices(name: str) -> Sequence[Any]:
    """The devices of a slice such as `tpu:v5e:4x4`; `tpu:v5e:1` is a single chip.

    Raises:
      ValueError: If there is no such slice.
      ModuleNotFoundError: If the compiler is not installed.
    """
    platform, _, rest = name.partition(":")
    generation, _, shape = rest.partition(":")
    if platform != "tpu" or generation not in MEMORY or not shape:
        raise ValueError(
            f"'{name}' names no slice of TPUs: tpu, one of {', '.join(MEMORY)}, and "
            "the chips of each axis, for example tpu:v5e:4x4 or tpu:v4:2x2x1."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            f"To compile for {name} the compiler of TPUs is needed, no TPU: "
            "pip install 'mtpret_jax[tpu]'."
        )
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    one = shape == "1"
    whole = ("2x2x1" if generation in ("v4", "v5p") else "2x2") if one else shape
    options = {"chip_config_name": "megacore"} if generation == "v4" else {}
    try:
        found = topologies.get_topology_desc(
            platform=platform, topology_name=f"{generation}:{whole}", **options
        ).devices
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"'{name}': libtpu knows no such slice: {reason}") from error
    return found[:1] if one else found
