"""How often a loop of a compiled program runs.

CPUs' programs say it. In TPUs' a counter is compared with a limit: both, and what the
body adds, are followed through copies and fusions to constants.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from mtpret_jax.ahead import hlo

_SAME = frozenset({"copy", "bitcast", "copy-start", "copy-done"})


@dataclasses.dataclass(frozen=True)
class _Place:
    """An instruction, and the fusion that it is in, if any."""

    one: hlo.Instruction
    inside: hlo.Computation
    fusion: _Place | None = None

    def operand(self, index: int) -> _Place:
        return _Place(self.inside.operand(self.one, index), self.inside, self.fusion)

    @property
    def element(self) -> int | None:
        """Which element of a loop's state this takes."""
        if self.one.opcode != "get-tuple-element":
            return None
        if self.operand(0).one.opcode != "parameter":
            return None
        found = re.search(r"\bindex=([0-9]+)", self.one.attributes)
        return int(found.group(1)) if found else None

    @property
    def constant(self) -> int | None:
        """An integer."""
        if self.one.opcode != "constant":
            return None
        return int(self.one.literal) if self.one.literal.lstrip("-").isdigit() else None


def count(
    loop: hlo.Instruction,
    inside: hlo.Computation,
    computations: Mapping[str, hlo.Computation],
) -> int | None:
    """Trips of a `while` of the computation `inside`; None if it is not known."""
    said = re.search(r'"known_trip_count":\{"n":"([0-9]+)"', loop.attributes)
    if said:
        return int(said.group(1))
    condition = computations[loop.called("condition")[0]]
    test = _origin(_root(condition), computations)
    if test.one.opcode != "compare" or "direction=LT" not in test.one.attributes:
        return None
    counter, limit = (_origin(test.operand(i), computations) for i in (0, 1))
    index = counter.element
    if index is None:
        return None
    first = _start(loop, inside, index, computations).constant
    if limit.element is not None:
        limit = _start(loop, inside, limit.element, computations)
    step = _stride(computations[loop.called("body")[0]], index, computations)
    if first is None or limit.constant is None or not step:
        return None
    return max(0, -(-(limit.constant - first) // step))


def _root(inside: hlo.Computation) -> _Place:
    return _Place(inside.instructions[inside.root], inside)


def _origin(place: _Place, computations: Mapping[str, hlo.Computation]) -> _Place:
    """Where a value is made: behind copies, in or out of a fusion."""
    while True:
        opcode = place.one.opcode
        if opcode in _SAME:
            place = place.operand(0)
        elif opcode == "fusion":
            fused = computations[place.one.called("calls")[0]]
            place = dataclasses.replace(_root(fused), fusion=place)
        elif opcode == "parameter" and place.fusion is not None:
            place = place.fusion.operand(int(place.one.literal))
        else:
            return place


def _start(
    loop: hlo.Instruction,
    inside: hlo.Computation,
    index: int,
    computations: Mapping[str, hlo.Computation],
) -> _Place:
    """An element of the state that a loop starts from; the state if it is no tuple."""
    state = _origin(_Place(inside.operand(loop, 0), inside), computations)
    if state.one.opcode != "tuple":
        return state
    return _origin(state.operand(index), computations)


def _stride(
    body: hlo.Computation, index: int, computations: Mapping[str, hlo.Computation]
) -> int | None:
    """What a body adds to an element of its state."""
    root = _root(body)
    if root.one.opcode != "tuple":
        return None
    added = _origin(root.operand(index), computations)
    if added.one.opcode != "add":
        return None
    terms = [_origin(added.operand(i), computations) for i in (0, 1)]
    if index not in [term.element for term in terms]:
        return None
    return next((term.constant for term in terms if term.constant is not None), None)
