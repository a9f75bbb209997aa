"""Multi-task pre-training of X-ray backbones in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtpret_jax.api.compare import compare
    from mtpret_jax.api.export import export
    from mtpret_jax.api.prepare import prepare
    from mtpret_jax.api.train import train
    from mtpret_jax.inference.loader import load

    __version__: str

__all__ = ["compare", "export", "load", "prepare", "train"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then: `mtpret_jax.config` needs no JAX.

    The version is known where the package is installed; `mtpret_jax.weights` can be
    used where it is not.
    """
    if name == "load":
        from mtpret_jax.inference import loader

        return loader.load
    if name in __all__:
        import importlib

        return getattr(importlib.import_module(f"mtpret_jax.api.{name}"), name)
    if name == "__version__":
        from importlib import metadata

        return metadata.version("mtpret_jax")
    raise AttributeError(f"module 'mtpret_jax' has no attribute {name!r}")
