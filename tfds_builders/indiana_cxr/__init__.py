"""Chest X-rays of Indiana University with reports, from Open-i."""

from tfds_builders.indiana_cxr.indiana_cxr_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
