"""Builders of released sets on real files, where these can be found.

The pictures are not part of the repository.
"""

import pathlib

import cv2
import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import tbx11k


def test_tbx11k_reads_the_makers_own_files(xray: pathlib.Path, tmp_path):
    folder = xray / "tbx11k_sample"
    config = tbx11k.Config(name="real", folder=str(folder))
    builder = tbx11k.Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()

    found = tfds.builder_from_directory(str(builder.data_path)).as_data_source("train")
    examples = {example["image_id"].decode(): example for example in found}

    assert list(examples) == ["health/h0001.png", "tb/tb0005.png", "tb/tb0007.png"]
    for name, example in examples.items():
        stored = cv2.imread(str(folder / "imgs" / name), cv2.IMREAD_UNCHANGED)
        assert stored.shape == (512, 512, 3)
        np.testing.assert_allclose(example["image"], stored[..., :1], atol=1)
        assert example["objects_known"]
    labels = [list(example["labels"]["label"]) for example in examples.values()]
    assert labels == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    kinds = [list(example["objects"]["label"]) for example in examples.values()]
    assert kinds == [[], [0], [1, 1]]
    # The JSON's x, y, width and height of the one box, in pixels of 512.
    x, y, w, h = 381.8337, 126.8734, 40.2369, 44.5658
    np.testing.assert_allclose(
        np.array(examples["tb/tb0005.png"]["objects"]["bbox"]) * 512,
        [[y, x, y + h, x + w]],
        atol=0.001,
    )
    assert not (builder.data_path / "quarantine.csv").read_text().splitlines()[1:]
