"""Are pixels prepared as RAD-DINO's and torchxrayvision's processors prepare them?

Largest and mean difference in grey levels of 255, for a set that stores images whole
and for sets that store them shrunk.

Run:     python -m benchmarks.processors --torch_python=<python with transformers and
         torchxrayvision> --images=<folder of X-rays>
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile

import cv2
import numpy as np

from mtpret_jax.inference import preprocessing

REPOSITORY = pathlib.Path(__file__).parent.parent
REFERENCE = REPOSITORY / "tests" / "golden" / "make_processors_goldens.py"
LIMIT = 1.0  # grey levels, where images are stored whole
ROUNDED = 0.02  # of the reference, in hundredths, and of float32
PROCESSORS = {"bicubic": ("RAD-DINO", 518), "gaussian": ("torchxrayvision", 224)}


def main() -> None:
    """Prints a table; ends with an error where whole images differ by more."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", default=sys.executable, help="see above")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="X-rays")
    parser.add_argument("--count", type=int, default=10, help="how many of them")
    options = parser.parse_args()
    paths = sorted(path for path in options.images.iterdir() if path.is_file())
    paths = paths[:: max(1, len(paths) // options.count)][: options.count]
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        sent, back = f"{folder}/images.npz", f"{folder}/results.npz"
        np.savez(sent, *[np.asarray(picture) for picture in pictures])
        subprocess.run([options.torch_python, REFERENCE, sent, back], check=True)
        with np.load(back) as file:
            expected = dict(file)
    sys.stdout.write(f"{'processor':18}{'stored, px':>12}{'largest':>9}{'mean':>8}\n")
    worst = 0.0
    for resample, (name, size) in PROCESSORS.items():
        for longest in (0, 448, 384, 256):
            made = preprocessing.Preparation(
                size, "crop", ((0.0,), (1.0,)), longest, 8, resample=resample
            )
            differences = [
                np.abs(
                    preprocessing.read(np.asarray(picture), made).image[..., 0] * 255
                    - expected[f"{resample}_{number}"] / 100
                )
                for number, picture in enumerate(pictures)
            ]
            largest = max(float(each.max()) for each in differences)
            mean = np.mean([each.mean() for each in differences])
            worst = worst if longest else max(worst, largest)
            stored = longest or "whole"
            sys.stdout.write(f"{name:18}{stored:>12}{largest:9.2f}{mean:8.3f}\n")
    if worst > LIMIT + ROUNDED:
        raise SystemExit(f"a difference is beyond {LIMIT} grey levels")


if __name__ == "__main__":
    main()
