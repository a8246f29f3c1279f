"""How far points are from where they are expected: a distribution whose tail is fitted too."""

from __future__ import annotations

import dataclasses

import numpy as np

MIN_DISTANCES = 20  # that a tail can be learned from
_MOST = 0.95
_MIN_SCALE = 1e-12
# Twice the inverse of the degrees of freedom: from nearly a Gaussian to half a Cauchy distribution.
_SHAPES = np.geomspace(1e-2, 4.0, 200)


@dataclasses.dataclass(frozen=True)
class RadialTail:
    """A t distribution about 0 of offsets in the plane that has no preferred direction.

    Attributes:
        scale: Of the squared distances; positive.
        dof: Degrees of freedom: the fewer, the heavier the tail.
    """

    scale: float = 1.0
    dof: float = 4.0

    @classmethod
    def fit(cls, squared: np.ndarray) -> RadialTail:
        """Learn from squared distances, of any shape; NaN do not count.

        By the distances that half and that 95 % of them do not exceed: these are hardly moved if
        one in a hundred is wrong. The default if there are fewer than MIN_DISTANCES.
        """
        squared = squared[~np.isnan(squared)]
        if len(squared) < MIN_DISTANCES:
            return cls()
        half, most = np.maximum(np.quantile(squared, (0.5, _MOST)), _MIN_SCALE)
        # The share beyond d^2 is (1 + d^2 / (dof scale))^(-dof / 2).
        ratios = ((1 - _MOST) ** -_SHAPES - 1) / (2**_SHAPES - 1)
        shape = float(_SHAPES[min(np.searchsorted(ratios, most / half), len(_SHAPES) - 1)])
        return cls(scale=float(half / (2**shape - 1) * shape / 2), dof=2 / shape)

    def log_density(self, squared: np.ndarray) -> np.ndarray:
        """Return the log-density of offsets with these squared lengths, per unit of area."""
        exponent = self.dof / 2 + 1
        return -np.log(2 * np.pi * self.scale) - exponent * np.log1p(
            squared / (self.dof * self.scale)
        )
