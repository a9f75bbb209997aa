"""Each objective of stage 1: on any mesh, in parts, with the targets of its image."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.models import vit_families
from mtpret_jax.stages import contrastive
from mtpret_jax.training import sharding

SMALL = dict(embedding_size=8, hidden_size=16)
OPTIONS = {
    "moco_v3": {"moco_v3": schema.MocoV3Config(**SMALL)},
    "dino": {
        "dino": schema.DinoConfig(prototypes=32, **SMALL),
        "local_views": 2,
        "local_size": 32,
    },
    "lejepa": {
        "lejepa": schema.LejepaConfig(slices=16, **SMALL),
        "local_views": 1,
        "local_size": 32,
    },
    "mae": {
        "mae": schema.MaeConfig(decoder_width=16, decoder_depth=1, decoder_heads=2)
    },
}


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """Two blocks in a ViT: compiling twelve would take most of the time."""
    monkeypatch.setitem(vit_families.SIZES, "tiny", vit_families.Size(192, 2, 3))


def changed(name, config, **more):
    """The tiny config with another objective; of a ViT where that must be."""
    row = config.runs["contrastive"]
    options = OPTIONS[name] | more
    stage = dataclasses.replace(row.contrastive, objective=name, **options)
    row = dataclasses.replace(row, contrastive=stage)
    if name == "mae":
        vit = dict(name="vit_tiny", family="mae_finetuned", width=8)
        backbone = dataclasses.replace(config.backbone, **vit)
        config = dataclasses.replace(config, backbone=backbone)
    return dataclasses.replace(config, runs={**config.runs, "contrastive": row})


def made(make_case, name, **more):
    """The stage of an objective, and a batch for it."""
    case = make_case("contrastive", functools.partial(changed, name, **more))
    settings = case.stage.config
    if settings.local_views:
        batch = case.batches[contrastive.TASK]
        shape = (settings.batch_size, settings.local_views, 32, 32, 1)
        local = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        batch = batch.replace(arrays={**batch.arrays, "local": local})
        case = dataclasses.replace(case, batches={contrastive.TASK: batch})
    return case


def one_step(case, mesh):
    """The state after a step on a mesh, and its scalars."""
    init = sharding.compile_init(lambda key: case.stage.init(key, case.shapes), mesh)
    begin, step = sharding.compile_stage(case.stage, mesh)
    state = begin(init(jax.random.key(0)), contrastive.TASK)
    batch = sharding.put(case.batches[contrastive.TASK], mesh)
    state, scalars = step(state, batch)
    return jax.device_get(state), jax.device_get(scalars)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dino", "lejepa", "mae"])
def test_eight_devices_step_like_one(name, make_case):
    case = made(make_case, name)

    one, told = one_step(case, sharding.make_mesh(jax.devices()[:1]))
    eight, told_of_eight = one_step(case, sharding.make_mesh())

    for key, value in told.items():
        assert np.isfinite(value), key
        assert value == pytest.approx(told_of_eight[key], rel=2e-3, abs=2e-4), key
    for first, second in zip(
        jax.tree.leaves((one.params, one.memory)),
        jax.tree.leaves((eight.params, eight.memory)),
        strict=True,
    ):
        np.testing.assert_allclose(first, second, rtol=2e-3, atol=2e-4)


def alike(case):
    """A batch whose two views of an image are the same, and BatchNorm of all."""
    batch = case.batches[contrastive.TASK].arrays
    order = np.argsort(batch["partner"])
    return {**batch, "positive": batch["query"][order]}


@pytest.mark.parametrize("name", ["moco_v3", "dino", "lejepa"])
def test_a_view_is_compared_with_the_other_view_of_its_own_image(name, make_case):
    small = 1 if name == "dino" else 0
    case = made(make_case, name, batch_norm_rows=0, local_views=small)
    learnt = case.stage.objective

    @jax.jit
    def compare(key):
        state = case.stage.init(key, case.shapes)
        pair = {
            "backbone": state.params["backbone"],
            "head": state.params["heads"][contrastive.TASK],
        }
        prepared = learnt.prepare(
            key, learnt.begin(state.memory, pair, body(state)), pair, alike(case), 0.0
        )
        if name != "lejepa":
            return prepared
        return learnt.loss(pair, body(state), prepared.rows, prepared.shared)[2]

    def body(state):
        return state.model_state["backbone"]

    found = compare(jax.random.key(0))

    if name == "lejepa":
        np.testing.assert_allclose(found["likeness"], 0, atol=1e-6)
        return
    partner = case.batches[contrastive.TASK].arrays["partner"]
    if name == "moco_v3":
        rows, keys = found.rows, found.shared
        one, other = keys["query"], keys["positive"][rows["query_own"]]
        np.testing.assert_array_equal(rows["positive_own"][partner], np.arange(8))
    else:
        one, other = found.rows["of_local"][:, 0], found.rows["of_positive"]
        back = found.rows["of_query"][partner]
        np.testing.assert_allclose(one, back, atol=1e-5)
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(one[0] - one[1]).max() > 1e-3


@pytest.mark.slow
def test_parts_of_a_batch_add_up_to_it(make_case):
    mesh = sharding.make_mesh(jax.devices()[:1])

    whole, told = one_step(made(make_case, "mae"), mesh)
    parts, told_of_parts = one_step(made(make_case, "mae", microbatches=2), mesh)

    assert told["loss"] == pytest.approx(told_of_parts["loss"], rel=1e-4)
    for first, second in zip(
        jax.tree.leaves(whole.params), jax.tree.leaves(parts.params), strict=True
    ):
        np.testing.assert_allclose(first, second, rtol=2e-3, atol=2e-4)


def test_what_an_objective_does_not_take_is_refused(make_case):
    with pytest.raises(ValueError, match=r"microbatches: 'lejepa' compares a whole"):
        made(make_case, "lejepa", microbatches=2)
    with pytest.raises(ValueError, match=r"'mae' is for ViTs"):
        make_case(
            "contrastive",
            lambda config: dataclasses.replace(
                changed("mae", config), backbone=config.backbone
            ),
        )


@pytest.mark.slow
def test_the_patches_of_a_vit_rest_in_moco_v3(make_case):
    vit = made(make_case, "mae").config.backbone

    def change(config):
        return dataclasses.replace(changed("moco_v3", config), backbone=vit)

    case = make_case("contrastive", change)
    mesh = sharding.make_mesh(jax.devices()[:1])
    init = sharding.compile_init(lambda key: case.stage.init(key, case.shapes), mesh)
    before = jax.device_get(init(jax.random.key(0))).params["backbone"]

    after = one_step(case, mesh)[0].params["backbone"]

    for name, tree in before.items():
        alike = jax.tree.map(np.array_equal, tree, after[name])
        assert all(jax.tree.leaves(alike)) == (name == "patch_embed"), name
