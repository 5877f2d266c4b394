"""How sure a share is that was counted."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def wilson(
    found: npt.ArrayLike, count: npt.ArrayLike, z: float = 1.959964
) -> tuple[Floats, Floats]:
    """The interval of found / count (Wilson 1927), elementwise; 95 % unless `z` says otherwise.

    NaN where count is 0.
    """
    found, count = np.asarray(found, np.float64), np.asarray(count, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = found / count
        centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        half = half / (1 + z**2 / count)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)
