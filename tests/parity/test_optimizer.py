"""Parity of the optimisers and their curve with PyTorch's.

In float64, as test_resnet.py says. PyTorch clips by max / (norm + 1e-6), ours by max /
norm: relative 1e-6 / CLIP at the most. The gradients that are clipped here have norms
above 10, so 1e-7; CLIPPED leaves room for it and for the stored numbers' rounding.
"""

import drawing
import jax
import jax.numpy as jnp
import make_optimizer_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.stages import optimizer

CLIPPED = 5e-7


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", goldens.CASES)
def test_parameters_after_all_steps(case):
    golden = drawing.load("optimizer")
    name, warmup, decay = goldens.CASES[case]
    ours = optimizer.build_optimizer(
        schema.OptimizerConfig(
            name=name,
            learning_rate=goldens.PEAK,
            final_learning_rate=goldens.LAST,
            warmup_steps=warmup,
            weight_decay=decay,
            clip_norm=goldens.CLIP,
        ),
        goldens.STEPS,
    )

    @jax.jit
    def update(params, opt_state, grads, step):
        grads, norm = ours.clip(grads)
        rate = ours.learning_rate(step)
        return *ours.update(grads, opt_state, params, rate), rate, norm

    params = wide(drawing.draw(goldens.SHAPES))
    opt_state, rates, norms = ours.direction.init(params), [], []
    for step in range(goldens.STEPS):
        grads = wide(goldens.gradients(step))
        params, opt_state, rate, norm = update(params, opt_state, grads, step)
        rates.append(rate)
        norms.append(norm)

    found = {"rates": np.array(rates), "norms": np.array(norms), **params}
    errors = {
        key: drawing.error(x, golden.arrays[f"{case}/{key}"])
        for key, x in found.items()
    }
    assert sum(norm > goldens.CLIP for norm in norms) in range(2, goldens.STEPS)
    assert max(errors.values()) <= CLIPPED, errors


def wide(arrays):
    return {name: jnp.asarray(x, jnp.float64) for name, x in arrays.items()}
