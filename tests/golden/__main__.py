"""Makes all golden files: `python tests/golden`, or some: `python tests/golden resnet`.

Needs PyTorch, torchvision and NumPy, and nothing of this project.
"""

import pathlib
import runpy
import sys

FOLDER = pathlib.Path(__file__).parent


def main(chosen: list[str]) -> None:
    """Runs `make_<name>_goldens.py`, each or those named."""
    for script in sorted(FOLDER.glob("make_*_goldens.py")):
        name = script.stem.removeprefix("make_").removesuffix("_goldens")
        if not chosen or name in chosen:
            runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
