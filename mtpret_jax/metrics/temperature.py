"""One number that makes probabilities more or less sure, fitted on validation.

Logits are divided by a temperature: the order of images, and so the AUROC, stays.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

LOWEST, HIGHEST = 0.05, 20.0  # where perfect validation would go to 0
_SMALLEST = 1e-7  # float32 has rounded what is nearer to 0 or 1


def fit(
    probability: np.ndarray, label: np.ndarray, known: np.ndarray, *, exclusive: bool
) -> float:
    """The temperature with the least cross-entropy.

    Args:
      probability: Probability of each label, float [N, L].
      label: 0 or 1, [N, L].
      known: Which labels are known, bool [N, L].
      exclusive: Whether exactly one label is true.

    Returns:
      From `LOWEST` to `HIGHEST`; 1 of no known label.
    """
    label, known = np.asarray(label, float), np.asarray(known, bool)
    if not known.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        p = apply(probability, float(np.exp(log_temperature)), exclusive=exclusive)
        p = np.clip(p, _SMALLEST, 1 - _SMALLEST)
        found = label * np.log(p)
        if not exclusive:
            found += (1 - label) * np.log1p(-p)
        return -float(found[known].sum())

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(best.x))


def apply(
    probability: np.ndarray, temperature: float | np.ndarray, *, exclusive: bool
) -> np.ndarray:
    """Probabilities [..., L] at a temperature, or one for each label, float64."""
    p = np.clip(np.asarray(probability, float), _SMALLEST, 1 - _SMALLEST)
    if exclusive:
        return special.softmax(np.log(p) / temperature, axis=-1)
    return special.expit(special.logit(p) / temperature)
