r"""Estimated cycles of a detection step on one TPU chip, by part; no TPU is needed.

    python -m benchmarks.detection_cycles --network=resnet50 --image_size=512 \
        --batch_size=16 --dtype=bfloat16

The step is compiled for the chip (extra `tpu`), and its cycles are the compiler's own
estimate: to compare programs by, not a time. Sorts, gathers and scatters have none;
they are listed. Each loop counts by its trips, but for the rounds that settle a tile of
non-maximum suppression: they depend on the boxes, and `--settling` says how many to
count. Boxes that crowd round a dozen objects, and anchors in random order, need 2 to 4;
never are there more than a tile has boxes, 128.
"""

from __future__ import annotations

import collections
import re

import jax
from absl import app, flags

from benchmarks import recording, shared, slices
from mtpret_jax.ahead import fitting, topologies
from mtpret_jax.experiment import estimate

_CHIP = flags.DEFINE_string("chip", "tpu:v5e:1", "Its topology.")
_SETTLING = flags.DEFINE_integer(
    "settling", 4, "Rounds of a tile of suppression, on average."
)

# The first that is found in the name of an operation tells its part.
_PARTS = {
    "NMS": r"\bNMS\b",
    "RoIAlign": r"\bRoIAlign\b",
    "box head": r"box_head|box_predictor",
    "pyramid": r"\bfpn\b",
    "RPN head": r"\brpn_head\b",
    "backbone": r"ResNet",
}
_ROUND = re.compile(r"\bNMS\b.*while/body.*while/")


def _part(source: str) -> str:
    for part, pattern in _PARTS.items():
        if re.search(pattern, source):
            return part
    return "targets, losses, update, copies"


def main(arguments: list[str]) -> None:
    """Compiles, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    jax.config.update("jax_platforms", "cpu")
    devices = topologies.devices(_CHIP.value)
    found = fitting.compile_step(
        estimate.lower(slices.step("detection", len(devices)), devices)
    )
    cycles: collections.Counter[str] = collections.Counter()
    for source, count in found.sources.items():
        times = _SETTLING.value if _ROUND.search(source) else 1
        cycles[_part(source)] += times * count
    total = sum(cycles.values())
    shares = cycles.most_common()
    rows = [["part", "Mcycles"], *([part, f"{n / 1e6:.1f}"] for part, n in shares)]
    recording.table([*rows, ["all", f"{total / 1e6:.1f}"]])
    results = {
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
        "dtype": shared.DTYPE.value,
        "settling": _SETTLING.value,
        "megacycles": {part: n / 1e6 for part, n in shares} | {"all": total / 1e6},
        "without_estimate": found.uncounted,
        "gibibytes": found.bytes / 2**30,
    }
    recording.write(
        f"detection_cycles {shared.NETWORK.value}",
        results,
        n=1,
        device=topologies.kind(_CHIP.value),
    )


if __name__ == "__main__":
    app.run(main)
