"""MoCo v2 in PyTorch, as our stage 1 computes it, and its input pipeline.

Same encoder, head, queue, temperature, permutation of the keys, clipping and SGD. The
images are the same grey files, decoded by OpenCV as ours are; the two views are drawn
by torchvision's transforms, on uint8 as far as they allow, which is their fast way.
"""

from __future__ import annotations

import copy
import math
import pathlib
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from torch.nn import functional
from torchvision.transforms import v2

from benchmarks import harness
from benchmarks.reference import training

_LOG_ASPECT = 0.1  # as data.augment


class Gamma(torch.nn.Module):
    """A random exponent from 1 / (1 + largest) to 1 + largest."""

    def __init__(self, largest: float) -> None:
        super().__init__()
        self._largest = largest

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps intensities in [0, 1] to the same."""
        power = (1 + self._largest) ** (2 * torch.rand(()).item() - 1)
        return image.clamp_(0, 1).pow_(power)


class Noise(torch.nn.Module):
    """Gaussian noise of a random deviation: a window of a field drawn once, as ours."""

    def __init__(self, largest: float, size: int) -> None:
        super().__init__()
        self._largest, self._size = largest, size
        self._field = torch.randn(2 * size, 2 * size)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps intensities in [0, 1] to the same."""
        deviation = self._largest * torch.rand(()).item()
        row, column = torch.randint(0, self._size + 1, (2,)).tolist()
        window = self._field[row : row + self._size, column : column + self._size]
        return image.add_(window, alpha=deviation).clamp_(0, 1)


def views(settings: dict[str, Any]) -> v2.Transform:
    """A random view, uint8 [1, H, W] to float32 [1, size, size], normalised.

    Args:
      settings: `image_size`, and `augment`, the fields of `config.AugmentConfig`.
    """
    drawn = settings["augment"]
    ratio = (math.exp(-_LOG_ASPECT), math.exp(_LOG_ASPECT))
    reach = math.ceil(3 * drawn["blur_sigma"])  # pixels
    blur = v2.GaussianBlur(2 * reach + 1, (0.1, drawn["blur_sigma"]))
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                settings["image_size"],
                scale=(drawn["crop_min_area"], drawn["crop_max_area"]),
                ratio=ratio,
                antialias=True,
            ),
            v2.RandomHorizontalFlip(drawn["flip_probability"]),
            v2.RandomRotation(
                drawn["rotation_degrees"], interpolation=v2.InterpolationMode.BILINEAR
            ),
            v2.ToDtype(torch.float32, scale=True),
            v2.ColorJitter(drawn["brightness"], drawn["contrast"]),
            Gamma(drawn["gamma"]),
            v2.RandomApply([blur], drawn["blur_probability"]),
            Noise(drawn["noise"], settings["image_size"]),
            v2.Lambda(lambda image: (image - image.mean()) / (image.std() + 1e-6)),
        ]
    )


class Images(torch.utils.data.Dataset):
    """Two random views of each PNG file of a folder, decoded once."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._paths = sorted(pathlib.Path(settings["files"]).glob("*.png"))
        self._view = views(settings)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = np.fromfile(self._paths[index], np.uint8)
        grey = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        image = torch.from_numpy(grey)[None]
        return self._view(image), self._view(image)


class Encoder(torch.nn.Module):
    """A ResNet without its classifier, and a projection to unit length."""

    def __init__(self, network: str, embedding_size: int) -> None:
        super().__init__()
        self.backbone = torchvision.models.get_model(network, weights=None)
        width = self.backbone.fc.in_features
        self.backbone.fc = torch.nn.Sequential(
            torch.nn.Linear(width, width),
            torch.nn.ReLU(inplace=True),
            torch.nn.Linear(width, embedding_size),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Maps [B, 3, H, W] to float32 [B, embedding_size]."""
        return functional.normalize(self.backbone(image).float(), dim=1)


class Side(training.Side):
    """Momentum contrast, trained on noise or on stored files."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Builds, and does two steps."""
        super().__init__(settings)
        reference = self.reference
        self._moco = moco = settings["contrastive"]
        self.train(Encoder(settings["network"], moco["embedding_size"]))
        key_encoder = copy.deepcopy(self.network).requires_grad_(False)
        self._slow = list(key_encoder.parameters())
        self._fast = list(self.network.parameters())
        queue = torch.randn(moco["queue_size"], moco["embedding_size"])
        self._queue = functional.normalize(queue, dim=1).to(reference.device)
        self._pointer = 0
        self._query = reference.compile(self._query_loss)
        self._keys = reference.compile(key_encoder)
        size = settings["image_size"]
        shape = (settings["batch_size"], 1, size, size)
        self.batch = tuple(torch.randn(shape).to(reference.device) for _ in range(2))
        self._workers = 0
        self.step(2)

    def _query_loss(
        self, image: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        query = self.network(image)
        positive = (query * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, query @ queue.T], 1)
        logits = logits.float() / self._moco["temperature"]
        target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        first = (logits.argmax(1) == 0).float().mean()
        return functional.cross_entropy(logits, target), first

    def one_step(self, *batch: torch.Tensor) -> None:
        """Momentum update, keys, loss, update, then the queue."""
        reference, (query, positive) = self.reference, batch
        with torch.no_grad():
            torch._foreach_lerp_(self._slow, self._fast, 1 - self._moco["momentum"])
            positive = positive.to(reference.device, non_blocking=True)
            order = torch.randperm(len(positive), device=positive.device)
            with reference.autocast():
                keys = self._keys(reference.image(positive[order]))
            keys = keys[torch.argsort(order)]
        with reference.autocast():
            loss, _ = self._query(reference.image(query), keys, self._queue)
        reference.update(self.optimizer, loss)
        with torch.no_grad():
            self._queue[self._pointer : self._pointer + len(keys)] = keys
        self._pointer = (self._pointer + len(keys)) % len(self._queue)

    def end_to_end(self, steps: int, warm_up: int, readers: int | None = None) -> float:
        """Seconds of steps from stored files on; see `ours.Side.end_to_end`."""
        workers = self._workers if readers is None else readers
        images, batch = Images(self.settings), self.settings["batch_size"]
        sampler = torch.utils.data.RandomSampler(
            images, replacement=True, num_samples=(steps + warm_up + 64) * batch
        )
        loader = torch.utils.data.DataLoader(
            images,
            batch,
            sampler=sampler,
            num_workers=workers,
            pin_memory=self.reference.on_gpu,
            prefetch_factor=self.settings["buffer"] if workers else None,
            worker_init_fn=lambda _: cv2.setNumThreads(0),
        )
        batches = iter(loader)
        self.seconds(warm_up, batches)
        return self.seconds(steps, batches)

    def choose_readers(self, tried: list[int], steps: int, warm_up: int) -> list[float]:
        """Seconds with each number of worker processes; the best is kept."""
        found = [self.end_to_end(steps, warm_up, readers) for readers in tried]
        self._workers = tried[int(np.argmin(found))]
        return found


if __name__ == "__main__":
    harness.serve(Side)
