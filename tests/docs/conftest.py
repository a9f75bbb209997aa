"""The scripts of docs/, which is no package."""

import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable

import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def script() -> Callable[[str], types.ModuleType]:
    """Loads `docs/<name>.py`."""

    def load(name: str) -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"docs_{name}", DOCS / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # Dataclasses look there for their annotations.
        spec.loader.exec_module(module)
        return module

    return load
