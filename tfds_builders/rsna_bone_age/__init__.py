"""Hands of children with their bone age (RSNA 2017)."""

from tfds_builders.releases.release import ReleaseConfig as Config
from tfds_builders.rsna_bone_age.rsna_bone_age_dataset_builder import Builder

__all__ = ["Builder", "Config"]
