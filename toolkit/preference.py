"""A label as a preference between two images: which side it leans to, and when it is a tie.

A label is 1 (image_0 is preferred), 0 (image_1), 0.5 (a tie) or missing (null in Arrow, NaN in
numpy). Label sets and exports ask this module.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

TIE = 0.5
ALLOWED = "1 (image_0), 0 (image_1), 0.5 (tie)"
"""The values of a label, as error messages list them."""


def values_of(column: pa.ChunkedArray | pa.Array) -> Floats:
    """A column of labels, choices or scores as float64, (N,); NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def lean(label: npt.ArrayLike) -> Floats:
    """The side that each label prefers: +1 image_0, -1 image_1, 0 a tie, NaN no label."""
    return np.sign(np.asarray(label, np.float64) - TIE)


def is_decided(label: npt.ArrayLike) -> Mask:
    """Whether each label prefers one of the images: neither a tie nor missing."""
    return np.abs(lean(label)) == 1


def is_tie(label: npt.ArrayLike) -> Mask:
    """Whether each label is a tie; a missing label is none."""
    return lean(label) == 0


def label_of(lean: npt.ArrayLike) -> Floats:
    """The label of a sum of leans: 1 above zero, 0 below, 0.5 at zero, NaN for NaN."""
    return (np.sign(np.asarray(lean, np.float64)) + 1) / 2


def reverse(label: npt.ArrayLike) -> Floats:
    """The opposite preference; a tie stays a tie."""
    return 1 - np.asarray(label, np.float64)


def differs(label: npt.ArrayLike, other: npt.ArrayLike) -> Mask:
    """Whether two labels are different; two missing labels are not."""
    first, second = np.asarray(label, np.float64), np.asarray(other, np.float64)
    return ~((first == second) | (np.isnan(first) & np.isnan(second)))


def is_allowed(label: npt.ArrayLike) -> Mask:
    """Whether each value is a label: 1, 0, 0.5, or NaN for none."""
    values = np.asarray(label, np.float64)
    return np.isnan(values) | np.isin(values, (0, TIE, 1))
