"""The base of every builder: from loaded X-rays to a prepared folder.

A set says which records it has and how one is loaded; this class decodes, shrinks and
encodes on all cores, sets unreadable files aside and writes, beside the ArrayRecord
files, what later rooms need to know: see `reports`. A preparation that was stopped
resumes where it was: see `shards`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core import (
    dataset_builder,
    example_serializer,
    file_adapters,
)

from tfds_builders import prepared, prepared_types, storage, xray_features
from tfds_builders.images import polarity, reader
from tfds_builders.prepare import (
    beam,
    checks,
    digests,
    examples,
    pool,
    records,
    reports,
    shards,
    statistics,
    tf_data,
)
from tfds_builders.prepare import staging as staging_lib
from tfds_builders.sources import files

Record = records.Record
Quarantined = records.Quarantined
RECORDS_PER_SHARD = 1000


def option_names(config: type[tfds.core.BuilderConfig]) -> list[str]:
    """Names of the options that a builder's config adds to those of TFDS."""
    base = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
    return [f.name for f in dataclasses.fields(config) if f.name not in base]


class XrayBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):
    """Prepares a set of X-rays as ArrayRecord, without TensorFlow.

    Shards are written as examples come, so that memory does not grow with the set.
    (TFDS's `GeneratorBasedBuilder` would hold a gigabyte, then ask for TensorFlow.)
    With `beam_runner` or `beam_options` in `tfds.download.DownloadConfig`, the shards
    are written by Apache Beam.

    A subclass sets VERSION and a config (a dataclass derived from
    `tfds.core.BuilderConfig` with a field `image_size`: longest stored side in pixels,
    0 as is) and says what its layout, records and fingerprint are. With a field
    `invert` (patterns of image_ids), those images are turned around after reading, and
    others that look inverted are pointed out.
    """

    builder_config: Any

    def __init__(self, **options: Any) -> None:
        """Passes `data_dir` and `config` on to TFDS; see `tfds.core.DatasetBuilder`."""
        options.setdefault("file_format", "array_record")
        super().__init__(**options)
        self._staging: staging_lib.Staging | None = None

    @abc.abstractmethod
    def layout(self) -> xray_features.Layout:
        """Features and class names, from the configuration alone."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A digest of the source; another source has another one.

        Raises:
          FileNotFoundError: If the source is missing.
        """

    def state(self) -> str:
        """While it is the same, `fingerprint` is; see `digests.of_state`."""
        return ""

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
          OSError: If the source has gone; the preparation then stops. A file that was
            there when the source was listed is never set aside for being away.
        """

    @property
    def has_patient_namespace(self) -> bool:
        """Whether groups are patients as other sets may name them, "nih:13118"."""
        return False

    def left_out(self) -> Sequence[Quarantined]:
        """Files that `records` already left out; asked after `records`."""
        return ()

    def about_masks(self) -> str:
        """What to look at where every mask is background; for one line of an error."""
        return "See that the release is whole."

    # The split that is read unless another is asked for.
    DEFAULT_MANIFEST: ClassVar[str] = "official"

    def manifests(self) -> Mapping[str, prepared.Manifest]:
        """The splits that a set can be read in, by name; opens no image.

        By default one, `official`: the split in which the records are stored.
        """
        stored = {
            record.image_id: split
            for split, found in self.records().items()
            for record in found
        }
        return {"official": prepared.Manifest("official", 1, stored)}

    def options(self) -> dict[str, prepared_types.Json]:
        """The configuration's own fields, as JSON gives them back."""
        config = self.builder_config
        chosen = {name: getattr(config, name) for name in option_names(type(config))}
        return json.loads(json.dumps(chosen, default=dict))

    @property
    def _full_name(self) -> str:
        """The set and its config, for messages."""
        return f"{self.name}/{self.builder_config.name}"

    def _info(self) -> tfds.core.DatasetInfo:
        layout = self.layout()
        checks.check_columns(layout)
        return storage.Info(
            self,
            features=xray_features.features(layout),
            metadata=tfds.core.MetadataDict(xray_features.metadata(layout)),
            disable_shuffling=True,
        )

    def find_files(self, dl_manager: tfds.download.DownloadManager) -> None:
        """Learns where TFDS keeps files, or fetches them; called first of all."""
        del dl_manager  # Most sources are a folder or a simulator.

    def encode(self, split: str, record: Record) -> shards.Encoded | Quarantined:
        """Loads, shrinks and encodes one record; called from several threads."""
        layout = self.layout()
        try:
            xray = self.load(record)
        except reader.UnreadableImage as error:
            return Quarantined(record.image_id, str(error))
        except OSError as error:
            raise files.SourceLost(f"{record.image_id}: {error}") from error
        invert = getattr(self.builder_config, "invert", None)
        is_named = polarity.is_named(record.image_id, invert or ())
        if is_named:
            image = polarity.invert(xray.image)
            xray = dataclasses.replace(xray, image=image)
        xray = examples.shrink(xray, self.builder_config.image_size)
        # Whoever named it has looked at it; a simulator has no such option.
        is_checked = invert is not None and not is_named
        is_checked &= polarity.is_made_for(record.about.body_part)
        flag = is_checked and polarity.looks_inverted(xray.image)
        features, serializer = self._serializer
        example = features.encode_example(examples.example(layout, record, xray))
        proto: Any = serializer.get_tf_example(example)
        return shards.Encoded(
            # Else the order of features differs between processes.
            proto.SerializeToString(deterministic=True),
            examples.index_row(layout, split, record, xray, looks_inverted=flag),
            statistics.tally(xray, is_train=split == "train"),
        )

    @functools.cached_property
    def _serializer(
        self,
    ) -> tuple[tfds.features.FeaturesDict, example_serializer.ExampleSerializer]:
        features = xray_features.features(self.layout())
        specs: Any = features.get_serialized_info()
        return features, example_serializer.ExampleSerializer(specs)

    def download_and_prepare(self, **options: Any) -> None:
        """Prepares the set; resumes where an earlier call was stopped.

        Args:
          **options: Those of `tfds.core.DatasetBuilder.download_and_prepare`.

        Raises:
          ValueError: If the set is there, made with other options or from a source
            that has changed since: TFDS would give the old one without a word.
          OSError: If the source has gone, the disk is full or may not be written, say;
            finished parts are kept.
        """
        checks.refuse_stale(
            self._full_name, self.data_path, self.options(), self.fingerprint
        )
        try:
            super().download_and_prepare(**options)
        except (FileNotFoundError, BlockingIOError):
            raise
        except files.SourceLost as error:
            raise files.SourceLost(
                f"{self._full_name}: preparing it stopped, since "
                f"its source, or a part of it, is gone or may not be read: {error}. "
                "See that it is all there, then run the same again: finished parts are "
                "kept."
            ) from error
        except OSError as error:
            raise OSError(
                f"{self._full_name}: preparing it in "
                f"{self.data_dir} stopped: {error}. See that there is room and that "
                "it may be written, then run the same again: finished parts are kept."
            ) from error
        finally:
            if self._staging is not None:
                self._staging.release()

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        """Writes the examples, then the reports, into the folder being prepared."""
        settings = download_config or tfds.download.DownloadConfig()
        if settings.max_examples_per_split is not None:
            raise ValueError(
                f"{self.name}: max_examples_per_split is not supported; a set is "
                "prepared whole, or not at all."
            )
        self.find_files(dl_manager)
        found = {name: list(part) for name, part in self.records().items() if part}
        checks.check_records(
            self._full_name, found, getattr(self.builder_config, "invert", ())
        )
        fingerprint = self.fingerprint()
        self._staging = staging_lib.Staging(
            self.data_path.parent / str(self.version),
            key=self._key(fingerprint, found),
            file_format=self.info.file_format or file_adapters.DEFAULT_FILE_FORMAT,
            keep=self.data_path.name,
        )
        plan = shards.plan(found, size=RECORDS_PER_SHARD)
        if settings.beam_runner is None and settings.beam_options is None:
            pool.write(self, plan, self._staging)
        else:
            beam.write(
                self,
                plan,
                self._staging,
                runner=settings.beam_runner,
                options=settings.beam_options,
            )
        self._finish(plan, self._staging, fingerprint)

    def _as_dataset(self, split: Any, **options: Any) -> Any:
        if self.info.file_format is file_adapters.FileFormat.ARRAY_RECORD:
            return tf_data.dataset(self.info, split, **options)
        return super()._as_dataset(split, **options)

    def _post_download_and_prepare_hook(self) -> None:
        """Throws away what is needed no more; called when the set is in its place."""
        if self._staging is not None:
            self._staging.remove()

    def _key(self, fingerprint: str, found: Mapping[str, Sequence[Record]]) -> str:
        """Digest of all that the content of the shards depends on, code included."""
        return digests.of_texts(
            self.name,
            str(self.version),
            fingerprint,
            json.dumps(self.options()),
            repr(self.layout()),
            str(self.info.file_format),
            str(RECORDS_PER_SHARD),
            digests.of_records(found),
            digests.of_code(type(self)),
        )

    def _finish(
        self,
        plan: Sequence[shards.Shard],
        staging: staging_lib.Staging,
        fingerprint: str,
    ) -> None:
        """Makes the finished shards and their reports a prepared set."""
        layout = self.layout()
        finished = [(shard.split, staging.report(shard.number)) for shard in plan]
        totals = reports.write_tables(self.data_path, layout, finished, self.left_out())
        checks.check_splits(self._full_name, plan, staging, totals)
        checks.check_content(self._full_name, totals, layout, self.about_masks)
        content: prepared_types.Content = {
            "builder": self.name,
            "version": str(self.version),
            "fingerprint": fingerprint,
            "options": self.options(),
            "records_sha256": totals.records.hexdigest(),
            "has_patient_namespace": self.has_patient_namespace,
            "default_manifest": self.DEFAULT_MANIFEST,
            "splits": totals.counts(),
            **statistics.summary(totals.tally, layout),
            "quarantined": totals.left_out,
            "polarity_warnings": totals.inverted,
            "blank": totals.blank,
        }
        prepared.write_preparation(self.data_path, content, self.manifests())
        reports.warn(self._full_name, totals)
        infos = []
        for split, lengths in totals.lengths.items():
            template = self._get_filename_template(split)
            infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=lengths,
                    num_bytes=totals.bytes[split],
                    filename_template=template,
                )
            )
            part = [shard.number for shard in plan if shard.split == split]
            there = [number for number in part if staging.path(number).exists()]
            targets = template.sharded_filepaths(num_shards=len(lengths))
            for number, target in zip(there, targets, strict=True):
                staging.place(number, target)
        self.info.set_splits(tfds.core.SplitDict(infos))
