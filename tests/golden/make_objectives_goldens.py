# pyright: reportMissingImports=false
"""Losses of stage 1 and their gradients by lightly, on drawn embeddings and patches.

lightly has no loss of MoCo v3; that one is PyTorch's cross-entropy, as the paper's
algorithm 1 has it. The random directions of LeJEPA are given, and its constants, which
lightly keeps in float32, are made anew in float64.
"""

from typing import Any
from unittest import mock

import drawing
import numpy as np

BATCH, WIDTH, PROTOTYPES, SLICES = 12, 8, 20, 32
SMALL = 3  # small views
TEMPERATURE, STUDENT, TEACHER = 0.2, 0.1, 0.04
WEIGHT = 0.05  # of LeJEPA's spreading term
SIDE, IMAGE = 4, 16  # of a patch and an image, pixels
HIDDEN = 11  # patches of 16


def unit(name: str) -> np.ndarray:
    """Embeddings of unit length, float64 [BATCH, WIDTH]."""
    drawn = drawing.uniform(name, (BATCH, WIDTH)).astype(np.float64)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def outputs(name: str) -> np.ndarray:
    """Outputs for prototypes, float64 [BATCH, PROTOTYPES]."""
    return drawing.uniform(name, (BATCH, PROTOTYPES)).astype(np.float64)


def views() -> np.ndarray:
    """Projections of two large and some small views, [2 + SMALL, BATCH, WIDTH]."""
    return drawing.uniform("views", (2 + SMALL, BATCH, WIDTH)).astype(np.float64) * 2


def directions() -> np.ndarray:
    """Of unit length, float64 [WIDTH, SLICES]."""
    drawn = drawing.uniform("directions", (WIDTH, SLICES)).astype(np.float64)
    return drawn / np.linalg.norm(drawn, axis=0)


def pictures() -> np.ndarray:
    """float64 [BATCH, IMAGE, IMAGE, 1]."""
    return drawing.uniform("pictures", (BATCH, IMAGE, IMAGE, 1)).astype(np.float64)


def predicted() -> np.ndarray:
    """Pixels of all patches, float64 [BATCH, patches, pixels]."""
    shape = (BATCH, (IMAGE // SIDE) ** 2, SIDE * SIDE)
    return drawing.uniform("predicted", shape).astype(np.float64)


def hidden() -> np.ndarray:
    """Which patches are hidden, HIDDEN of each image, bool [BATCH, patches]."""
    order = drawing.uniform("hidden", (BATCH, (IMAGE // SIDE) ** 2)).argsort(1)
    return order.argsort(1) < HIDDEN


def _with_gradient(loss: Any, *given: Any) -> list[np.ndarray]:
    loss.backward()
    return [loss.detach().numpy(), *(x.grad.numpy() for x in given)]


def _moco_v3() -> list[np.ndarray]:
    import torch

    query = torch.tensor(unit("query"), requires_grad=True)
    logits = query @ torch.tensor(unit("keys")).T / TEMPERATURE
    own = torch.arange(BATCH)
    loss = 2 * TEMPERATURE * torch.nn.functional.cross_entropy(logits, own)
    return _with_gradient(loss, query)


def _dino() -> list[np.ndarray]:
    import torch
    from lightly import loss as losses

    teacher = [torch.tensor(outputs(f"teacher {n}")) for n in range(2)]
    student = [
        torch.tensor(outputs(f"student {n}"), requires_grad=True)
        for n in range(2 + SMALL)
    ]
    criterion = losses.DINOLoss(
        PROTOTYPES,
        warmup_teacher_temp=TEACHER,
        teacher_temp=TEACHER,
        student_temp=STUDENT,
    ).double()
    criterion.center += torch.tensor(outputs("center")[0])
    with mock.patch("torch.tensor", lambda x: torch.as_tensor(x, dtype=torch.float64)):
        loss = criterion(teacher, student)
    return _with_gradient(loss, *student)


def _lejepa() -> list[np.ndarray]:
    import torch
    from lightly import loss as losses

    projections = torch.tensor(views(), requires_grad=True)
    criterion = losses.LeJEPALoss(WEIGHT, sigreg_num_vectors=SLICES)
    spread = criterion.sigreg
    frequency = spread.t.double()
    step = float(frequency[1])
    spread.t, spread.phi = frequency, torch.exp(-frequency.square() / 2)
    ends = torch.full_like(frequency, 2 * step)
    ends[[0, -1]] = step
    spread.weights = ends * spread.phi
    with mock.patch.object(
        spread, "_generate_unit_vectors", return_value=torch.tensor(directions())
    ):
        loss = criterion(local_proj=projections[2:], global_proj=projections[:2])
    return _with_gradient(loss, projections)


def _mae() -> list[np.ndarray]:
    import torch
    from lightly.models import utils

    drawn = torch.tensor(predicted(), requires_grad=True)
    image = torch.tensor(pictures()).permute(0, 3, 1, 2)
    target = utils.normalize_mean_var(utils.patchify(image, SIDE))
    error = torch.nn.functional.mse_loss(
        drawn[torch.tensor(hidden())], target[torch.tensor(hidden())]
    )
    return _with_gradient(error, drawn)


def main() -> None:
    """Writes `objectives.npz`: of each loss its value and gradients."""
    found = {"moco_v3": _moco_v3(), "dino": _dino()}
    found |= {"lejepa": _lejepa(), "mae": _mae()}
    arrays = {
        f"{name}_{place}": np.asarray(value, np.float64)
        for name, values in found.items()
        for place, value in enumerate(values)
    }
    np.savez_compressed(drawing.FOLDER / "objectives.npz", **arrays)


if __name__ == "__main__":
    main()
