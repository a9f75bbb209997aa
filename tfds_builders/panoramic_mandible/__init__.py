"""Panoramic dental X-rays with segmented mandibles (Abdi 2015)."""

from tfds_builders.panoramic_mandible.panoramic_mandible_dataset_builder import Builder
from tfds_builders.panoramic_mandible.panoramic_mandible_dataset_builder import (
    PanoramicMandibleConfig as Config,
)

__all__ = ["Builder", "Config"]
