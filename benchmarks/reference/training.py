"""What the PyTorch references share: device, precision, layout and the timed step.

Written as one would who wants PyTorch fast: channels last, fused SGD, and on a GPU
autocast to bfloat16, `torch.compile`, TF32 and cuDNN's search for algorithms.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torchvision

CLIP_NORM = 10.0  # as config.OptimizerConfig


class Reference:
    """A reference's device and precision.

    Attributes:
      device: The GPU if there is one.
      on_gpu: Whether there is one.
      dtype: Of the computation; parameters are float32.
      compiles: Whether `torch.compile` is used.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """Reads `dtype`, and `torch_compile` (None: on a GPU only)."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.on_gpu = self.device.type == "cuda"
        self.dtype = getattr(torch, settings["dtype"])
        asked = settings.get("torch_compile")
        self.compiles = self.on_gpu if asked is None else asked
        torch.manual_seed(0)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        if self.on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module on the device, in training mode, channels last."""
        module = module.to(self.device, memory_format=torch.channels_last)
        return module.train()

    def compile(self, function: Any) -> Any:
        """The function or module, compiled where that is asked for."""
        return torch.compile(function) if self.compiles else function

    def image(self, grey: torch.Tensor) -> torch.Tensor:
        """Grey images [B, 1, H, W] on the device with three channels, channels last."""
        grey = grey.to(self.device, non_blocking=True)
        image = grey.expand(-1, 3, -1, -1)
        return image.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context of forward passes."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def optimizer(self, modules: Iterable[torch.nn.Module]) -> torch.optim.Optimizer:
        """SGD whose decay spares vectors, as ours does."""
        found = [p for module in modules for p in module.parameters()]
        groups = [
            {"params": [p for p in found if p.ndim > 1], "weight_decay": 1e-4},
            {"params": [p for p in found if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)

    def update(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        """Backward pass, clipping and the optimiser's step."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        found = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(found, CLIP_NORM, foreach=True)
        optimizer.step()


class Side:
    """What a comparison asks of the PyTorch side.

    A subclass builds `network` and `batch`, whose parts lie on the device, does two
    steps, which compile where that is asked for, and says what a step is.

    Attributes:
      reference: Device and precision.
      network: The module that is trained.
      optimizer: Of its parameters.
      batch: Arguments of a step.
    """

    network: torch.nn.Module
    batch: tuple[Any, ...]

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.reference = Reference(settings)

    def train(self, network: torch.nn.Module) -> None:
        """Puts the network on the device and gives it an optimiser."""
        self.network = self.reference.place(network)
        self.optimizer = self.reference.optimizer([self.network])

    def one_step(self, *batch: Any) -> None:
        """A training step."""
        raise NotImplementedError

    def seconds(self, steps: int, batches: Iterator[Any]) -> float:
        """Time of so many steps with what `batches` yields."""
        begin = time.perf_counter()
        for _ in range(steps):
            self.one_step(*next(batches))
        if self.reference.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def step(self, steps: int) -> float:
        """Seconds of steps on a constant batch that lies on the device."""
        return self.seconds(steps, itertools.repeat(self.batch))

    def facts(self) -> dict[str, Any]:
        """Device, number of trained parameters, versions and settings."""
        name = torch.cuda.get_device_name() if self.reference.on_gpu else "cpu"
        return {
            "device": name,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "versions": {
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
            "torch_compile": self.reference.compiles,
            "torch_threads": torch.get_num_threads(),
        }
