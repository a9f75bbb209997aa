"""FracAtlas: X-rays of bones with boxes of fractures."""

from tfds_builders.fracatlas.fracatlas_dataset_builder import Builder
from tfds_builders.fracatlas.fracatlas_dataset_builder import FracatlasConfig as Config

__all__ = ["Builder", "Config"]
