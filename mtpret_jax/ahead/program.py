"""What a compiled program computes, sends and holds on each of its devices.

Everything is counted from the program's text, each loop's body as often as the loop
runs. `estimated_cycles` is the TPU compiler's own cost model: a figure to compare
programs by, not a time.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mtpret_jax.ahead import counting, hlo, trips

# Of the bytes of the whole array, how many times as many each of n devices sends
# in a ring.
SENT: Mapping[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
}
# Costs nothing, or is counted elsewhere; of all else the compiler tells its cycles,
# or it is listed as `uncounted`.
_FREE = frozenset(
    re.findall(
        r"[a-z\-]+",
        """
        parameter constant get-tuple-element tuple bitcast after-all while conditional
        call copy-start copy-done slice-start async-start async-update partition-id
        replica-id opt-barrier
        """,
    )
)
_FREE_CALLS = frozenset({"AllocateBuffer", "Sharding", "AssumeGatherIndicesInBound"})
_ENDS = frozenset({"AsyncCollectiveDone"})  # In the fusion that waits for one.


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between devices.

    Attributes:
      kind: A key of `SENT`, whether asynchronous or not.
      bytes: Size of the whole array on a device: the larger of operands and result.
      operands: What a device gives.
      devices: That take part with each other, 1 where none does.
      times: That it is done in a run of the program.
      source: What it was made for, as the program tells it.
    """

    kind: str
    bytes: int
    operands: tuple[hlo.Shape, ...]
    devices: int
    times: int
    source: str

    @property
    def sent(self) -> float:
        """Bytes that each device sends in all, in a ring."""
        return self.times * self.bytes * SENT[self.kind](self.devices)


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop; `trips` is None where the program does not tell, and then 1 is counted.

    `cycles` and `operations` are those of all trips each time that it is reached.
    """

    name: str
    trips: int | None
    cycles: int
    operations: float


@dataclasses.dataclass(frozen=True)
class Program:
    """Figures of one device, or chip.

    Attributes:
      devices: That run the program together.
      operations: Arithmetic ones, a product and its sum being two.
      cycles: That the compiler estimates; 0 where it estimates none, as for CPUs.
      collectives: All of them.
      loops: All of them, inner ones too.
      uncounted: What has no estimate though others have, single numbers left out: times
        done, by opcode or target of a custom call.
      sources: Cycles by what they were made for, as the program tells it.
      bytes: Memory at its peak: arguments, results, temporaries and the program.
    """

    devices: int
    operations: float
    cycles: int
    collectives: tuple[Collective, ...]
    loops: tuple[Loop, ...]
    uncounted: Mapping[str, int]
    sources: Mapping[str, int]
    bytes: int

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Of each kind of collective: how many, their bytes, and the bytes sent."""
        total: dict[str, dict[str, float]] = {}
        for one in self.collectives:
            row = total.setdefault(one.kind, {"count": 0, "bytes": 0, "sent": 0})
            row["count"] += one.times
            row["bytes"] += one.times * one.bytes
            row["sent"] += one.sent
        return total


def read(compiled: Any) -> Program:
    """Reads what `jax.jit(...).lower(...).compile()` gives.

    Raises:
      ValueError: If its text is not understood.
    """
    program = read_text(compiled.as_text())
    memory = compiled.memory_analysis()
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    return dataclasses.replace(program, bytes=peak)


def read_text(text: str) -> Program:
    """The same of `compiled.as_text()`, which tells nothing of memory: 0 bytes."""
    module = hlo.parse(text)
    counts = _Reader(module).count(module.entry)
    return Program(
        devices=module.devices,
        operations=counts.operations,
        cycles=counts.cycles,
        collectives=counts.collectives,
        loops=counts.loops,
        uncounted=dict(counts.uncounted) if counts.cycles else {},
        sources=dict(counts.sources),
        bytes=0,
    )


@dataclasses.dataclass(frozen=True)
class _Counts:
    operations: float = 0.0
    sources: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )
    collectives: tuple[Collective, ...] = ()
    loops: tuple[Loop, ...] = ()
    uncounted: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )

    @property
    def cycles(self) -> int:
        return sum(self.sources.values())

    def repeated(self, times: int) -> _Counts:
        return _Counts(
            self.operations * times,
            collections.Counter({k: n * times for k, n in self.sources.items()}),
            tuple(
                dataclasses.replace(one, times=one.times * times)
                for one in self.collectives
            ),
            self.loops,
            collections.Counter({k: n * times for k, n in self.uncounted.items()}),
        )

    def fused(self) -> _Counts:
        """Of a fusion's inside: the cycles are told for the whole of it."""
        nothing: collections.Counter = collections.Counter()
        return dataclasses.replace(self, sources=nothing, uncounted=nothing)


def _sum(parts: Iterable[_Counts]) -> _Counts:
    operations, exchanges, loops = 0.0, [], []
    sources: collections.Counter = collections.Counter()
    uncounted: collections.Counter = collections.Counter()
    for part in parts:
        operations += part.operations
        exchanges += part.collectives
        loops += part.loops
        sources.update(part.sources)
        uncounted.update(part.uncounted)
    return _Counts(operations, sources, tuple(exchanges), tuple(loops), uncounted)


class _Reader:
    """Counts the computations of a module, each once."""

    def __init__(self, module: hlo.Module):
        self._module = module
        self.count = functools.cache(self._count)

    def _count(self, name: str) -> _Counts:
        inside = self._module.computations[name]
        return _sum(self._one(each, inside) for each in inside.instructions.values())

    def _one(self, one: hlo.Instruction, inside: hlo.Computation) -> _Counts:
        opcode = one.opcode
        if opcode == "while":
            return self._loop(one, inside)
        if opcode == "call":
            return _sum(map(self.count, one.called("to_apply", "calls")))
        if opcode == "conditional":
            keys = ("branch_computations", "true_computation", "false_computation")
            branches = [self.count(name) for name in one.called(*keys)]
            return max(branches, key=lambda branch: (branch.cycles, branch.operations))
        if opcode == "async-start":
            return _sum(map(self.count, one.called("calls")))
        kind = opcode.removesuffix("-start")
        if kind in SENT:
            return self._collective(kind, one, inside)
        cycles = int(one.setting("estimated_cycles") or 0)
        own = _Counts(
            operations=counting.operations(one, inside),
            sources=collections.Counter({_source(one): cycles} if cycles else {}),
            uncounted=_uncounted(one),
        )
        if opcode != "fusion":
            return own
        parts = [self.count(name) for name in one.called("calls")]
        if any(part.collectives or _ENDS & set(part.uncounted) for part in parts):
            own = dataclasses.replace(own, uncounted=collections.Counter())
        return _sum([own, *(part.fused() for part in parts)])

    def _loop(self, one: hlo.Instruction, inside: hlo.Computation) -> _Counts:
        (body,), (condition,) = one.called("body"), one.called("condition")
        once = _sum([self.count(body), self.count(condition).fused()])
        times = trips.count(one, inside, self._module.computations)
        done = once.repeated(1 if times is None else times)
        loop = Loop(one.name, times, done.cycles, done.operations)
        return dataclasses.replace(done, loops=(loop, *done.loops))

    def _collective(
        self, kind: str, one: hlo.Instruction, inside: hlo.Computation
    ) -> _Counts:
        # An asynchronous one stands in each fusion that runs beside it: again in
        # the one that ends it. Only in the one that starts it this is -1.
        if one.setting("flag_start") not in ("", "-1"):
            return _Counts()
        operands = [
            s for name in one.operands for s in inside.instructions[name].shapes
        ]
        given = sum(shape.bytes for shape in operands)
        # A start's result holds its operands and flags too.
        result = 0 if one.opcode.endswith("-start") else one.bytes
        if one.opcode == "all-gather-start":
            result = one.bytes - given
        found = Collective(
            kind=kind,
            bytes=max(given, result),
            operands=tuple(operands),
            devices=self._group(one),
            times=1,
            source=_source(one),
        )
        return _Counts(collectives=(found,))

    def _group(self, one: hlo.Instruction) -> int:
        """Devices of a replica group, or that a permutation names."""
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", one.attributes)
        if pairs:
            return len(set(re.findall(r"[0-9]+", pairs.group(1))))
        listed = re.search(r"replica_groups=\{\{([0-9,]*)\}", one.attributes)
        if listed:
            return len(listed.group(1).split(","))
        named = re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", one.attributes)
        if named:
            sides = dict(re.findall(r"'(\w+)'=([0-9]+)", named.group(1)))
            axes = re.findall(r"'(\w+)'", named.group(2))
            return math.prod(int(sides[axis]) for axis in axes)
        tiled = re.search(r"replica_groups=\[([0-9]+),([0-9]+)\]", one.attributes)
        return int(tiled.group(2)) if tiled else self._module.devices


def _source(one: hlo.Instruction) -> str:
    named = re.search(r'op_name="([^"]*)"', one.attributes)
    return named.group(1) if named else ""


def _uncounted(one: hlo.Instruction) -> collections.Counter:
    target = re.search(r'custom_call_target="([^"]*)"', one.attributes)
    name = target.group(1) if target else one.opcode
    if one.opcode in _FREE or name in _FREE_CALLS or one.opcode.endswith("-done"):
        return collections.Counter()
    if one.setting("estimated_cycles") or sum(s.size for s in one.shapes) <= 1:
        return collections.Counter()
    return collections.Counter([name])
