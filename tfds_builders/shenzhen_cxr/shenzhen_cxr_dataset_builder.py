"""The chest X-rays of Shenzhen Hospital as the NLM and a mirror release them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from etils import epath

from tfds_builders.releases import tuberculosis
from tfds_builders.sources import files, folders

_MASK_SUFFIX = "_mask"
_MASK = re.compile(r"CHNCXR_\d{4}_[01]_mask\.png", re.IGNORECASE)
_DEPTH = 3  # levels below the folder at which masks may lie


class Builder(tuberculosis.TuberculosisBuilder):
    """662 chest X-rays from Shenzhen, half of them with tuberculosis."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack ChinaSet_AllFiles.zip (3.6 GB) of the NLM's "Shenzhen Hospital CXR Set",
    https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/index.html;
    `python -m tfds_builders.fetch shenzhen_cxr --folder DIR` does it. Or the Kaggle
    mirrors kmader/pulmonary-chest-xray-abnormalities or
    raddar/tuberculosis-chest-xrays-shenzhen. Lung masks, if wanted, are Kaggle's
    yoctoman/shcxr-lung-mask (CC BY-NC-SA 4.0), unpacked beside CXR_png or beside the
    folder that holds it. The NLM asks to cite the papers and not to pass the images on.
    """
    # With images of Montgomery among them it is the set chest_xray_masks.
    MARKERS = ("cxr_png/chncxr_*|shenzhen_metadata.csv", "!cxr_png/mcucxr_*")
    EXPECTED: ClassVar = {
        "images": 662,
        "patients": 662,
        "label=normal": 326,
        "label=tuberculosis": 336,
        "masks": 566,
    }
    OPTIONAL = ("masks",)
    PREFIXES = ("CHNCXR",)
    TABLE = "shenzhen_metadata.csv"
    MASKS = (tuberculosis.LUNG,)

    @functools.cached_property
    def release(self) -> files.Listing:
        """See base class; masks that lie beside the root belong to it.

        If there are any, and none in the root, paths are below the folder given.
        """
        listing = super().release
        if any(_MASK.fullmatch(name.rsplit("/")[-1]) for name in listing.sizes):
            return listing
        beside = {
            path.relative_to(self.folder).as_posix(): path.stat().length
            for path in self._beside(listing.root)
        }
        if not beside:
            return listing
        before = listing.root.relative_to(self.folder).as_posix()
        sizes = {f"{before}/{name}": size for name, size in listing.sizes.items()}
        by_stem = {
            f"{before}/{stem}": tuple(f"{before}/{name}" for name in names)
            for stem, names in listing.by_stem.items()
        }
        by_stem |= {name.rsplit(".", maxsplit=1)[0]: (name,) for name in beside}
        return dataclasses.replace(
            listing,
            root=self.folder,
            sizes=dict(sorted((sizes | beside).items())),
            by_stem=by_stem,
        )

    def _beside(self, root: epath.Path) -> Iterator[epath.Path]:
        """Yields files of masks below the folder given that are in no other release."""
        for place in folders.walk(self.folder, _DEPTH):
            if place in (self.folder, root) or root in place.parents:
                continue
            near = [*folders.entries(place), *folders.entries(place.parent)]
            # The set chest_xray_masks has its own.
            if any(path.name.lower() == "cxr_png" for path in near):
                continue
            for path in folders.entries(place):
                if _MASK.fullmatch(path.name) and path.exists():
                    yield path

    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """See base class; 566 of the images have one, in a release of its own."""
        held = files.by_name(self.release, (".png",), holders=("mask", "masks"))
        named = files.by_name(self.release, (".png",))
        found = {
            **{k: path for k, path in held.items() if k.startswith(self.PREFIXES)},
            **{k: path for k, path in named.items() if _MASK.fullmatch(f"{k}.png")},
        }
        return {
            key.removesuffix(_MASK_SUFFIX): {tuberculosis.LUNG: path}
            for key, path in found.items()
        }
