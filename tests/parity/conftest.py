"""Puts the scripts of the golden files on the path, so that tests draw what they drew."""

import pathlib
import sys

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
