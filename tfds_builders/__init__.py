"""TFDS builders of X-ray sets, usable without JAX, TensorFlow or the rest of the house.

A builder reads what a data set's makers released and writes a prepared folder; that
folder is all that training ever sees. `tfds_builders.<name>` exports `Builder` and
`Config` for each set; importing this package makes TFDS know all of them by name.
"""

import importlib
import pathlib
import pkgutil

for _found in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
    if _found.ispkg:
        importlib.import_module(f"tfds_builders.{_found.name}")
