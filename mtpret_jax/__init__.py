"""Multi-task pre-training of X-ray backbones in JAX."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtpret_jax.inference.loader import load

__all__ = ["load"]
__version__ = metadata.version("mtpret_jax")


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then: `mtpret_jax.config` needs no JAX."""
    if name == "load":
        from mtpret_jax.inference import loader

        return loader.load
    raise AttributeError(f"module 'mtpret_jax' has no attribute {name!r}")
