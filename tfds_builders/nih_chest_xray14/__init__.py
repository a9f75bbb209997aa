"""NIH ChestX-ray14: chest X-rays with findings mined from reports."""

from tfds_builders.nih_chest_xray14.nih_chest_xray14_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
