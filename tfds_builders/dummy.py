"""Writes made-up releases: real trees, names and quirks, no patient.

    python -m tfds_builders.dummy FOLDER [--images N] [set ...]

Each set gets a folder of its name, to try out builders, doctor and training without
downloading anything.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from etils import epath

from tfds_builders.releases import catalogue


def write(name: str, folder: epath.Path, *, images: int | None, seed: int = 0) -> None:
    """Writes the made-up release of a set.

    Args:
      name: Name of the dataset.
      folder: Gets the files; made if it is not there.
      images: About how many; None for the set's own small number.
      seed: Another seed draws other images.
    """
    module = importlib.import_module(f"tfds_builders.{name}.dummy_data")
    folder.mkdir(parents=True, exist_ok=True)
    options = {} if images is None else {"images": images}
    module.write(folder, seed=seed, **options)


def _at_least(smallest: int) -> Callable[[str], int]:
    """Reads a whole number of the command line that is not below `smallest`."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(
                f"expected a whole number, {smallest} or more, got {text!r}"
            )
        return int(text)

    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes what the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.dummy",
        description="Writes made-up releases, a folder for each set.",
    )
    parser.add_argument("folder", type=epath.Path, help="gets the folders")
    parser.add_argument("sets", nargs="*", metavar="set", help="all by default")
    parser.add_argument(
        "--images", type=_at_least(1), help="about how many of each set"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0)
    flags = parser.parse_intermixed_args(arguments)
    try:
        chosen = catalogue.choose(flags.sets, catalogue.released())
    except ValueError as error:
        parser.error(str(error))
    for name in chosen:
        target = flags.folder / name
        if target.exists() and any(target.iterdir()):
            parser.error(f"{str(target)!r} is not empty; name another folder.")
    for name in chosen:
        write(name, flags.folder / name, images=flags.images, seed=flags.seed)
        sys.stdout.write(f"{flags.folder / name}\n")


if __name__ == "__main__":
    main()
