"""What each objective compares with what, on embeddings that are plain to see."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.objectives import dino, distillation, lejepa, moco_v3, objective

ROWS, WIDTH, SMALL = 6, 5, 3


class FirstRow:
    """A backbone whose features are the first row of pixels."""

    def apply(self, variables, image, **_):
        pooled = image[:, 0, :, 0]
        return types.Features((image,), pooled, image), variables.model_state


class Same(nn.Module):
    """Gives back what it gets."""

    def __call__(self, pooled):
        return pooled


ENCODER = objective.Encoder(FirstRow(), Same(), 0)


@pytest.fixture
def arrays():
    """A batch of pictures whose first rows are drawn, positives in another order."""
    rng = np.random.default_rng(0)
    order = rng.permutation(ROWS)

    def pictures(*shape):
        return rng.normal(size=(*shape, WIDTH, WIDTH, 1)).astype(np.float32)

    return {
        "query": pictures(ROWS),
        "positive": pictures(ROWS),
        "local": pictures(ROWS, SMALL),
        "partner": np.argsort(order).astype(np.int32),
        "query_owner": np.arange(ROWS, dtype=np.int32),
        "positive_owner": order.astype(np.int32),
    }


def seen(arrays):
    """Unit embeddings by image: queries, positives [B, D], small views [B, V, D]."""
    parts = (
        arrays["query"][:, 0, :, 0],
        arrays["positive"][arrays["partner"], 0, :, 0],
        arrays["local"][:, :, 0, :, 0],
    )
    return [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in parts]


def told(learnt, pair, memory, arrays):
    """Mean loss and what is told of a step."""
    key = jax.random.key(0)
    prepared = learnt.prepare(key, memory, pair, arrays, jnp.zeros(()))
    loss, _, found = learnt.loss(pair, {}, prepared.rows, prepared.shared)
    return float(loss.mean()), found, prepared


def test_a_student_learns_from_both_teachers_views_but_never_from_its_own(arrays):
    config = schema.DinoConfig(prototypes=4, embedding_size=WIDTH)
    learnt = dino.Dino(ENCODER, config)
    drawn = np.random.default_rng(1).normal(size=(WIDTH, 4)).astype(np.float32)
    pair = {"backbone": {}, "head": {"projection": {}, "prototypes": drawn}}
    center = np.array([0.1, -0.2, 0.3, 0.0], np.float32)
    memory = dino.Memory(objective.SlowCopy(pair, {}), jnp.asarray(center))

    loss, _, prepared = told(learnt, pair, memory, arrays)

    prototypes = drawn / np.linalg.norm(drawn, axis=0)
    query, positive, small = (x @ prototypes for x in seen(arrays))

    def cross(student, teacher):
        chosen = np.exp((teacher - center) / 0.04)
        chosen /= chosen.sum(-1, keepdims=True)
        scores = student / 0.1
        scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
        return -(chosen * scores).sum(-1).mean()

    terms = [cross(query, positive), cross(positive, query)]
    terms += [cross(small[:, v], t) for v in range(SMALL) for t in (query, positive)]
    assert loss == pytest.approx(np.mean(terms), rel=1e-5)
    mean = np.concatenate([query, positive]).mean(0)
    np.testing.assert_allclose(
        prepared.memory.center, 0.9 * center + 0.1 * mean, atol=1e-6
    )


def test_every_view_is_drawn_to_the_mean_of_the_large_views(arrays):
    config = schema.LejepaConfig(weight=0.0, slices=8, embedding_size=WIDTH)
    learnt = lejepa.Lejepa(ENCODER, config)
    pair = {"backbone": {}, "head": {}}

    loss, _, _ = told(learnt, pair, {}, arrays)

    query = arrays["query"][:, 0, :, 0]
    positive = arrays["positive"][arrays["partner"], 0, :, 0]
    views = [query, positive, *np.moveaxis(arrays["local"][:, :, 0, :, 0], 1, 0)]
    center = (query + positive) / 2
    wanted = np.mean([np.square(center - view).mean() for view in views])
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_the_own_key_comes_first_where_views_are_alike(arrays):
    learnt = moco_v3.MocoV3(ENCODER, Same(), schema.MocoV3Config())
    pair = {"backbone": {}, "head": {"projection": {}, "predictor": {}}}
    memory = learnt.begin(objective.SlowCopy({}, {}), pair, {})
    order = np.argsort(arrays["partner"])
    alike = {**arrays, "positive": arrays["query"][order]}

    _, found, _ = told(learnt, pair, memory, alike)
    one_owner = np.zeros(ROWS, np.int32)
    owners = {"query_owner": one_owner, "positive_owner": one_owner}
    alone, _, _ = told(learnt, pair, memory, arrays | owners)

    np.testing.assert_array_equal(found["accuracy"], 1.0)
    assert alone == pytest.approx(0, abs=1e-6)  # All others are the same patient's.


def test_both_views_are_drawn_to_the_teacher_of_their_own_image(arrays):
    teacher = np.random.default_rng(2).normal(size=(ROWS, WIDTH)).astype(np.float32)
    order = np.argsort(arrays["partner"])
    taught = {"query_teacher": teacher, "positive_teacher": teacher[order]}
    pair = {"backbone": {}, "head": {}}

    loss, found, _ = told(distillation.Distillation(ENCODER), pair, {}, arrays | taught)

    target = teacher / np.linalg.norm(teacher, axis=-1, keepdims=True)
    query, positive, _ = seen(arrays)
    wanted = [np.square(view - target).sum(-1).mean() for view in (query, positive)]
    assert loss == pytest.approx(np.mean(wanted), rel=1e-5)
    assert found["loss"].shape == (ROWS,)
