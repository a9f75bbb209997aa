"""A tiny prepared folder, made with plain TFDS and written by hand beside it."""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtpret_jax.data import sources

# Rows: split, height, width, label, finding, has mask, boxes (None: not known).
COUNTS = {"train": 12, "validation": 7, "test": 4}
LABELS = ["normal", "ill"]
FINDINGS = ["effusion", "nodule", "mass"]
BRIGHT = (0.30, 0.35, 0.60, 0.70)  # y0, x0, y1, x1 of the painted rectangle
LANDMARKS = [BRIGHT[:2], BRIGHT[2:]]  # y, x


def png(picture: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".png", picture)
    assert done
    return encoded.tobytes()


def draw(
    split: str, record: int, *, depth: type = np.uint8
) -> tuple[np.ndarray, np.ndarray]:
    """A dark noisy picture with a bright rectangle, and the rectangle's mask."""
    rng = np.random.default_rng([len(split), record])
    height, width = (80, 60) if record % 2 else (64, 64)
    picture = rng.integers(10, 60, (height, width)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    y0, x0, y1, x1 = (np.array(BRIGHT) * [height, width, height, width]).astype(int)
    picture[y0:y1, x0:x1] = 250
    mask[y0:y1, x0:x1] = 1
    mask[:2] = 255
    if depth is np.uint16:
        picture = picture.astype(np.uint16) * 257
    return picture, mask


def annotate(split: str, record: int) -> dict:
    """What is known of a record: every fourth lacks one kind of annotation each."""
    return {
        "label": -1 if split == "train" and record % 4 == 1 else record % 2,
        "finding": [record % 2, (record // 2) % 2, -1],
        "has_mask": record % 4 != 2 and split != "test",
        "box_known": record % 4 != 3,
        "landmarks": LANDMARKS if record % 4 else [(np.nan, np.nan)] * 2,
    }


class TinyXray(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Twelve, seven and four small pictures with every kind of annotation."""

    VERSION = tfds.core.Version("1.0.0")
    depth = np.uint8

    def picture(self):
        return tfds.features.Tensor(
            shape=(None, None, 1), dtype=self.depth, encoding="bytes"
        )

    def stored(self, picture):
        return picture[..., np.newaxis]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features
        return tfds.core.DatasetInfo(
            builder=self,
            disable_shuffling=True,
            features=features.FeaturesDict(
                {
                    "image": self.picture(),
                    "image_id": features.Text(),
                    "patient_id": features.Text(),
                    "labels": {
                        "label": features.Tensor(shape=(2,), dtype=np.int8),
                        "finding": features.Tensor(shape=(3,), dtype=np.int8),
                    },
                    "mask": features.Image(
                        shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "objects": features.Sequence(
                        {
                            "bbox": features.BBoxFeature(),
                            "label": features.ClassLabel(names=["lesion"]),
                        }
                    ),
                    "objects_known": np.bool_,
                    "landmarks": features.Tensor(shape=(2, 2), dtype=np.float32),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        yield from self._examples(split)

    def _examples(self, split):
        for record in range(COUNTS[split]):
            picture, mask = draw(split, record, depth=self.depth)
            known = annotate(split, record)
            label = known["label"]
            if not known["has_mask"]:
                mask[:] = 255
            box = tfds.features.BBox(*BRIGHT)
            objects = [{"bbox": box, "label": 0}] if known["box_known"] else []
            yield (
                record,
                {
                    "image": self.stored(picture),
                    "image_id": f"{split}-{record}",
                    "patient_id": f"{split}-{record}",
                    "labels": {
                        "label": np.array(
                            [-1, -1] if label < 0 else np.eye(2)[label], np.int8
                        ),
                        "finding": known["finding"],
                    },
                    "mask": png(mask),
                    "objects": objects,
                    "objects_known": known["box_known"],
                    "landmarks": np.array(known["landmarks"], np.float32),
                },
            )


class TinyXray16(TinyXray, skip_registration=True):
    """The same pictures with 16 bits."""

    depth = np.uint16


class TinyXrayPng(TinyXray, skip_registration=True):
    """The same, stored as sets were before pixels were stored bare."""

    def picture(self):
        return tfds.features.Image(
            shape=(None, None, 1), dtype=self.depth, encoding_format="png"
        )

    def stored(self, picture):
        return png(picture)


def prepare(builder_class: type, data_dir: pathlib.Path) -> pathlib.Path:
    builder = builder_class(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    folder = pathlib.Path(builder.data_dir)
    with open(folder / "index.csv", "w", newline="") as file:
        writer = csv.writer(file)
        columns = ["split", "record", "image_id", "group", "label", "finding"]
        writer.writerow([*columns, "has_mask", "n_boxes", "n_landmarks"])
        for split, count in COUNTS.items():
            for record in range(count):
                known = annotate(split, record)
                image_id = f"{split}-{record}"
                label = "" if known["label"] < 0 else LABELS[known["label"]]
                finding = "|".join(
                    n for n, v in zip(FINDINGS, known["finding"], strict=True) if v == 1
                )
                writer.writerow(
                    [
                        split,
                        record,
                        image_id,
                        image_id,
                        label,
                        finding or "(none)",
                        int(known["has_mask"]),
                        1 if known["box_known"] else "",
                        int(np.isfinite(known["landmarks"]).all(axis=1).sum()),
                    ]
                )
    metadata = {
        "label_names": {"label": LABELS, "finding": FINDINGS},
        "mask_names": ["background", "lung"],
        "object_names": ["lesion"],
        "landmark_names": ["first", "last"],
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    preparation = {"pixel_mean": 0.25, "pixel_std": 0.3}
    (folder / "preparation.json").write_text(json.dumps(preparation))
    return folder


@dataclasses.dataclass(frozen=True)
class Tiny:
    """A prepared folder and what was put into it."""

    folder: pathlib.Path
    counts = COUNTS
    bright = BRIGHT
    annotate = staticmethod(annotate)
    draw = staticmethod(draw)

    def open(self, split: str, manifest: str = "") -> sources.Source:
        """A split of the folder."""
        return sources.open_prepared(self.folder, split, manifest)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A prepared folder of 8-bit pictures."""
    return Tiny(prepare(TinyXray, tmp_path_factory.mktemp("prepared")))


@pytest.fixture(scope="session")
def tiny_16_bit(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The same with 16 bits."""
    return Tiny(prepare(TinyXray16, tmp_path_factory.mktemp("prepared16")))


@pytest.fixture(scope="session")
def tiny_png(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The same pictures as PNG."""
    return Tiny(prepare(TinyXrayPng, tmp_path_factory.mktemp("prepared_png")))
