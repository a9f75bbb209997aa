"""Multi-task pre-training of X-ray backbones in JAX."""

__version__ = "0.1.0"
