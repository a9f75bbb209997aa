"""Names of one family of networks in several libraries, as tables, both ways.

A row of a table pairs what is ours with its name in a library, both with numbers in
braces: `stages_{s}_{n}.conv_dw` and `stages.{s}.blocks.{n}.conv_dw`. What follows, such
as `.kernel` and `.weight`, and the order of axes are alike for all: see `arrays`. A
parameter that stands by itself, such as a layer scale, has a row of its own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtpret_jax.weights import arrays

Tree = Any
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Naming:
    """What one library calls the parts of a family's networks.

    Attributes:
      names: Our modules, and parameters by themselves, and its names; see this file.
      left_out: Patterns of names that are not part of the backbone, such as a head's.
      copies: Names of tensors that repeat another, and the other.
      squares: Patterns of our parameters that end in two axes of size 1 there, and up
        to which width of the network they do.
      counters: Whether its BatchNorm counts batches, in `num_batches_tracked`.
    """

    names: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    squares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    counters: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
    """What a file holds.

    Attributes:
      family: For example "ConvNeXt".
      size: The published size, for example "tiny"; "" for any other.
      layout: A row of the family's layouts.
      prefix: What stands before the network's names.
      depths: Blocks of each stage.
      width: Channels of the stem.
      in_channels: Channels of the images that the stem takes.
      left_out: Names that are not part of the backbone, sorted.
    """

    family: str
    size: str
    layout: str
    prefix: str
    depths: tuple[int, ...]
    width: int
    in_channels: int
    left_out: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that differ in depths and width alone.

    Attributes:
      name: In words.
      layouts: By the name of the library; where two fit, the first is meant.
      sizes: Published ones: blocks of each stage, channels of the stem.
      stem: Our module that is the first convolution.
      block: Our module that each block has one of; `{s}` is the stage, `{n}` the block.
      first: Number of the first stage and of the first block.
      numbers: From a stage to further numbers that names have.
      foreign: Patterns of names that only a relative of the family has, and which.
    """

    name: str
    layouts: Mapping[str, Naming]
    sizes: Mapping[str, tuple[tuple[int, ...], int]]
    stem: str
    block: str
    first: int
    numbers: Callable[[int], Mapping[str, int]] = lambda stage: {}
    foreign: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, tensors: Tensors, expected: Tree, where: str) -> arrays.Converted:
        """Weights of a file as a backbone of ours.

        A common prefix, such as `module.` or `visual.trunk.`, is taken off; what lies
        outside it is left out, as are heads.

        Args:
          tensors: Any floating dtype, by the file's names.
          expected: Tree of what the backbone wants, leaves with `shape`.
          where: Begins a message, for example the option and file.

        Raises:
          ValueError: If names or shapes do not fit, or a number is not finite.
        """
        network = self.identify(tensors, where)
        chosen = self.layouts[network.layout]
        wanted = self._entries(expected, chosen, where)
        found = {
            name.removeprefix(network.prefix): array
            for name, array in tensors.items()
            if name not in network.left_out and not name.endswith(arrays.COUNTER)
        }
        for copy, name in chosen.copies.items():
            if not np.array_equal(found.pop(copy), found.get(name, np.nan)):
                raise ValueError(
                    f"{where}: '{copy}' should repeat '{name}' and does not: a damaged "
                    "file, or a network that is not known here."
                )
        for name in found.keys() & wanted.keys():
            array, axes = found[name], len(wanted[name].shape)
            if array.ndim == axes + 2 and array.shape[-2:] == (1, 1):
                found[name] = array.reshape(array.shape[:-2])
        stem = self._rename(self.stem, chosen) + ".weight"
        width = wanted[stem].shape[0]
        advice = (
            f"The file holds {self._words(network.depths, network.width)}, the config "
            f"wants {self._words(self._depths(wanted, chosen), width)}. Change "
            "config.backbone, or start from other weights."
        )
        tree, said = arrays.to_ours(found, wanted, where, advice, stem=stem)
        return arrays.Converted(tree, said, network.left_out, network.prefix)

    def write(
        self, tree: Tree, name: str, *, channels: int
    ) -> tuple[dict[str, np.ndarray], str]:
        """A backbone of ours under a library's names, without a head.

        Args:
          tree: `{"params": ..., "model_state": ...}`.
          name: A row of `layouts`.
          channels: Channels of the images that the library's stem takes.

        Returns:
          float32 arrays, and counters int64 []; what was done to the stem, in words.

        Raises:
          ValueError: If the backbone is of another kind, or a number is not finite.
        """
        chosen = self.layouts[name]
        tensors = {}
        for name, entry in self._entries(tree, chosen, "export").items():
            array = entry.array
            for pattern, widest in chosen.squares.items():
                path = ".".join(entry.place[1:])
                width = tree["params"][self.stem]["kernel"].shape[-1]
                if _numbers(pattern, path) is not None and width <= widest:
                    array = array[..., None, None]
            tensors[name] = array
        for copy, original in chosen.copies.items():
            tensors[copy] = tensors[original]
        if chosen.counters:
            arrays.add_counters(tensors)
        stem = self._rename(self.stem, chosen) + ".weight"
        tensors[stem], said = arrays.stem_for(tensors[stem], channels)
        return tensors, said

    def identify(self, tensors: Tensors, where: str) -> Network:
        """Tells layout and size by names and the first convolution.

        Args:
          tensors: Any floating dtype, by the file's names.
          where: Begins a message, for example the option and file.

        Raises:
          ValueError: If it is no network of this family, or of a relative's.
        """
        named, prefix = self._layout(tensors, where)
        chosen = self.layouts[named]
        names = {
            name.removeprefix(prefix) for name in tensors if name.startswith(prefix)
        }
        for pattern, kind in self.foreign.items():
            alien = next(
                (name for name in sorted(names) if re.search(pattern, name)), ""
            )
            if alien:
                raise ValueError(
                    f"{where}: '{alien}' is a part of {kind}, which is not known here. "
                    "Start from other weights."
                )
        stem = f"{prefix}{self._rename(self.stem, chosen)}.weight"
        shape = tensors[stem].shape
        if len(shape) != 4:
            raise ValueError(f"{where}: '{stem}' has shape {shape}, expected 4 axes.")
        depths = self._depths(names, chosen)
        width, in_channels = shape[:2]
        kinds = {kind: size for size, kind in self.sizes.items()}
        left_out = [
            name
            for name in tensors
            if not name.startswith(prefix)
            or any(re.match(p, name.removeprefix(prefix)) for p in chosen.left_out)
        ]
        return Network(
            family=self.name,
            size=kinds.get((depths, width), ""),
            layout=named,
            prefix=prefix,
            depths=depths,
            width=width,
            in_channels=in_channels,
            left_out=tuple(sorted(left_out)),
        )

    def _layout(self, tensors: Tensors, where: str) -> tuple[str, str]:
        """The layout's name, and what stands before the network's names."""
        for name, chosen in self.layouts.items():
            stem = self._rename(self.stem, chosen) + ".weight"
            block = self.block.format(s=self.first, n=self.first)
            marks = (stem, self._rename(block, chosen) + ".weight", *chosen.copies)
            prefix = arrays.find_prefix(tensors, marks, where)
            if prefix is not None:
                return name, prefix
        raise ValueError(
            f"{where}: no {self.name} in the layout of {', '.join(self.layouts)} among "
            f"the {len(tensors)} tensors of the file, which begin with "
            f"{sorted(tensors)[:5]}."
        )

    def _depths(
        self, names: Mapping[str, Any] | set[str], chosen: Naming
    ) -> tuple[int, ...]:
        """The number of blocks of each stage that has any."""
        depths: list[int] = []
        while not depths or depths[-1]:
            depths.append(0)
            stage = self.first + len(depths) - 1
            while True:
                block = self.block.format(s=stage, n=self.first + depths[-1])
                if self._rename(block, chosen) + ".weight" not in names:
                    break
                depths[-1] += 1
        return tuple(depths[:-1])

    def _words(self, depths: tuple[int, ...], width: int) -> str:
        for size, kind in self.sizes.items():
            if kind == (depths, width):
                return f"{self.name} {size}"
        number = " + ".join(map(str, depths))
        return f"{self.name} of {number} blocks and width {width}"

    def _entries(
        self, tree: Tree, chosen: Naming, where: str
    ) -> dict[str, arrays.Entry]:
        """The arrays of a tree of ours by a library's names."""

        def rename(ours: str) -> str:
            module, _, last = ours.rpartition(".")
            name = self._rename(ours, chosen)
            if not name and (name := self._rename(module, chosen)):
                name = f"{name}.{last}"
            if not name:
                raise ValueError(f"{where}: '{ours}' is no part of a {self.name}.")
            return name

        return arrays.entries(tree, rename)

    def _rename(self, path: str, chosen: Naming) -> str:
        """A library's name of what is ours; "" for what has none."""
        for ours, theirs in chosen.names.items():
            numbers = _numbers(ours, path)
            if numbers is not None:
                more = self.numbers(numbers["s"]) if "s" in numbers else {}
                return theirs.format(**numbers, **more)
        return ""


def _numbers(pattern: str, path: str) -> dict[str, int] | None:
    """The numbers that stand in a path for a pattern's braces; None if it differs."""
    expression = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(pattern))
    match = re.fullmatch(expression, path)
    return (
        {key: int(text) for key, text in match.groupdict().items()} if match else None
    )
