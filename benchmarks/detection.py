"""Faster R-CNN's training step against torchvision's, on a constant batch.

torchvision takes part where its compiled operators are there.

Run:     python -m benchmarks.detection --torch_python=<python with PyTorch>
"""

from __future__ import annotations

import dataclasses

from benchmarks import comparison
from mtpret_jax import config as schema

_BOXES = 4  # of each image


def main() -> None:
    """Measures both, shows and writes."""
    parser = comparison.parser(__doc__)
    parser.add_argument("--channels", type=int, default=256, help="of the pyramid")
    parser.add_argument(
        "--regions", type=int, default=512, help="sampled from each image"
    )
    options = parser.parse_args()
    head = schema.DetectionConfig(channels=options.channels, regions=options.regions)
    made_from = comparison.settings(
        "detection", options, detection=dataclasses.asdict(head), boxes=_BOXES
    )
    comparison.compare_steps("detection", "detection", made_from, options)


if __name__ == "__main__":
    main()
