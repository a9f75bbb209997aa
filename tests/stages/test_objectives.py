"""Each objective of stage 1: on any mesh, in parts, with the targets of its image."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.stages import contrastive
from mtpret_jax.training import sharding

SMALL = dict(embedding_size=8, hidden_size=16)
OPTIONS = {
    "moco": {},
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
each = pytest.mark.parametrize("name", list(OPTIONS))


def changed(name, config, **more):
    """The tiny config with another objective; of a ViT where that must be."""
    row = config.runs["contrastive"]
    options = OPTIONS[name] | more
    if name != "moco":
        default = schema.ContrastiveConfig()
        moco = ("queue_size", "momentum", "temperature", "embedding_size")
        options |= {option: getattr(default, option) for option in moco}
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
@each
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
