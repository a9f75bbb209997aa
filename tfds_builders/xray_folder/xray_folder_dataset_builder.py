"""Builds a set from a folder of the user's own X-rays; see README.md beside it."""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import xray_features
from tfds_builders.images import reader
from tfds_builders.prepare import records, xray_builder
from tfds_builders.sources import files, tables
from tfds_builders.xray_folder import (
    boxes,
    configuration,
    landmarks,
    masks,
    source,
    table,
)


@dataclasses.dataclass(frozen=True)
class _Files:
    """What is known of an image before it is opened."""

    path: str  # below images/
    labels: Mapping[str, np.ndarray]
    values: Mapping[str, float]
    mask: str | None  # below masks/
    boxes: boxes.ImageBoxes | None
    landmarks: landmarks.ImageLandmarks | None
    spacing: float


class Builder(xray_builder.XrayBuilder):
    """Reads `images/` and any of a table, `masks/`, COCO boxes and keypoints."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "Images are shared out alike, whatever labels are asked for.",
        "1.0.0": "First release.",
    }

    builder_config: configuration.XrayFolderConfig

    def layout(self) -> xray_features.Layout:
        """See base class."""
        config = self.builder_config
        return xray_features.Layout(
            label_names={
                column: tuple(config.classes_of(column)) for column in config.labels
            },
            values=config.units(),
            mask_names=tuple(config.classes_of_masks()),
            object_names=tuple(config.classes_of_boxes()),
            landmark_names=tuple(config.landmark_names),
            has_spacing=bool(config.spacing_column),
            bit_depth=config.bit_depth,
            about=tuple(name for name in xray_features.ABOUT if name in config.about),
        )

    def state(self) -> str:
        """See `source.Source.state`."""
        return self._source.state()

    def fingerprint(self) -> str:
        """See base class."""
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        return self._source.fingerprint()

    @property
    def has_patient_namespace(self) -> bool:
        """See base class: whether the option `patients` names one."""
        return bool(self.builder_config.patients)

    def left_out(self) -> Sequence[xray_builder.Quarantined]:
        """See base class."""
        return self._left_out

    def records(self) -> Mapping[str, Sequence[xray_builder.Record]]:
        """See base class."""
        config, found_in = self.builder_config, self._source
        self._left_out: list[xray_builder.Quarantined] = []
        for listing in (found_in.images, found_in.masks):
            self._leave_out(listing.misnamed, "its name is not UTF-8: rename it")
        columns, ids, rows = self._rows_of_images()
        known = {
            column: table.labels(config, column, [row[column] for row in rows])
            for column in config.labels
        }
        numbers = {name: table.values(config, name, rows) for name in config.units()}
        found: dict[str, boxes.ImageBoxes] = {}
        if found_in.annotations is not None:
            found, missing = boxes.parse(config, found_in.annotations, found_in.images)
            self._leave_out(missing, f"in {config.annotations}, but no such image")
        points: dict[str, landmarks.ImageLandmarks] = {}
        if found_in.keypoints is not None:
            points, absent = landmarks.parse(
                config, found_in.keypoints, found_in.images
            )
            if config.keypoints != config.annotations:
                self._leave_out(absent, f"in {config.keypoints}, but no such image")
        spacing_of = table.spacings(config, columns, rows)
        mask_of = self._masks_of_images(columns, ids, rows)
        written = table.groups(config, columns, rows, ids)
        group_of = table.unified(config, written)
        split_of = table.assign_splits(config, columns, rows, ids, group_of, written)
        patient_of = table.named(config, group_of)  # plays no part in the splits
        told = table.about(config, columns, rows)
        result: dict[str, list[xray_builder.Record]] = {
            "train": [],
            "validation": [],
            "test": [],
        }
        for row, name in enumerate(ids):
            if mask_of.get(name) == "":
                continue  # The table's mask is not there; already set aside.
            labels = {column: coded[row] for column, coded in known.items()}
            told_of = {column: float(each[row]) for column, each in numbers.items()}
            details = _Files(
                name,
                labels,
                told_of,
                mask_of.get(name),
                found.get(name),
                points.get(name),
                spacing_of[row],
            )
            record = xray_builder.Record(name, patient_of[row], details, told[row])
            result[split_of[row]].append(record)
        return result

    def load(self, record: xray_builder.Record) -> xray_features.Xray:
        """See base class."""
        config, found_in = self.builder_config, self._source
        details: _Files = record.source
        with records.reading(found_in.images, details.path):
            path = found_in.images.root / details.path
            image = reader.read_image(path, dtype=self.layout().dtype)
        mask = None
        if details.mask is not None:
            with records.reading(found_in.masks, details.mask, what="mask"):
                path = found_in.masks.root / details.mask
                mask = masks.read(config, path, *image.shape)
        known: dict[str, Any] = {"values": details.values, "spacing": details.spacing}
        if details.boxes is not None:
            found = boxes.to_fractions(details.boxes, *image.shape)
            names = ("boxes", "box_labels", "dropped_boxes")
            known |= zip(names, found, strict=True)
        if details.landmarks is not None:
            points = landmarks.to_fractions(details.landmarks, *image.shape)
            known["landmarks"], known["dropped_landmarks"] = points
        return xray_features.Xray(image, details.labels, mask, **known)

    def about_masks(self) -> str:
        """See base class: what the pixels of one mask are."""
        config, there = self.builder_config, self._source.masks
        named = [r.source.mask for r in self.records()["train"] if r.source.mask]
        return masks.about(config, there.root / named[0])

    @functools.cached_property
    def _source(self) -> source.Source:
        """What the folder holds, listed once."""
        config = self.builder_config
        is_default = config.table == configuration.DEFAULT_TABLE
        return source.read_source(
            epath.Path(config.folder).expanduser(),
            table=config.table,
            table_may_be_absent=is_default and not (config.labels or config.values),
            masks=bool(config.masks),
            annotations=config.annotations,
            keypoints=config.keypoints,
        )

    def _rows_of_images(self) -> tuple[list[str], list[str], tables.Rows]:
        """Returns columns, images and their rows; all images if there is no table."""
        config, images = self.builder_config, self._source.images
        if self._source.table is None:
            ids = list(images.sizes)
            columns = {
                "split_column": config.split_column,
                "group_column": config.group_column,
                "mask_column": config.mask_column,
                "spacing_column": config.spacing_column,
            }
            asked = [option for option, column in columns.items() if column]
            if asked:
                raise FileNotFoundError(
                    f"No table {config.table!r} in {config.folder!r}, but the options "
                    f"{asked} name columns of it."
                )
            return [], ids, [{} for _ in ids]
        columns, rows = tables.parse(self._source.table, config.table)
        table.require_column(config.file_column, columns, "file_column", config.table)
        for option, named in (("labels", config.labels), ("values", config.units())):
            for column in named:
                table.require_column(column, columns, option, config.table)
        found = [images.find(row[config.file_column]) for row in rows]
        missing = [
            row[config.file_column] or "(empty cell)"
            for row, path in zip(rows, found, strict=True)
            if path is None
        ]
        if len(missing) == len(rows):
            raise FileNotFoundError(
                f"None of the {len(rows)} files that {config.table} names is in "
                f"{str(images.root)!r}: {files.brief(missing, 3)}. There are: "
                f"{files.brief(images.sizes, 3)}. Is {config.file_column!r} the column?"
            )
        ids = [path for path in found if path is not None]
        twice = [name for name, n in collections.Counter(ids).items() if n > 1]
        if twice:
            raise ValueError(
                f"{config.table} lists images twice: {files.brief(twice, 5)}. Keep one "
                "row for each image."
            )
        self._leave_out(missing, f"in {config.table}, but no such image")
        unlisted = sorted(images.sizes.keys() - set(ids))
        self._leave_out(unlisted, f"not in {config.table}")
        kept = [row for row, path in zip(rows, found, strict=True) if path is not None]
        return columns, ids, kept

    def _masks_of_images(
        self, columns: Sequence[str], ids: Sequence[str], rows: tables.Rows
    ) -> dict[str, str]:
        """Returns the mask of each image that has one; "" where the named one lacks."""
        config, there = self.builder_config, self._source.masks
        if not config.masks:
            return {}
        result: dict[str, str] = {}
        if config.mask_column:
            option = "mask_column"
            table.require_column(config.mask_column, columns, option, config.table)
            for name, row in zip(ids, rows, strict=True):
                if row[config.mask_column]:
                    result[name] = there.find(row[config.mask_column]) or ""
            lost = [name for name, mask in result.items() if not mask]
            self._leave_out(lost, f"its mask in {config.table} is not there")
        else:
            for name in ids:
                stem = pathlib.PurePosixPath(name).with_suffix("").as_posix()
                found = there.of_stem(stem + config.mask_suffix)
                if len(found) > 1:
                    raise ValueError(
                        f"Image {name!r} has several masks: {files.brief(found)}."
                    )
                if found:
                    result[name] = found[0]
            spare = len(there.sizes) - len(result)
            if spare and result:
                logging.getLogger(__name__).warning(
                    "xray_folder %r: %d files of masks/ belong to no image.",
                    config.name,
                    spare,
                )
        if not any(result.values()):
            raise FileNotFoundError(
                f"No image has a mask. Images: {files.brief(ids, 3)}; masks: "
                f"{files.brief(there.sizes, 3)}. Set `mask_suffix` or `mask_column`."
            )
        return result

    def _leave_out(self, names: Sequence[str], reason: str) -> None:
        self._left_out.extend(xray_builder.Quarantined(n, reason) for n in names)
