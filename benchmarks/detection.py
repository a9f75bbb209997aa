"""Faster R-CNN's training step: its rate, its parts, and torchvision's.

    python -m benchmarks.detection --torch_python=<python with PyTorch>

torchvision takes part where its compiled operators are there. README.md beside this
file says what is compared and how.
"""

from __future__ import annotations

import dataclasses

from absl import app, flags

from benchmarks import comparison, recording
from mtpret_jax import config as schema

_CHANNELS = flags.DEFINE_integer("channels", 256, "Of the pyramid.")
_REGIONS = flags.DEFINE_integer("regions", 512, "Sampled of each image.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Of each part of the profile.")
_BOXES = 4  # of each image


def _show_parts(parts: dict[str, float]) -> None:
    total = sum(parts.values())
    rows = [["part of our step", "ms", "share"]]
    for name, seconds in parts.items():
        rows.append([name, f"{1e3 * seconds:.1f}", f"{seconds / total:.0%}"])
    recording.table(rows)


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    head = schema.DetectionConfig(channels=_CHANNELS.value, regions=_REGIONS.value)
    made_from = comparison.settings(
        "detection", detection=dataclasses.asdict(head), boxes=_BOXES
    )
    with comparison.sides(
        made_from,
        "benchmarks.reference.detection",
        ours="benchmarks.detection_parts",
    ) as (started, facts):
        found = {"step": comparison.measure(started, "step")}
        parts = started[comparison.OURS].ask("parts", repeats=_REPEATS.value)
    comparison.show(found, "images/s")
    _show_parts(parts)
    comparison.write("detection", found, made_from, facts, seconds_of_parts=parts)


if __name__ == "__main__":
    app.run(main)
