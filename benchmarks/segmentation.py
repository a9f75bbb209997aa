"""DeepLabV3's training step against torchvision's, on a constant batch.

Run:     python -m benchmarks.segmentation --torch_python=<python with PyTorch>
"""

from __future__ import annotations

import dataclasses

from benchmarks import comparison
from mtpret_jax import config as schema

_CLASSES = 4  # of the mask, background included; as ours.MASK_CLASSES


def main() -> None:
    """Measures both, shows and writes."""
    parser = comparison.parser(__doc__)
    parser.add_argument(
        "--output_stride", type=int, default=16, help="of the backbone: 8, 16 or 32"
    )
    options = parser.parse_args()
    head = schema.SegmentationConfig(output_stride=options.output_stride)
    made_from = comparison.settings(
        "segmentation",
        options,
        segmentation=dataclasses.asdict(head),
        classes=_CLASSES,
    )
    question = f"segmentation_stride{options.output_stride}"
    comparison.compare_steps("segmentation", question, made_from, options)


if __name__ == "__main__":
    main()
