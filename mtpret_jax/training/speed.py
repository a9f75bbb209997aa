"""How fast a run is and why: images, operations, and the wait for input.

All of it depends on the clock and the machine, so it goes to the log, to TensorBoard
and to `run.json`, never to `metrics.jsonl`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mtpret_jax import types
from mtpret_jax.training import operations

# Peak operations per second of what JAX calls one device, in bfloat16 products without
# sparsity (V100 and T4 have none of bfloat16: float16). By whole `device_kind`.
# Not yet compared with the makers' sheets: cloud.google.com/tpu/docs, "System
# architecture" of each version, a chip of v2 and v3 being two devices; NVIDIA's data
# sheets of V100, T4, A100, L4, H100 and H200; "NVIDIA Blackwell Architecture Technical
# Brief" for B200, half of "sparse".
PEAKS = {
    r"TPU v2": 45e12 / 2,
    r"TPU v3": 123e12 / 2,
    r"TPU v4": 275e12,
    r"TPU v5 lite|TPU v5e": 197e12,
    r"TPU v5|TPU v5p": 459e12,
    r"TPU v6 lite|TPU v6e": 918e12,
    r"(Tesla |NVIDIA )?V100-SXM[23]-\d+GB\S*": 125e12,
    r"(Tesla |NVIDIA )?V100-PCIE-\d+GB": 112e12,
    r"(Tesla |NVIDIA )?T4": 65e12,
    r"(NVIDIA )?A100-(SXM4|PCIE|PG509)-\d+GB|NVIDIA A100 80GB PCIe": 312e12,
    r"NVIDIA L4": 121e12,
    r"NVIDIA H100( 80GB HBM3)?": 989e12,
    r"NVIDIA H100 PCIe": 756e12,
    r"NVIDIA H100 NVL": 835e12,
    r"NVIDIA H200": 989e12,
    r"NVIDIA B200": 2250e12,
}


def peak(device_kind: str) -> float:
    """Peak operations per second of a device, or NaN where the table has it not."""
    for pattern, value in PEAKS.items():
        if re.fullmatch(pattern, device_kind):
            return value
    return math.nan


@dataclasses.dataclass(frozen=True)
class Speed:
    """Of the steps done in some time, on one device in the mean.

    Attributes:
      seconds: That passed, less those of evaluating, saving and compiling.
      images: Examples that were trained on, over all devices.
      operations: The model's, over all devices; NaN if not counted.
      waited: Seconds in which the loop stood still for want of a batch.
      devices: How many there are.
      peak: Operations per second of one; NaN if not known.
    """

    seconds: float
    images: int
    operations: float
    waited: float
    devices: int
    peak: float

    def __sub__(self, other: Speed) -> Speed:
        return dataclasses.replace(
            self,
            **{
                name: getattr(self, name) - getattr(other, name)
                for name in ("seconds", "images", "operations", "waited")
            },
        )

    @property
    def images_per_device(self) -> float:
        """Images per second on each device."""
        return self._per_second(self.images) / self.devices

    @property
    def utilisation(self) -> float:
        """Model FLOP utilisation: share of the peak, [0, 1]; NaN if not known."""
        return self._per_second(self.operations) / (self.devices * self.peak)

    @property
    def waited_share(self) -> float:
        """Share of the time in which the loop waited for input, [0, 1]."""
        return self._per_second(self.waited)

    def scalars(self) -> dict[str, float]:
        """For TensorBoard; what is not known is left out."""
        values = {
            "speed/images_per_second_per_device": self.images_per_device,
            "speed/model_flop_utilisation": self.utilisation,
            "speed/input_wait_seconds": self.waited,
            "speed/input_wait_share": self.waited_share,
        }
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def __str__(self) -> str:
        where = f"each of {self.devices} devices" if self.devices > 1 else "the device"
        used = "unknown"
        if math.isfinite(self.utilisation):
            used = f"{100 * self.utilisation:.1f} % of {self.peak / 1e12:.0f} TFLOP/s"
        return (
            f"{self.images_per_device:.1f} images/s on {where}, "
            f"model FLOP utilisation {used}, waited for input "
            f"{100 * self.waited_share:.0f} % of the time ({self.waited:.1f} s)"
        )

    def _per_second(self, value: float) -> float:
        return value / self.seconds if self.seconds > 0 else math.nan


class Meter:
    """Counts what `Speed` tells, from when it is made."""

    def __init__(
        self, devices: Sequence[Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begins to count.

        Args:
          devices: The run's devices, which are alike.
          clock: Seconds, rising.
        """
        self._devices = len(devices)
        self._peak = peak(devices[0].device_kind)
        self._clock, self._began = clock, clock()
        self._paused = self._waited = 0.0
        self._images, self._operations = 0, 0.0
        self._per_step: dict[str, float] = {}  # operations of a step of each task

    def timed(self, stream: Iterator[types.Batch]) -> Iterator[types.Batch]:
        """The same batches; what the wait for one takes is counted."""
        while True:
            began = self._clock()
            try:
                batch = next(stream)
            except StopIteration:
                return
            finally:
                self._waited += self._clock() - began
            yield batch

    def counted(self, step: Any) -> Callable:
        """The compiled `step`; a task's first one, which compiles, takes no time."""

        def counting(state: types.TrainState, batch: types.Batch) -> Any:
            if batch.task in self._per_step:
                return step(state, batch)
            with self.paused():
                found = math.nan
                if math.isfinite(self._peak):  # Else there is no use for it.
                    found = operations.count(step.trace(state, batch).jaxpr)
                self._per_step[batch.task] = found
                return step(state, batch)

        return counting

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within, time does not count."""
        began = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - began

    def add(self, task: str, images: int) -> None:
        """Counts a step that has been done, of so many images over all devices."""
        self._images += images
        self._operations += self._per_step.get(task, math.nan)

    def read(self) -> Speed:
        """Everything since the beginning."""
        return Speed(
            seconds=self._clock() - self._began - self._paused,
            images=self._images,
            operations=self._operations,
            waited=self._waited,
            devices=self._devices,
            peak=self._peak,
        )
