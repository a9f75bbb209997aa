"""A sum of two errors, the variance of one known, of the other estimated from few."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import optimize, special

_LOG = np.linspace(-40.0, 7.0, 800)  # of half a chi-square


@dataclasses.dataclass(frozen=True)
class Sum:
    """N(0, known), plus Student's t times the square root of `estimated`.

    Neither normal nor a t. Satterthwaite's t in its place is too sure in the tails, to
    which a correction for many comparisons looks, where few seeds agree by chance.

    Attributes:
      known: Variance of the normal part.
      estimated: Variance of the other part; not both are 0.
      freedom: Degrees of freedom of that estimate, at least 1.

    Source:
      Behrens 1929; Fisher 1935, "The fiducial argument in statistical inference".
    """

    known: float
    estimated: float
    freedom: int

    def tail(self, distance: float) -> float:
        """Probability of a sum farther from zero than `distance`, at least 0."""
        half = np.exp(_LOG)
        logarithm = self.freedom / 2 * _LOG - half - special.gammaln(self.freedom / 2)
        variance = self.known + self.estimated * self.freedom / (2 * half)
        outside = 2 * special.ndtr(-distance / np.sqrt(variance))
        return float((np.exp(logarithm) * outside).sum() * (_LOG[1] - _LOG[0]))

    def quantile(self, level: float) -> float:
        """The distance from zero that the sum exceeds with probability `level`."""
        # That of a t of the whole variance is no smaller.
        largest = special.stdtrit(self.freedom, 1 - level / 2)
        largest *= 1.01 * np.sqrt(self.known + self.estimated)
        found: Any = optimize.brentq(
            lambda x: self.tail(x) - level, 0.0, float(largest)
        )
        return found
