"""Chest X-rays of Montgomery and Shenzhen with lung masks, as Kaggle repacked them."""

from tfds_builders.chest_xray_masks.chest_xray_masks_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
