"""TBX11K: chest X-rays with boxes of tuberculosis."""

from tfds_builders.tbx11k.tbx11k_dataset_builder import Builder
from tfds_builders.tbx11k.tbx11k_dataset_builder import Tbx11kConfig as Config

__all__ = ["Builder", "Config"]
