"""Radiographs of upper extremities, normal and abnormal (MURA v1.1)."""

from tfds_builders.mura.mura_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
