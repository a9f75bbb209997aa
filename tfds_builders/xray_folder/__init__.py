"""A folder of the user's own X-rays, read by configuration alone."""

from tfds_builders.xray_folder.configuration import XrayFolderConfig as Config
from tfds_builders.xray_folder.xray_folder_dataset_builder import Builder

__all__ = ["Builder", "Config"]
