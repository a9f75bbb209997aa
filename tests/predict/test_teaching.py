"""A teacher's features for images of stage 1: right, computed once, checked."""

import types as python_types

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.data import elements, sources
from mtpret_jax.experiment import pool, preparation, start, teaching
from mtpret_jax.models import heads


class Shop(python_types.SimpleNamespace):
    """What `teaching` needs of a workshop."""

    def open_set(self, name, split):
        return sources.open_prepared(self.folders[name], split)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    data = tmp_path_factory.mktemp("taught")
    datasets = {
        "chest": schema.DatasetConfig(
            options=dict(body="chest", image_size=64, train=6, validation=1, test=1)
        )
    }
    folders = preparation.prepare(datasets, data)
    config = schema.ExperimentConfig(datasets=datasets)
    return Shop(config=config, folders=folders)


def make_row(folder, features):
    """A run of stage 1 with a teacher."""
    distillation = schema.DistillationConfig(teacher=str(folder), features=features)
    stage = schema.ContrastiveConfig(
        objective="distillation",
        datasets={"chest": 1.0},
        image_size=32,
        distillation=distillation,
    )
    return schema.RunConfig(stage="contrastive", contrastive=stage)


def test_kept_features_are_those_of_the_teacher(shop, model_folder, load):
    teacher = load("classification")
    row = make_row(model_folder("classification"), 64)

    first = teaching.features(shop, row)["chest"]
    (kept,) = (epath.Path(shop.folders["chest"]) / "features").glob("*.npz")
    content = kept.read_bytes()
    again = teaching.features(shop, row)["chest"]

    np.testing.assert_array_equal(first, again)
    assert kept.read_bytes() == content
    source = shop.open_set("chest", "train")
    live = np.stack([teacher.embed(source.image(n)) for n in range(len(source))])
    view = jnp.asarray(np.random.default_rng(0).normal(size=first.shape))
    losses = [
        jnp.square(heads.unit(view) - heads.unit(jnp.asarray(x))).sum(-1)
        for x in (first, live)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-6)
    view = elements.View(
        source,
        row.contrastive,
        schema.InputConfig(),
        first_record=0,
        teacher=first,
    )
    np.testing.assert_array_equal(
        view(3, np.random.default_rng(0))["teacher"], first[3]
    )


def test_a_teacher_that_is_not_there_is_refused_before_anything_runs():
    row = make_row("/nowhere/run", 64)
    config = schema.ExperimentConfig(runs={"student": row})

    with pytest.raises(FileNotFoundError, match=r"student.*teacher: no folder '/nowh"):
        start.check(config)


def test_the_pools_of_a_teacher_are_those_of_its_student(model_folder):
    row = make_row(model_folder("classification"), 64)
    config = schema.ExperimentConfig(runs={"student": row})

    (own,) = pool.lineage(config, "student", epath.Path("/runs"), None)

    assert own["run"] == "student"  # The teacher learnt from none.


def test_features_of_another_width_are_refused(shop, model_folder):
    row = make_row(model_folder("classification"), 65)

    with pytest.raises(ValueError, match=r"distillation.features: .* has 64, got 65"):
        teaching.features(shop, row)
