"""Chest X-rays of children with and without pneumonia (Kermany 2018)."""

from tfds_builders.kermany_pneumonia.kermany_pneumonia_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
