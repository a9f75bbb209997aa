"""The COVID-19 image data collection: chest X-rays gathered from publications."""

from tfds_builders.covid_chestxray.covid_chestxray_dataset_builder import Builder
from tfds_builders.releases.release import ReleaseConfig as Config

__all__ = ["Builder", "Config"]
