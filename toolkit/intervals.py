"""Confidence intervals of counted shares."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def wilson(
    successes: npt.ArrayLike, count: npt.ArrayLike, z: float = 1.959964
) -> tuple[Floats, Floats]:
    """The interval of successes / count (Wilson 1927), elementwise; 95 % unless `z` says otherwise.

    NaN where count is 0.
    """
    successes, count = np.asarray(successes, np.float64), np.asarray(count, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = successes / count
        centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        half = half / (1 + z**2 / count)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)
