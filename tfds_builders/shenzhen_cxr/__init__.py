"""Chest X-rays from Shenzhen, normal or with tuberculosis."""

from tfds_builders.releases.release import ReleaseConfig as Config
from tfds_builders.shenzhen_cxr.shenzhen_cxr_dataset_builder import Builder

__all__ = ["Builder", "Config"]
