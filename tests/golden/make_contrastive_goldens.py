# pyright: reportMissingImports=false
"""Momentum contrast (MoCo v2) in plain PyTorch, after the published algorithm.

He et al. 2020, algorithm 1, with the head of Chen et al. 2020. Encoders are
torchvision's ResNet-18. Each part of the batch goes through the network alone, as on a
device of its own, so that BatchNorm takes its statistics there; the keys' parts are of
a permuted batch, whose orders are drawn here.

Of every step: logits, loss, gradient norm; after the last: the weights of both
encoders, the queue, the pointer, and running statistics. The queue is filled and begun
anew on the way.

Two things are as in mtpret_jax instead of the published code: weight decay touches
kernels alone, and running statistics are those of the whole batch (on devices, each
has its own, and the first one's are kept).
"""

import copy
from typing import Any

import drawing
import numpy as np

BATCH, SIZE, GROUPS = 8, 33, 2  # images, pixels, parts of the batch
QUEUE, WIDTH = 24, 16  # embeddings
STEPS = 4  # the fourth begins the queue anew
MOMENTUM, TEMPERATURE = 0.9, 0.2  # of the key encoder; of the softmax
RATE, SGD_MOMENTUM, WEIGHT_DECAY, CLIP = 0.05, 0.9, 0.01, 1.0


def views(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of the queries and of the keys, float32 [BATCH, SIZE, SIZE, 1]."""
    query = drawing.images(BATCH, SIZE, f"query {step}")
    return query, query / 2 + drawing.images(BATCH, SIZE, f"key {step}") / 2


def order(step: int) -> np.ndarray:
    """In which the keys are encoded, int64 [BATCH]."""
    return np.argsort(drawing.uniform(f"order {step}", (BATCH,)))


def first_queue() -> np.ndarray:
    """Of unit length, float32 [QUEUE, WIDTH]."""
    queue = drawing.uniform("queue", (QUEUE, WIDTH))
    return queue / np.linalg.norm(queue, axis=1, keepdims=True)


class Statistics:
    """Running statistics of the whole batch, of every BatchNorm of a network.

    PyTorch's own function updates them, given the parts of its input joined again.
    """

    def __init__(self, network: Any) -> None:
        import torch

        self.running, self._parts = {}, {}
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                self.running[name] = (
                    module.running_mean.clone(),
                    module.running_var.clone(),
                )
                self._parts[name] = []
                module.register_forward_pre_hook(
                    lambda _, inputs, name=name: self._parts[name].append(
                        inputs[0].detach()
                    )
                )

    def update(self) -> None:
        """After all parts of a batch went through."""
        import torch

        for name, parts in self._parts.items():
            torch.nn.functional.batch_norm(
                torch.cat(parts), *self.running[name], training=True
            )
            parts.clear()

    def arrays(self) -> dict[str, np.ndarray]:
        """By torchvision's names."""
        return {
            f"{name}.running_{kind}": tensor.numpy()
            for name, pair in self.running.items()
            for kind, tensor in zip(("mean", "var"), pair, strict=True)
        }


def weights(network: Any) -> np.ndarray:
    """Digest of the parameters alone."""
    return drawing.digest(
        {name: x.detach().numpy() for name, x in network.named_parameters()}
    )


def _encoder() -> Any:
    import torch
    import torchvision

    network = torchvision.models.resnet18(weights=None)
    width = network.fc.in_features
    network.fc = torch.nn.Sequential(
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, WIDTH)
    )
    return network


def compute(dtype: Any) -> tuple[dict[str, tuple[int, ...]], drawing.Arrays]:
    """Shapes of an encoder's tensors, and results."""
    import torch
    from torch.nn import functional

    encoder_q = _encoder()
    shapes = drawing.fill(encoder_q.to(dtype))
    encoder_k = copy.deepcopy(encoder_q).requires_grad_(False)
    statistics = {"query": Statistics(encoder_q), "key": Statistics(encoder_k)}
    kernels = [x for x in encoder_q.parameters() if x.ndim > 1]
    others = [x for x in encoder_q.parameters() if x.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others}],
        lr=RATE,
        momentum=SGD_MOMENTUM,
    )
    queue, pointer = torch.tensor(first_queue(), dtype=dtype), 0

    def embed(network: Any, image: Any) -> Any:
        parts = [network(part) for part in image.chunk(GROUPS)]
        return functional.normalize(torch.cat(parts), dim=1)

    logits, losses, norms = [], [], []
    for step in range(STEPS):
        x_q, x_k = (
            torch.tensor(x.transpose(0, 3, 1, 2).repeat(3, axis=1), dtype=dtype)
            for x in views(step)
        )
        q = embed(encoder_q, x_q)
        with torch.no_grad():
            pairs = zip(encoder_k.parameters(), encoder_q.parameters(), strict=True)
            for slow, fast in pairs:
                slow.mul_(MOMENTUM).add_(fast, alpha=1 - MOMENTUM)
            shuffled = torch.from_numpy(order(step))
            k = embed(encoder_k, x_k[shuffled])[torch.argsort(shuffled)]
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        negative = torch.einsum("nc,kc->nk", q, queue)
        scores = torch.cat([positive, negative], dim=1) / TEMPERATURE
        loss = functional.cross_entropy(scores, torch.zeros(BATCH, dtype=torch.int64))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(encoder_q.parameters(), CLIP)
        optimizer.step()
        queue[pointer : pointer + BATCH] = k
        pointer = (pointer + BATCH) % QUEUE
        for each in statistics.values():
            each.update()
        logits.append(scores.detach().numpy())
        losses.append(loss.item())
        norms.append(norm.item())
    return shapes, {
        "logits": np.array(logits),
        "losses": np.array(losses),
        "gradient_norms": np.array(norms),
        "query_weights": weights(encoder_q),
        "key_weights": weights(encoder_k),
        "query_statistics": drawing.digest(statistics["query"].arrays()),
        "key_statistics": drawing.digest(statistics["key"].arrays()),
        "queue": queue.numpy(),
        "pointer": np.array([pointer]),
    }


def main() -> None:
    """Writes the file."""
    import torch

    (shapes, exact), (_, single) = compute(torch.float64), compute(torch.float32)
    drawing.store("moco_resnet18", shapes, exact, single)


if __name__ == "__main__":
    main()
