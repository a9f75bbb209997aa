"""Stage 1: keys of the query's own image or patient are no negatives of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.stages import contrastive


@pytest.mark.usefixtures("optimised")
def test_own_keys_are_no_negatives_and_owners_follow_the_queue(make_case):
    case = make_case("contrastive")
    batch = case.batches[contrastive.TASK]
    size = case.stage.config.batch_size
    state = jax.jit(lambda key: case.stage.init(key, case.shapes))(jax.random.key(0))
    state = case.stage.begin(state, contrastive.TASK)
    step = jax.jit(case.stage.step)

    _, others = step(state, batch)
    after, _ = step(state, batch)

    # The keys' owners lie where the keys do.
    np.testing.assert_array_equal(
        after.memory.owner[:size], batch.arrays["positive_owner"]
    )
    np.testing.assert_array_equal(after.memory.owner[size:], -1)
    # All keys but one are of the patient whom every query shows.
    patient = batch.replace(
        arrays={**batch.arrays, "query_owner": np.full(size, 7, np.int32)}
    )
    owner = jnp.full_like(state.memory.owner, 7).at[0].set(8)
    own = state.replace(memory=state.memory.replace(owner=owner))
    _, one = step(own, patient)
    assert others["loss"] > one["loss"]
    # One negative is left, in any direction: its similarity is below 1 / 0.2.
    assert one["loss"] < np.log1p(np.exp(2 / case.stage.config.temperature))
    _, none = step(own.replace(memory=own.memory.replace(owner=owner * 0 + 7)), patient)
    assert none["loss"] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(none["gradient_norm"])
