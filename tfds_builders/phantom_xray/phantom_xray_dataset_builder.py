"""Simulated X-rays with exact labels: for tests, demonstrations and first steps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import xray_features
from tfds_builders.phantom_xray import simulator
from tfds_builders.prepare import xray_builder

_SPLITS = ("train", "validation", "test")
_FINDING = "finding"  # the label column


@dataclasses.dataclass
class PhantomXrayConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      body: "chest", "hand", "head" or "finger".
      image_size: Longest side of an image, pixels, at least 32.
      train: Images of the train split; 0 leaves a split out.
      validation: Images of the validation split.
      test: Images of the test split.
      seed: Another seed simulates other patients, 0 or more.
    """

    body: str = "chest"
    image_size: int = 128
    train: int = 600
    validation: int = 100
    test: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be simulated."""
        if self.body not in simulator.BODIES:
            raise ValueError(
                f"{self.name}: body is {self.body!r}; expected one of "
                f"{sorted(simulator.BODIES)}."
            )
        if self.image_size < simulator.SMALLEST:
            raise ValueError(
                f"{self.name}: image_size is {self.image_size} pixels; expected at "
                f"least {simulator.SMALLEST}."
            )
        for field in (*_SPLITS, "seed"):
            if getattr(self, field) < 0:
                raise ValueError(
                    f"{self.name}: {field} is {getattr(self, field)}; expected 0 or "
                    "more."
                )


class Builder(xray_builder.XrayBuilder):
    """Simulated radiographs of chests, hands, jaws and fingers."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[PhantomXrayConfig]] = [
        PhantomXrayConfig(
            name=f"{body}_{size}",
            description=f"{body}, longest side {size} pixels",
            body=body,
            image_size=size,
        )
        for body in simulator.BODIES
        for size in (128, 256)
    ]

    def layout(self) -> xray_features.Layout:
        """One exclusive finding, and what else the body has."""
        body = simulator.BODIES[self.builder_config.body]
        return xray_features.Layout(
            label_names={_FINDING: body.classes, **body.grades},
            values=body.values,
            mask_names=body.mask_names,
            object_names=body.object_names,
            about=("sex",) if body.tells_sex else (),
            landmark_names=body.landmark_names,
        )

    def fingerprint(self) -> str:
        """Digest of the options and of a few simulated pixels.

        The pixels make a changed simulator a changed source.
        """
        options = json.dumps(self.options(), sort_keys=True)
        digest = hashlib.sha256(options.encode())
        for index in range(2):
            probe = simulator.simulate(
                self.builder_config.body, size=64, seed=0, split_index=0, index=index
            )
            # An eighth of the grey scale is far above differences in rounding.
            digest.update((probe.image[4::8, 4::8] >> 5).tobytes())
        return digest.hexdigest()

    def records(self) -> Mapping[str, Sequence[xray_builder.Record]]:
        """Numbers the images; a patient of two images stays in one split."""
        found, config = {}, self.builder_config
        for split_index, split in enumerate(_SPLITS):
            found[split] = [
                xray_builder.Record(
                    image_id=f"{split}-{index:06d}",
                    group=f"{split}-patient-{simulator.patient_of(index):06d}",
                    source=(split_index, index),
                    about=xray_features.About(
                        sex=simulator.sex_of(
                            config.body,
                            seed=config.seed,
                            split_index=split_index,
                            index=index,
                        )
                    ),
                )
                for index in range(getattr(config, split))
            ]
        return found

    def load(self, record: xray_builder.Record) -> xray_features.Xray:
        """Simulates one image."""
        split_index, index = record.source
        config = self.builder_config
        radiograph = simulator.simulate(
            config.body,
            size=config.image_size,
            seed=config.seed,
            split_index=split_index,
            index=index,
        )
        found = {_FINDING: radiograph.finding, **radiograph.grades}
        labels = {
            column: xray_features.one_hot(names, names[found[column]])
            for column, names in self.layout().label_names.items()
        }
        boxes = radiograph.boxes
        return xray_features.Xray(
            image=radiograph.image,
            labels=labels,
            values=radiograph.values,
            mask=radiograph.mask,
            boxes=boxes,
            box_labels=None if boxes is None else np.zeros(len(boxes), np.int64),
            landmarks=radiograph.landmarks,
        )
