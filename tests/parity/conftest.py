"""Puts the scripts of the golden files on the path: tests draw what they drew."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))


@pytest.fixture
def float64(monkeypatch):
    """Runs our code in float64 wherever it asks for float32.

    In float32 two right programs differ: a unit whose input is nearly zero is on in one
    and off in the other, and small batches spread that over all gradients. In float64
    this does not happen, and whatever remains is a real difference.
    """
    jax.config.update("jax_enable_x64", True)
    monkeypatch.setattr(jnp, "float32", jnp.float64)
    yield
    jax.config.update("jax_enable_x64", False)
