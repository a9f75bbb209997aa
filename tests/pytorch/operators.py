# pyright: reportMissingImports=false
"""Lets torchvision be imported where its compiled operators cannot be loaded.

Its wheel may want another build of PyTorch. The ResNets need no operator, but the
import wants these two to have names.
"""

import functools
import importlib.util
import pathlib

import torch

_NAMES = ("nms", "qnms")


@functools.cache  # PyTorch takes a name once, and several files of tests ask for it.
def declare() -> list[torch.library.Library]:
    """Names the operators, while what it returns lives; [] where they were loaded."""
    spec = importlib.util.find_spec("torchvision")
    folder = pathlib.Path(spec.origin).parent
    try:
        for path in folder.glob("_C*.so"):
            torch.ops.load_library(str(path))
        return []
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in _NAMES:
            library.define(
                f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor"
            )
        return [library]
