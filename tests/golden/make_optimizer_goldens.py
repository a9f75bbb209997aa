# pyright: reportMissingImports=false
"""SGD and AdamW of PyTorch under its linear warm-up and cosine, on drawn gradients.

Of each case: the learning rate of every step, the gradients' norms before clipping, and
the parameters after the last step. Weight decay touches what has more than one axis,
as in mtpret_jax: parameters of two groups.
"""

from typing import Any

import drawing
import numpy as np

SHAPES = {
    "conv.weight": (4, 3, 3, 3),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "fc.weight": (5, 4),
    "fc.bias": (5,),
}
STEPS, PEAK, LAST, CLIP = 12, 0.1, 0.01, 3.0
# Optimiser, steps of warm-up from a tenth of the peak, weight decay.
CASES = {
    "sgd": ("sgd", 4, 0.1),
    "sgd_without_warmup": ("sgd", 0, 0.0),
    "adamw": ("adamw", 4, 0.1),
    "adamw_without_warmup": ("adamw", 0, 0.0),
}


def gradients(step: int) -> dict[str, np.ndarray]:
    """Of a step; every third one is clipped."""
    factor = np.float32(3 if step % 3 == 0 else 0.3)
    return {
        name: factor * drawing.uniform(f"{name} {step}", shape)
        for name, shape in SHAPES.items()
    }


def _schedule(optimizer: Any, warmup: int) -> Any:
    from torch.optim import lr_scheduler

    if not warmup:
        return lr_scheduler.CosineAnnealingLR(optimizer, STEPS, LAST)
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=warmup),
        lr_scheduler.CosineAnnealingLR(optimizer, STEPS - warmup, LAST),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[warmup])


def compute(case: str, dtype: Any) -> dict[str, np.ndarray]:
    """Rates, norms and last parameters of a case."""
    import torch

    name, warmup, decay = CASES[case]
    parameters = {
        key: torch.tensor(array, dtype=dtype, requires_grad=True)
        for key, array in drawing.draw(SHAPES).items()
    }
    groups = [
        {
            "params": [x for x in parameters.values() if x.ndim > 1],
            "weight_decay": decay,
        },
        {
            "params": [x for x in parameters.values() if x.ndim == 1],
            "weight_decay": 0.0,
        },
    ]
    if name == "sgd":
        optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(groups, lr=PEAK)
    schedule = _schedule(optimizer, warmup)
    rates, norms = [], []
    for step in range(STEPS):
        for key, array in gradients(step).items():
            parameters[key].grad = torch.tensor(array, dtype=dtype)
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return {
        f"{case}/rates": np.array(rates),
        f"{case}/norms": np.array(norms),
        **{f"{case}/{key}": x.detach().numpy() for key, x in parameters.items()},
    }


def main() -> None:
    """Writes the file."""
    import torch

    results = [
        {key: x for case in CASES for key, x in compute(case, dtype).items()}
        for dtype in (torch.float64, torch.float32)
    ]
    drawing.store("optimizer", SHAPES, *results)


if __name__ == "__main__":
    main()
