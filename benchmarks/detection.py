"""A detector's training step: Faster R-CNN against torchvision's, or against RetinaNet.

On a constant batch. torchvision takes part where its compiled operators are there.

Run:     python -m benchmarks.detection --torch_python=<python with PyTorch>
         python -m benchmarks.detection --heads
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from typing import Any

from benchmarks import comparison, harness
from mtpret_jax import config as schema

_BOXES = 4  # of each image
_TWO_STAGES, _ONE_STAGE = schema.CHOICES[schema.DetectionConfig, "head"]


def main() -> None:
    """Measures both, shows and writes."""
    parser = comparison.parser(__doc__)
    parser.add_argument("--channels", type=int, default=256, help="of the pyramid")
    parser.add_argument(
        "--regions", type=int, default=512, help="sampled from each image"
    )
    parser.add_argument(
        "--heads", action="store_true", help="one stage against two, both ours"
    )
    options = parser.parse_args()
    head = schema.DetectionConfig(channels=options.channels, regions=options.regions)
    if options.heads:
        _compare_heads(options, head)
        return
    comparison.compare_steps("detection", "detection", _made(options, head), options)


def _made(options: argparse.Namespace, head: schema.DetectionConfig) -> dict[str, Any]:
    table = dataclasses.asdict(head)
    return comparison.settings("detection", options, detection=table, boxes=_BOXES)


def _compare_heads(options: argparse.Namespace, head: schema.DetectionConfig) -> None:
    """Both heads with one width and as many anchors a position, in turns."""
    dense = schema.DetectionConfig(head=_ONE_STAGE, channels=options.channels)
    made_from = {_TWO_STAGES: _made(options, head), _ONE_STAGE: _made(options, dense)}
    with contextlib.ExitStack() as stack:
        started = {
            name: stack.enter_context(
                harness.Side(sys.executable, "benchmarks.ours", settings)
            )
            for name, settings in made_from.items()
        }
        facts = {name: side.ask("facts") for name, side in started.items()}
        ways = {
            name: lambda side=side: side.ask("step", steps=options.steps)
            for name, side in started.items()
        }
        seconds = harness.take_turns(ways, options.rounds)
    images = options.steps * options.batch_size
    rates = {
        name: harness.spread([images / second for second in values])
        for name, values in seconds.items()
    }
    found = harness.ratio(seconds[_TWO_STAGES], seconds[_ONE_STAGE])
    rows = [["", "images/s", "parameters"]]
    for name, rate in rates.items():
        rows.append([name, f"{rate['median']:.2f}", f"{facts[name]['parameters']:,}"])
    harness.table(rows)
    low, high = found["ratio_range"]
    harness.show(f"One stage over two: {found['ratio']:.2f} ({low:.2f} to {high:.2f})")
    harness.write(
        f"detection_heads_{options.network}_{options.image_size}",
        {**found, "rates": rates, "settings": made_from, "facts": facts},
        options,
        n=options.rounds,
        device=facts[_ONE_STAGE]["device"],
    )


if __name__ == "__main__":
    main()
