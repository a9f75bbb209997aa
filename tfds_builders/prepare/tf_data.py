"""Lets `tfds.load` read ArrayRecord as tf.data, which TFDS itself does not.

Only where TensorFlow is installed. It is reached through TFDS, never imported here.
"""

from __future__ import annotations

from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_parser
from tensorflow_datasets.core.utils import lazy_imports_utils


def dataset(
    info: tfds.core.DatasetInfo,
    split: Any,
    *,
    decoders: Any = None,
    read_config: tfds.ReadConfig | None = None,
    shuffle_files: bool = False,
) -> Any:
    """The records of a split as a `tf.data.Dataset`, in their order.

    Args:
      info: What TFDS knows of a prepared dataset in ArrayRecord.
      split: Name, slice or sum of splits, as TFDS takes them.
      decoders: As `tfds.core.DatasetBuilder.as_dataset` takes them.
      read_config: Its seed, options, parallel calls and input context are heeded.
      shuffle_files: Shuffles the records, not only files: any can be reached at once.

    Raises:
      NotImplementedError: If `read_config` asks for `tfds_id`, which names places in
        files that are read one after the other.
    """
    tf: Any = lazy_imports_utils.tensorflow
    reading: Any = lazy_imports_utils.array_record_data_source
    settings = read_config or tfds.ReadConfig()
    if settings.add_tfds_id:
        raise NotImplementedError(
            "add_tfds_id does not work with ArrayRecord; `image_id` is unique in a set."
        )
    features: Any = info.features
    if isinstance(decoders, tfds.decode.PartialDecoding):
        features = decoders.extract_features(features)
        decoders = decoders.decoders
    parser = example_parser.ExampleParser(features.get_serialized_info())
    source = reading.ArrayRecordDataSource(info.splits[split].file_instructions)

    def read(place: Any) -> bytes:
        return source[int(place)]

    def decode(place: Any) -> Any:
        example = tf.numpy_function(read, [place], tf.string, stateful=False)
        example.set_shape(())
        return features.decode_example(parser.parse_example(example), decoders=decoders)

    places = tf.data.Dataset.range(len(source))
    if settings.input_context is not None:
        places = places.shard(
            settings.input_context.num_input_pipelines,
            settings.input_context.input_pipeline_id,
        )
    if shuffle_files:
        places = places.shuffle(
            len(source),
            seed=settings.shuffle_seed,
            reshuffle_each_iteration=settings.shuffle_reshuffle_each_iteration,
        )
    examples = places.map(
        decode, num_parallel_calls=settings.num_parallel_calls_for_decode
    )
    return examples.with_options(settings.options)
