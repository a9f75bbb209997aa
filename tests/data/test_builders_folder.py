"""What our builders write is what this room reads."""

import pathlib

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import pipeline, sources, transforms
from tfds_builders import phantom_xray

SIZE = 48
COUNT = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    builder = phantom_xray.Builder(
        data_dir=tmp_path_factory.mktemp("phantom"),
        config=phantom_xray.Config(
            name="tiny",
            body="chest",
            image_size=SIZE,
            train=COUNT,
            validation=3,
            test=2,
        ),
    )
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


@pytest.mark.smoke
def test_index_describes_the_records(folder):
    source = sources.open_prepared(folder, "train")
    assert len(source) == COUNT
    (column,) = source.metadata.label_names
    names = source.metadata.label_names[column]
    total = []
    for record, row in enumerate(source.index):
        example = source[record]
        present = [names[i] for i in np.flatnonzero(example[f"labels/{column}"] == 1)]
        assert row[column] == ("|".join(present) or "(none)")
        assert row["n_boxes"] == str(len(example["box"]))
        image = transforms.to_intensity(example["image"])
        assert transforms.decode(example["mask"]).shape == image.shape
        total.append(image.ravel())
    pixel = np.concatenate(total)
    np.testing.assert_allclose(
        source.pixel_statistics(), (pixel.mean(), pixel.std()), rtol=1e-4
    )


def test_data_dir_leads_to_the_folder(folder):
    data_dir = folder.parent.parent.parent
    row = config.DatasetConfig(builder="phantom_xray")
    assert pathlib.Path(sources.locate(data_dir, "tiny", row)) == folder


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
def test_every_kind_can_be_streamed(folder, kind):
    names = sources.open_prepared(folder, "train").metadata
    (column,) = names.label_names
    task = config.TaskConfig(kind=kind, target=column, image_size=32, batch_size=4)
    settings = config.InputConfig(threads=1, buffer=1)
    with pipeline.train_stream(
        "task", task, settings, sources.open_prepared(folder, "train"), seed=0
    ) as stream:
        arrays = next(stream).arrays
    if kind == "classification":
        assert (arrays["label"].sum(1) == 1).all()
    elif kind == "segmentation":
        assert arrays["segmentation"].max() < len(names.mask_names)
    else:
        assert arrays["box_class"].max() < len(names.object_names)
    with pipeline.eval_batches(
        "task", task, settings, sources.open_prepared(folder, "test")
    ) as stream:
        (batch,) = stream
    assert batch.arrays["record"].tolist() == [0, 1, -1, -1]
