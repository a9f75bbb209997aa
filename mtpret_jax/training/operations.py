"""Operations of a step by its program: what the model asks for, wherever it runs.

Products and sums of matrix products and convolutions, as in model FLOP utilisation
(Chowdhery and others 2022, PaLM, appendix B). XLA's own analysis of a compiled step is
not used: it counts the body of a loop once, and what every device does again, so that
work done in vain would look like good use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


def count(jaxpr: Any) -> float:
    """Floating-point operations of a traced function, on all devices together.

    A loop counts by its trips, where these are known before it runs (else once); of
    branches the dearest counts.

    Args:
      jaxpr: Such as `jax.jit(f).trace(x).jaxpr`.
    """
    inner = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
    return sum(_of_equation(equation) for equation in inner.eqns)


def _of_equation(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_product(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    counts = [count(jaxpr) for jaxpr in _inner(parameters)]
    if name == "cond":
        return max(counts)
    if name == "scan":
        return parameters["length"] * sum(counts)
    if name == "shard_map":  # Its program is that of one device.
        axes = parameters["newly_manual_axes"]
        return sum(counts) * math.prod(parameters["mesh"].shape[axis] for axis in axes)
    return sum(counts)


def _inner(parameters: Any) -> Iterator[Any]:
    for value in parameters.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, (core.ClosedJaxpr, core.Jaxpr)):
                yield one


def _of_product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval, equation.outvars[0].aval
    summed = math.prod(left.shape[axis] for axis in contracted)
    return 2.0 * math.prod(out.shape) * summed


def _of_convolution(equation: Any) -> float:
    """Without what falls on padding or between the elements of a dilated input."""
    parameters = equation.params
    numbers: jax.lax.ConvDimensionNumbers = parameters["dimension_numbers"]
    left, right = (variable.aval.shape for variable in equation.invars)
    out = equation.outvars[0].aval.shape
    total = 2.0 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]]
    total *= right[numbers.rhs_spec[1]]
    for axis in range(len(out) - 2):
        at = np.arange(out[numbers.out_spec[axis + 2]])[:, None]
        tap = np.arange(right[numbers.rhs_spec[axis + 2]])[None]
        dilation = parameters["lhs_dilation"][axis]
        place = at * parameters["window_strides"][axis] - parameters["padding"][axis][0]
        place = place + tap * parameters["rhs_dilation"][axis]
        last = (left[numbers.lhs_spec[axis + 2]] - 1) * dilation
        met = (place >= 0) & (place <= last) & (place % dilation == 0)
        total *= np.count_nonzero(met)
    return total
