"""What every stage must hold: one program a task, any mesh, any accelerator."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mtpret_jax.training import checkpoint, sharding

# Sums are taken in another order on another mesh; float32 has seven digits.
TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}
# For what a stage does alike, whatever the kind of its tasks.
each_stage = pytest.mark.parametrize(
    "case", ["contrastive", "continual", "finetune"], indirect=True
)


def start(case, mesh):
    init = sharding.compile_init(lambda key: case.stage.init(key, case.shapes), mesh)
    return init(jax.random.key(0))


def placed(state, mesh):
    """A copy on every device: a step consumes the state that it is given."""
    return jax.device_put(state, sharding.replicated(mesh))


def steps(case, mesh, state, count):
    """Steps through the tasks in turn, beginning a segment at each."""
    begin, step = sharding.compile_stage(case.stage, mesh)
    found = []
    for name in list(case.batches) * count:
        state = begin(state, name)
        state, scalars = step(state, sharding.put(case.batches[name], mesh))
        found.append({key: float(value) for key, value in scalars.items()})
    return state, found, step


def assert_near(one, other, **tolerance):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for first, second in pairs:
        np.testing.assert_allclose(np.asarray(first), np.asarray(second), **tolerance)


@pytest.mark.slow
def test_eight_devices_step_like_one(case):
    """Each task from the same start: rounding grows with every step that follows."""
    single = sharding.make_mesh(jax.devices()[:1])
    every = sharding.make_mesh()
    first = jax.device_get(start(case, single))
    assert_near(first.params, start(case, every).params, rtol=1e-5, atol=1e-6)

    for name in case.batches:
        alone = dataclasses.replace(case, batches={name: case.batches[name]})
        one, scalars_one, _ = steps(alone, single, placed(first, single), 1)
        eight, scalars_eight, _ = steps(alone, every, placed(first, every), 1)

        for key, value in scalars_one[0].items():
            told = f"{name}: {key}"
            np.testing.assert_allclose(
                value, scalars_eight[0][key], err_msg=told, **TOLERANCE
            )
        assert scalars_one[0].keys() == scalars_eight[0].keys()
        assert_near(one.params, eight.params, **TOLERANCE)
        assert_near(one.model_state, eight.model_state, **TOLERANCE)


@pytest.mark.slow
@each_stage
def test_a_task_is_compiled_once(case):
    mesh = sharding.make_mesh(jax.devices()[:1])

    _, _, step = steps(case, mesh, start(case, mesh), 3)

    assert step._cache_size() == len(case.batches)


@pytest.mark.smoke
@pytest.mark.slow
@pytest.mark.parametrize("run", ["contrastive", "continual"])
def test_steps_run_without_hidden_transfers(run, make_case):
    case, mesh = make_case(run), sharding.make_mesh()
    state = start(case, mesh)

    with jax.transfer_guard("disallow"):
        begin, step = sharding.compile_stage(case.stage, mesh)
        for name, batch in case.batches.items():
            state = begin(state, name)
            state, scalars = step(state, sharding.put(batch, mesh))
        values = jax.device_get(scalars)

    assert np.isfinite(values["loss"])


@pytest.mark.slow
@each_stage
def test_a_checkpoint_of_eight_devices_restores_on_one_and_back(case, tmp_path):
    single = sharding.make_mesh(jax.devices()[:1])
    every = sharding.make_mesh()
    shapes = jax.eval_shape(
        lambda key: case.stage.init(key, case.shapes), jax.random.key(0)
    )
    for number, (written_on, read_on) in enumerate([(every, single), (single, every)]):
        state = start(case, written_on)
        saved = checkpoint.RunCheckpoints(tmp_path / str(number))
        saved.save(state, 3)
        saved.wait()
        template = jax.tree.map(
            lambda leaf, mesh=read_on: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding.replicated(mesh)
            ),
            shapes,
        )

        restored = saved.restore(3, template)
        saved.close()

        for old, new in zip(
            jax.tree.leaves(state), jax.tree.leaves(restored), strict=True
        ):
            assert new.sharding.mesh == read_on
            np.testing.assert_array_equal(np.asarray(old), np.asarray(new))


@pytest.mark.slow
def test_every_step_lowers_for_tpu_and_cuda(case):
    shapes = jax.eval_shape(
        lambda key: case.stage.init(key, case.shapes), jax.random.key(0)
    )
    for batch in case.batches.values():
        as_shapes = jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), batch
        )
        step = jax.jit(lambda state, batch: case.stage.step(state, batch))

        exported = export.export(step, platforms=("tpu", "cuda"))(shapes, as_shapes)

        assert exported.platforms == ("tpu", "cuda")


def test_runs_of_all_seeds_share_a_program(make_case):
    """So that a study compiles each of its steps once."""
    cases = [
        make_case(run, functools.partial(dataclasses.replace, seed=seed))
        for run in ("contrastive", "scratch_missing_tooth")
        for seed in (0, 7)
    ]
    texts = []
    for each in cases:
        shapes = jax.eval_shape(
            functools.partial(each.stage.init, batches=each.shapes), jax.random.key(0)
        )
        (batch,) = each.batches.values()
        texts.append(jax.jit(each.stage.step).lower(shapes, batch).as_text())
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]


def test_the_step_counter_and_dtypes_are_explicit(case):
    shapes = jax.eval_shape(
        lambda key: case.stage.init(key, case.shapes), jax.random.key(0)
    )

    assert shapes.step.dtype == jnp.int32
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(shapes))
