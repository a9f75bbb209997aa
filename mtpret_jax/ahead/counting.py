"""Operations of one instruction, counted as XLA's own analysis counts them."""

from __future__ import annotations

import math
import re

import numpy as np

from mtpret_jax.ahead import hlo

_ELEMENTWISE = frozenset(
    re.findall(
        r"[a-z0-9\-]+",
        """
        abs add and atan2 cbrt ceil clamp compare cosine divide erf exponential
        exponential-minus-one floor log log-plus-one logistic maximum minimum multiply
        negate not or popcnt power remainder round-nearest-afz round-nearest-even rsqrt
        select shift-left shift-right-arithmetic shift-right-logical sign sine sqrt
        subtract tan tanh xor
        """,
    )
)


def operations(instruction: hlo.Instruction, computation: hlo.Computation) -> float:
    """Arithmetic operations; a product and its sum are two.

    Moving data is none. What an instruction calls is not counted here.
    """
    opcode = instruction.opcode
    if opcode == "convolution":
        return _convolution(instruction, *_operands(instruction, computation)[:2])
    if opcode == "dot":
        sides = computation.operand(instruction, 0).shapes[0].sides
        summed = [sides[axis] for axis in _summed_axes(instruction.attributes)]
        return 2.0 * instruction.shapes[0].size * math.prod(summed)
    if opcode in _ELEMENTWISE:
        return float(instruction.shapes[0].size)
    if opcode in ("reduce", "map", "select-and-scatter"):
        return float(_operands(instruction, computation)[0].size)
    if opcode == "reduce-window":
        window = _window(instruction.attributes, "size")
        return float(instruction.shapes[0].size) * math.prod(window)
    if opcode == "scatter":
        return float(_operands(instruction, computation)[-1].size)
    if opcode == "sort":
        keys = instruction.shapes[0]
        return keys.size * math.log2(max(2, max(keys.sides, default=1)))
    return 0.0


def _operands(
    instruction: hlo.Instruction, computation: hlo.Computation
) -> list[hlo.Shape]:
    return [
        computation.instructions[name].shapes[0]
        for name in instruction.operands
        if computation.instructions[name].shapes
    ]


def _convolution(
    instruction: hlo.Instruction, image: hlo.Shape, kernel: hlo.Shape
) -> float:
    """Products and sums that meet no padding and no hole."""
    attributes, result = instruction.attributes, instruction.shapes[0]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    if labels is None:
        raise ValueError(f"{instruction.name}: a convolution without dim_labels.")
    of_image, of_kernel, of_result = labels.groups()
    spatial = sorted(set(of_image) - {"b", "f"})
    ones, zeros = [1] * len(spatial), [0] * len(spatial)
    stride = _window(attributes, "stride") or ones
    low = _window(attributes, "pad") or zeros
    image_dilation = _window(attributes, "lhs_dilate") or ones
    kernel_dilation = _window(attributes, "rhs_dilate") or ones
    positions = 1
    for axis, label in enumerate(spatial):
        positions *= _positions(
            image.sides[of_image.index(label)],
            kernel.sides[of_kernel.index(label)],
            result.sides[of_result.index(label)],
            stride[axis],
            low[axis],
            image_dilation[axis],
            kernel_dilation[axis],
        )
    features = kernel.sides[of_kernel.index("i")]
    groups = re.search(r"batch_group_count=([0-9]+)", attributes)
    batch = image.sides[of_image.index("b")] // int(groups.group(1) if groups else 1)
    return 2.0 * positions * features * batch * result.sides[of_result.index("f")]


def _positions(
    image: int, kernel: int, result: int, stride: int, low: int, hole: int, spread: int
) -> int:
    """Pairs of a place of the result and of the kernel that meet a pixel."""
    places = (
        np.arange(result)[:, None] * stride + np.arange(kernel)[None] * spread - low
    )
    inside = (places >= 0) & (places < (image - 1) * hole + 1) & (places % hole == 0)
    return int(inside.sum())


def _window(attributes: str, key: str) -> list[int]:
    """Numbers of a convolution's window, one an axis; of padding the lower one."""
    window = re.search(r"window=\{([^}]*)\}", attributes)
    found = re.search(rf"\b{key}=([0-9x_\-]+)", window.group(1)) if window else None
    return [int(n.split("_")[0]) for n in found.group(1).split("x")] if found else []


def _summed_axes(attributes: str) -> list[int]:
    """Of the left side of a product."""
    found = re.search(r"lhs_contracting_dims=\{([0-9,]*)\}", attributes)
    return [int(n) for n in found.group(1).split(",") if n] if found else []
