"""GRAZPEDWRI-DX: X-rays of children's wrists with boxes of what was found."""

from tfds_builders.grazpedwri_dx.grazpedwri_dx_dataset_builder import Builder
from tfds_builders.grazpedwri_dx.grazpedwri_dx_dataset_builder import (
    GrazpedwriDxConfig as Config,
)

__all__ = ["Builder", "Config"]
