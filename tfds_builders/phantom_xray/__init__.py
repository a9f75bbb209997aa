"""Simulated X-rays: chests, hands and jaws."""

from tfds_builders.phantom_xray.phantom_xray_dataset_builder import Builder
from tfds_builders.phantom_xray.phantom_xray_dataset_builder import (
    PhantomXrayConfig as Config,
)

__all__ = ["Builder", "Config"]
