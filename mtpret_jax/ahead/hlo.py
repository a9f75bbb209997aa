"""The text of a compiled program as computations of instructions.

XLA's text is not a promised format: what is read here is what the compilers of CPUs
(jaxlib) and TPUs (libtpu) write with JAX 0.10.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

_SHAPE = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,<=]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_BITS = re.compile(r"[a-z]+([0-9]+)")
_OPEN, _CLOSE = "([{", ")]}"


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array: the name of its dtype as XLA has it, and its sides."""

    dtype: str
    sides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.sides)

    @property
    def bytes(self) -> int:
        """Without what a layout pads."""
        if self.dtype in ("token", "opaque"):
            return 0
        found = _BITS.match(self.dtype)
        return math.ceil(self.size * (int(found.group(1)) if found else 8) / 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: Unique in its computation.
      opcode: What it does.
      shapes: The result's shape; several where that is a tuple.
      operands: Names of instructions of the same computation.
      literal: What stands in its brackets.
      attributes: What stands behind them.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    literal: str
    attributes: str

    @property
    def bytes(self) -> int:
        """Of the result."""
        return sum(shape.bytes for shape in self.shapes)

    def called(self, *keys: str) -> tuple[str, ...]:
        """Computations named by these attributes, such as `body`."""
        found = []
        for key in keys:
            named = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.attributes)
            if named:
                found += re.findall(r"[\w.\-]+", named.group(1))
        return tuple(found)

    def setting(self, key: str) -> str:
        """A quoted value of the backend's settings; "" where there is none."""
        found = re.search(rf'"{key}":"([^"]*)"', self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order; the last is not always the root."""

    instructions: Mapping[str, Instruction]
    root: str

    def operand(self, instruction: Instruction, index: int) -> Instruction:
        """An operand of one of its instructions."""
        return self.instructions[instruction.operands[index]]


@dataclasses.dataclass(frozen=True)
class Module:
    """A program.

    Attributes:
      devices: That run it together.
      entry: Name of the computation that it starts with.
      computations: By name.
    """

    devices: int
    entry: str
    computations: Mapping[str, Computation]


def parse(text: str) -> Module:
    """Reads `compiled.as_text()`.

    Raises:
      ValueError: If it is not a program's text.
    """
    computations: dict[str, Computation] = {}
    entry, name, root = "", "", ""
    lines: dict[str, Instruction] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            head = _HEAD.match(line)
            if head:
                name, lines = head.group(1), {}
                entry = name if line.startswith("ENTRY") else entry
            elif line == "}" and name:
                computations[name] = Computation(lines, root)
            continue
        found = _instruction(line)
        if found is not None:
            lines[found.name] = found
            root = found.name if line.lstrip().startswith("ROOT ") else root
    if not entry:
        raise ValueError(f"Not the text of a compiled program: '{text[:60]}'.")
    first = text.split("\n", 1)[0]
    counts = re.findall(r"(?:num_partitions|replica_count)=([0-9]+)", first)
    return Module(math.prod(map(int, counts)), entry, computations)


def _instruction(line: str) -> Instruction | None:
    left, equals, right = line.strip().partition(" = ")
    if not equals:
        return None
    end = _end(right) if right.startswith("(") else right.index(" ")
    shape, rest = right[:end], right[end:].lstrip()
    opcode, bracket, _ = rest.partition("(")
    if not bracket:
        return None
    close = len(opcode) + _end(rest[len(opcode) :])
    literal = rest[len(opcode) + 1 : close - 1]
    return Instruction(
        name=left.removeprefix("ROOT ").lstrip("%"),
        opcode=opcode,
        shapes=_shapes(shape),
        operands=tuple(_NAME.findall(literal)),
        literal=literal,
        attributes=rest[close:],
    )


def _end(text: str) -> int:
    """Behind the bracket that closes the one `text` begins with."""
    depth = 0
    for found in re.finditer(r"[()\[\]{}]", text):
        depth += 1 if found.group() in _OPEN else -1
        if depth == 0:
            return found.end()
    raise ValueError(f"A bracket is left open: '{text[:60]}'.")


@functools.lru_cache(maxsize=4096)
def _shapes(text: str) -> tuple[Shape, ...]:
    return tuple(
        Shape(dtype, tuple(int(n) for n in re.findall(r"[0-9]+", sides)))
        for dtype, sides in _SHAPE.findall(text)
    )
