"""Micro-batches of stage 1 give the step of the whole batch."""

import dataclasses

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.stages import accumulation
from mtpret_jax.training import sharding


def test_parts_take_blocks_in_turn():
    rows = np.arange(16)

    single = accumulation.split(rows, 2)
    blocks = accumulation.split({"rows": rows}, 2, rows=4)

    np.testing.assert_array_equal(single, [rows[::2], rows[1::2]])
    expected = [[*range(4), *range(8, 12)], [*range(4, 8), *range(12, 16)]]
    np.testing.assert_array_equal(blocks["rows"], expected)


def _in_parts(parts):
    def change(config):
        runs = {
            name: dataclasses.replace(
                run,
                contrastive=dataclasses.replace(
                    run.contrastive, microbatches=parts, batch_norm_rows=2
                ),
            )
            for name, run in config.runs.items()
        }
        return dataclasses.replace(config, runs=runs)

    return change


@pytest.mark.slow
def test_microbatches_of_stage_1_give_the_step_of_the_whole_batch(make_case):
    mesh = sharding.make_mesh(jax.devices()[:2])
    found = {}
    for parts in (1, 2):
        case = make_case("contrastive", _in_parts(parts))
        init = sharding.compile_init(
            lambda key, case=case: case.stage.init(key, case.shapes), mesh
        )
        _, step = sharding.compile_stage(case.stage, mesh)
        (batch,) = case.batches.values()
        state, scalars = step(init(jax.random.key(0)), sharding.put(batch, mesh))
        found[parts] = jax.device_get((state, scalars))

    (whole, scalars), (cut, same) = found[1], found[2]
    for name, value in scalars.items():
        np.testing.assert_allclose(same[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(cut.memory.queue, whole.memory.queue)
    for part in ("params", "opt_state"):
        pairs = zip(
            jax.tree.leaves(getattr(cut, part)),
            jax.tree.leaves(getattr(whole, part)),
            strict=True,
        )
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)
    # Of the variance, what lies between the parts is not counted.
    leaves = jax.tree.leaves_with_path(cut.model_state)
    for (path, one), other in zip(
        leaves, jax.tree.leaves(whole.model_state), strict=True
    ):
        is_mean = path[-1].key == "mean"
        tolerance = {"atol": 1e-4} if is_mean else {"atol": 0.05}
        np.testing.assert_allclose(one, other, **tolerance)


def test_microbatches_hold_whole_groups():
    def config(**changes):
        contrastive = {"datasets": {"set": 1.0}, "batch_size": 16, "queue_size": 16}
        run = {"stage": "contrastive", "contrastive": contrastive | changes}
        return {"datasets": {"set": {}}, "runs": {"one": run}}

    schema.parse(config(microbatches=2, batch_norm_rows=8))
    schema.parse(config(microbatches=2, batch_norm_rows=4))
    for wrong in ({"batch_norm_rows": 16}, {"batch_norm_rows": 0}):
        with pytest.raises(ValueError, match="microbatches of whole groups"):
            schema.parse(config(microbatches=2, **wrong))
