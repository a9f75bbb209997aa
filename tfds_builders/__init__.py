"""TFDS builders of X-ray sets, usable without JAX, TensorFlow or the rest of the house.

A builder reads what a data set's makers released and writes a prepared folder; that
folder is all that training ever sees. `tfds_builders.<name>` exports `Builder` and
`Config` for each set, and importing it makes TFDS know the set by name. A set is
imported when it is asked for, so that one does not need what another does.
"""

import importlib
import pathlib
from types import ModuleType

# A set is a folder with a builder, as TFDS lays them out; the others are rooms.
SETS = tuple(
    sorted(
        path.parent.name
        for path in pathlib.Path(__file__).parent.glob("*/*_dataset_builder.py")
    )
)


def __getattr__(name: str) -> ModuleType:
    if name in SETS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *SETS})
