"""Builds the dummy release of every set and reads each back in a clean process.

    python tests/tfds_builders/dummy_sets.py [--images=60] [--seconds=1] [set ...]

Clean: mtpret_jax, JAX and TensorFlow cannot be imported, neither while a set is built
nor while it is read, and none of them is loaded at the end. Prints, for each set, its
splits and how many examples a second TFDS alone decodes from it, one after the other.
The images are tiny: the figures say that sets load, and what TFDS itself costs.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from tfds_builders.releases import catalogue

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_ABSENT = ("mtpret_jax", "jax", "jaxlib", "flax", "tensorflow", "torch")
_HIDE = f"""
import importlib, json, sys, time

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {_ABSENT}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
for hidden in {_ABSENT}:
    try:
        importlib.import_module(hidden)
    except ModuleNotFoundError:
        continue
    raise SystemExit(hidden + " can be imported")
name, folder, data_dir, count = sys.argv[1:5]
"""
_BUILD = """
from etils import epath
from tfds_builders import dummy

package = importlib.import_module("tfds_builders." + name)
dummy.write(name, epath.Path(folder), images=int(count))
config = package.Config(name="dummy", folder=folder)
builder = package.Builder(data_dir=data_dir, config=config)
builder.download_and_prepare()
result = {"path": str(builder.data_dir)}
"""
_READ = """
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory(folder)
start, done, splits = time.perf_counter(), 0, {}
sources = {split: builder.as_data_source(split) for split in builder.info.splits}
for split, source in sources.items():
    splits[split] = len(source)
while time.perf_counter() - start < float(count):
    for source in sources.values():
        for example in source:
            assert example["image"].ndim == 3
            done += 1
result = {"splits": splits, "rate": done / (time.perf_counter() - start)}
"""
_END = """
loaded = {name.split(".")[0] for name in sys.modules} & set(%r)
assert not loaded, loaded
sys.stdout.write("\\n" + json.dumps(result))
"""


def build_and_read(
    name: str, folder: pathlib.Path, *, images: int, seconds: float
) -> dict[str, Any]:
    """Builds a dummy set in one clean process, reads it in another.

    Args:
      name: Of the set.
      folder: Gets the release and the prepared set.
      images: About how many.
      seconds: For how long it is read.

    Returns:
      "splits", examples of each, and "rate", examples a second.

    Raises:
      RuntimeError: If a process fails; says what it wrote.
    """
    release, data = folder / "downloads" / name, folder / "data"
    built = _run(_BUILD, name, str(release), str(data), str(images))
    return _run(_READ, name, built["path"], str(data), str(seconds))


def _run(program: str, *arguments: str) -> dict[str, Any]:
    """Runs a program that cannot see what should be absent, and returns its result."""
    done = subprocess.run(
        [sys.executable, "-c", _HIDE + program + _END % (_ABSENT,), *arguments],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments[0]}: {done.stderr}")
    # TFDS writes to the same stream.
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a line for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=60, help="of each set, about")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring")
    parser.add_argument("--folder", help="keeps the files here")
    parser.add_argument("sets", nargs="*")
    options = parser.parse_args()
    chosen = catalogue.choose(options.sets, catalogue.released())
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary)
        sys.stdout.write(f"{'set':20} {'train/val/test':>15} {'examples/s':>11}\n")
        for name in chosen:
            found = build_and_read(
                name, folder, images=options.images, seconds=options.seconds
            )
            splits = found["splits"]
            counts = "/".join(
                str(splits.get(split, 0)) for split in ("train", "validation", "test")
            )
            sys.stdout.write(f"{name:20} {counts:>15} {found['rate']:11,.0f}\n")
            sys.stdout.flush()
        sys.stdout.write(f"{len(chosen)} sets, {', '.join(_ABSENT)} absent.\n")


if __name__ == "__main__":
    main()
