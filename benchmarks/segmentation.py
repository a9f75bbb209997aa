"""DeepLabV3's training step against torchvision's, on a constant batch.

    python -m benchmarks.segmentation --torch_python=<python with PyTorch>

README.md beside this file says what is compared and how.
"""

from __future__ import annotations

import dataclasses

from absl import app, flags

from benchmarks import comparison
from mtpret_jax import config as schema

_STRIDE = flags.DEFINE_integer(
    "output_stride", 16, "Of the backbone, pixels: 8, 16 or 32."
)
_CLASSES = 4  # of the mask, background included; as ours.MASK_CLASSES


def main(arguments: list[str]) -> None:
    """Measures both, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    head = schema.SegmentationConfig(output_stride=_STRIDE.value)
    made_from = comparison.settings(
        "segmentation", segmentation=dataclasses.asdict(head), classes=_CLASSES
    )
    reference = "benchmarks.reference.segmentation"
    with comparison.sides(made_from, reference) as (started, facts):
        found = {"step": comparison.measure(started, "step")}
    comparison.show(found, "images/s")
    question = f"segmentation_stride{_STRIDE.value}"
    comparison.write(question, found, made_from, facts)


if __name__ == "__main__":
    app.run(main)
