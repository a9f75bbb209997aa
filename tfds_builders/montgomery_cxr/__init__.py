"""Chest X-rays from Montgomery, normal or with tuberculosis."""

from tfds_builders.montgomery_cxr.montgomery_cxr_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
