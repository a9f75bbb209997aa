"""The base of every builder: from loaded X-rays to a prepared folder.

A set says which records it has and how one is loaded; this class decodes, shrinks and
encodes on a pool of threads, sets unreadable files aside and writes, beside the
ArrayRecord files, what later rooms need to know: `index.csv`, `preparation.json` and
`quarantine.csv`.
"""

from __future__ import annotations

import abc
import collections
import concurrent.futures
import csv
import dataclasses
import functools
import io
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from tfds_builders import reader, splits, statistics, xray_features

INDEX = "index.csv"
PREPARATION = "preparation.json"
QUARANTINE = "quarantine.csv"
# The columns of index.csv besides those of the labels.
INDEX_START = ("split", "record", "image_id", "group")
INDEX_END = ("has_mask", "n_boxes", *xray_features.ABOUT)

RECORDS_PER_SHARD = 1000
_THREADS = min(8, os.cpu_count() or 1)
_LOOK_AHEAD = 4 * _THREADS  # images loaded but not yet written


@dataclasses.dataclass(frozen=True)
class Record:
    """An image of a set before it is loaded.

    Attributes:
      image_id: Unique in the set; holds no path of this machine.
      group: The patient, or the group of near copies, that must not cross splits.
      source: What `load` needs; each set's own.
      about: What is told about the image besides its labels.
      stratum: What splits should share alike; "" for nothing.
    """

    image_id: str
    group: str
    source: Any = None
    about: xray_features.About = xray_features.About()
    stratum: str = ""


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A file that was left out, and why."""

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """A record ready to be written, with what the reports say about it."""

    example: dict[str, Any]
    xray: xray_features.Xray


def option_names(config: type[tfds.core.BuilderConfig]) -> list[str]:
    """Names of the options that a builder's config adds to those of TFDS."""
    base = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
    return [f.name for f in dataclasses.fields(config) if f.name not in base]


class XrayBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Prepares a set of X-rays as ArrayRecord, without TensorFlow.

    Shards are written as examples come, so that memory does not grow with the set.
    (TFDS's `GeneratorBasedBuilder` would hold a gigabyte, then ask for TensorFlow.)

    A subclass sets VERSION and a config (a dataclass derived from
    `tfds.core.BuilderConfig` with a field `image_size`: longest stored side in pixels,
    0 as is) and says what its layout, records and fingerprint are.
    """

    builder_config: Any

    def __init__(self, **options: Any) -> None:
        """Passes `data_dir` and `config` on to TFDS; see `tfds.core.DatasetBuilder`."""
        options.setdefault("file_format", "array_record")
        super().__init__(**options)
        self._rows: list[dict[str, Any]] = []
        self._quarantined: list[Quarantined] = []
        self._tally = statistics.Tally()

    @abc.abstractmethod
    def layout(self) -> xray_features.Layout:
        """Features and class names, from the configuration alone."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A digest of the source; another source has another one.

        Raises:
          FileNotFoundError: If the source is missing.
        """

    @abc.abstractmethod
    def records(self) -> Mapping[str, Sequence[Record]]:
        """Records of each split, in the order in which they are stored.

        Split names are train, validation and test. Splits without records are left out.
        """

    @abc.abstractmethod
    def load(self, record: Record) -> xray_features.Xray:
        """Reads one record at its full size; called from several threads.

        Raises:
          reader.UnreadableImage: If it can't be read; it then goes to quarantine.
        """

    def left_out(self) -> Sequence[Quarantined]:
        """Files that `records` already left out; asked after `records`."""
        return ()

    # The split that is read unless another is asked for.
    DEFAULT_MANIFEST: ClassVar[str] = "official"

    def manifests(self) -> Mapping[str, splits.Manifest]:
        """The splits that a set can be read in, by name; opens no picture.

        By default one, `official`: the split in which the records are stored.
        """
        stored = {
            record.image_id: split
            for split, found in self.records().items()
            for record in found
        }
        return {"official": splits.Manifest("official", 1, stored)}

    def options(self) -> dict[str, Any]:
        """The configuration's own fields, as JSON gives them back."""
        config = self.builder_config
        chosen = {name: getattr(config, name) for name in option_names(type(config))}
        return json.loads(json.dumps(chosen, default=dict))

    def _info(self) -> tfds.core.DatasetInfo:
        layout = self.layout()
        reserved = {*INDEX_START, *INDEX_END} & set(layout.label_names)
        if reserved:
            raise ValueError(
                f"Label columns may not be called {sorted(reserved)}: these are "
                f"columns of {INDEX}. Rename them."
            )
        return self.dataset_info_from_configs(
            features=xray_features.features(layout),
            metadata=tfds.core.MetadataDict(xray_features.metadata(layout)),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        del dl_manager  # The source is a folder or a simulator.
        self._rows, self._quarantined = [], []
        self._tally = statistics.Tally()
        records = {name: list(found) for name, found in self.records().items() if found}
        if not records:
            raise ValueError(f"{self.name}/{self.builder_config.name}: no images.")
        self._quarantined.extend(self.left_out())
        shards: dict[str, list[Callable[[], Iterator[Any]]]] = {}
        for name, found in records.items():
            examples = self._examples(name, found)
            count = -(-len(found) // RECORDS_PER_SHARD)
            # All shards of a split draw from one stream, one after the other.
            take = functools.partial(itertools.islice, examples, RECORDS_PER_SHARD)
            # The last one draws to the end, so that the pool of threads is closed.
            rest = functools.partial(iter, examples)
            shards[name] = [*[take] * (count - 1), rest]
        return shards

    def _examples(
        self, split: str, records: Sequence[Record]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields position and example of what can be read, in order."""
        written = 0
        for record, result in self._encoded(split, records):
            if isinstance(result, Quarantined):
                self._quarantined.append(result)
                continue
            self._rows.append(self._index_row(split, written, record, result.xray))
            self._tally.add(result.xray, is_train=split == "train")
            yield written, result.example
            written += 1
        if not written:
            raise ValueError(
                f"{self.name}/{self.builder_config.name}: none of the {len(records)} "
                f"images of split {split!r} can be read; the last one: "
                f"{self._quarantined[-1].file}: {self._quarantined[-1].reason}."
            )

    def _encoded(
        self, split: str, records: Sequence[Record]
    ) -> Iterator[tuple[Record, _Encoded | Quarantined]]:
        """Loads on a pool, a bounded number ahead, and keeps the order."""
        name = f"{self.name}/{self.builder_config.name} {split}"
        waiting: collections.deque[
            tuple[Record, concurrent.futures.Future[_Encoded | Quarantined]]
        ] = collections.deque()
        upcoming = iter(records)
        with (
            concurrent.futures.ThreadPoolExecutor(_THREADS) as pool,
            tqdm.tqdm(
                total=len(records), desc=name, unit=" images", disable=None
            ) as progress,
        ):
            try:
                while True:
                    for record in upcoming:
                        waiting.append((record, pool.submit(self._encode, record)))
                        if len(waiting) >= _LOOK_AHEAD:
                            break
                    if not waiting:
                        return
                    record, future = waiting.popleft()
                    yield record, future.result()
                    progress.update()
            finally:
                pool.shutdown(cancel_futures=True)

    def _encode(self, record: Record) -> _Encoded | Quarantined:
        """Loads, shrinks and encodes one record; runs on the pool."""
        layout = self.layout()
        try:
            xray = self.load(record)
        except reader.UnreadableImage as error:
            return Quarantined(record.image_id, str(error))
        size = self.builder_config.image_size
        image = reader.shrink(xray.image, size, is_mask=False)
        mask = xray.mask
        if mask is not None:
            mask = reader.shrink(mask, size, is_mask=True)
        xray = dataclasses.replace(xray, image=image, mask=mask)
        example: dict[str, Any] = {
            "image": reader.encode_png(image),
            "image_id": record.image_id,
            "patient_id": record.group,
        }
        if layout.label_names:
            example["labels"] = {
                column: np.asarray(xray.labels[column], np.int8)
                for column in layout.label_names
            }
        if layout.mask_names:
            if mask is None:
                mask = np.full(image.shape, xray_features.NOT_ANNOTATED, np.uint8)
            example["mask"] = reader.encode_png(mask)
        if layout.object_names:
            example["objects"] = _objects(xray)
            example["objects_known"] = xray.boxes is not None
        for name in layout.about:
            example[name] = getattr(record.about, name)
        return _Encoded(example, xray)

    def _index_row(
        self, split: str, position: int, record: Record, xray: xray_features.Xray
    ) -> dict[str, Any]:
        """Returns a row of index.csv.

        A label column names the classes that are present, joined by "|": empty where
        nothing is known, "(none)" where it is known that there is none.
        """
        values = (split, position, record.image_id, record.group)
        row: dict[str, Any] = dict(zip(INDEX_START, values, strict=True))
        for column, names in self.layout().label_names.items():
            label = xray.labels[column]
            present = [n for n, v in zip(names, label, strict=True) if v == 1]
            known = (label != xray_features.UNKNOWN_LABEL).any()
            row[column] = "|".join(present) or ("(none)" if known else "")
        row["has_mask"] = int(xray.mask is not None)
        row["n_boxes"] = "" if xray.boxes is None else len(xray.boxes)
        for name in xray_features.ABOUT:
            value = getattr(record.about, name)
            row[name] = "" if value != value else value
        return row

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        """Writes the examples, then the reports, into the folder being prepared."""
        super()._download_and_prepare(dl_manager, download_config)
        columns = [*INDEX_START, *self.layout().label_names, *INDEX_END]
        self._write_csv(INDEX, columns, self._rows)
        files = [dataclasses.asdict(item) for item in self._quarantined]
        self._write_csv(QUARANTINE, ["file", "reason"], files)
        counts = collections.Counter(row["split"] for row in self._rows)
        report = {
            "builder": self.name,
            "version": str(self.version),
            "fingerprint": self.fingerprint(),
            "options": self.options(),
            "splits": dict(counts),
            **self._tally.summary(self.layout()),
            "quarantined": len(self._quarantined),
        }
        (self.data_path / PREPARATION).write_text(json.dumps(report, indent=2) + "\n")
        if self._quarantined:
            logging.getLogger(__name__).warning(
                "%s/%s: %d files were left out, for example %s: %s. All are listed, "
                "with their reasons, in %s of the prepared folder.",
                self.name,
                self.builder_config.name,
                len(self._quarantined),
                self._quarantined[0].file,
                self._quarantined[0].reason,
                QUARANTINE,
            )

    def _write_csv(
        self, name: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (self.data_path / name).write_text(text.getvalue())


def _objects(xray: xray_features.Xray) -> list[dict[str, Any]]:
    """Returns the boxes as TFDS stores them."""
    if xray.boxes is None or xray.box_labels is None:
        return []
    return [
        {"bbox": tfds.features.BBox(*map(float, box)), "label": int(label)}
        for box, label in zip(xray.boxes, xray.box_labels, strict=True)
    ]
