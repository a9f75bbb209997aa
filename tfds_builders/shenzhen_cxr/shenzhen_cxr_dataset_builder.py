"""The chest X-rays of Shenzhen Hospital as the NLM and a mirror release them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import files, release, tuberculosis, xray_features

_LUNG = "lung"
_MASK_SUFFIX = "_mask"


class Builder(tuberculosis.TuberculosisBuilder):
    """662 chest X-rays from Shenzhen, half of them with tuberculosis."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[release.ReleaseConfig]] = [
        release.ReleaseConfig(name="full", description="as released"),
        release.ReleaseConfig(
            name="px512", description="longest side 512 pixels", image_size=512
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack ChinaSet_AllFiles.zip (3.6 GB) of the NLM's "Shenzhen Hospital CXR Set",
    https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/index.html;
    `python -m tfds_builders.fetch shenzhen_cxr --folder DIR` does it. Or the Kaggle
    mirrors kmader/pulmonary-chest-xray-abnormalities or
    raddar/tuberculosis-chest-xrays-shenzhen. Lung masks, if wanted, are Kaggle's
    yoctoman/shcxr-lung-mask (CC BY-NC-SA 4.0), unpacked beside CXR_png. The NLM asks to
    cite the papers and not to pass the images on.
    """
    # With images of Montgomery among them it is the set chest_xray_masks.
    MARKERS = ("cxr_png/chncxr_*|shenzhen_metadata.csv", "!cxr_png/mcucxr_*")
    EXPECTED: ClassVar[Mapping[str, int]] = {
        "images": 662,
        "patients": 662,
        "label=normal": 326,
        "label=tuberculosis": 336,
    }
    PREFIX = "CHNCXR"
    NAMESPACE = "shenzhen"
    TABLE = "shenzhen_metadata.csv"

    def layout(self) -> xray_features.Layout:
        """Two classes; a mask of both lungs where it was fetched."""
        return xray_features.Layout(
            label_names={"label": tuberculosis.LABELS},
            mask_names=(_LUNG,),
            bit_depth=self.builder_config.bit_depth,
            about=("age", "sex"),
        )

    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """See base class; 566 of the images have one, in a release of its own."""
        found = files.by_name(self.release, (".png",), holders=("mask", "masks"))
        return {
            key.removesuffix(_MASK_SUFFIX): {_LUNG: path}
            for key, path in found.items()
            if key.startswith(self.PREFIX)
        }

    def read_mask(self, item: release.Item, height: int, width: int) -> np.ndarray:
        """See base class."""
        return self.read_region(item.masks[_LUNG], height, width).astype(np.uint8)
