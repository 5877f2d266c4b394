"""A label as a preference between two images: which side it leans to, and when it is a tie.

A label is a number from 0 to 1: 1 (image_0 is preferred), 0 (image_1), 0.5 (a tie), anything
between a graded preference (.7: seven of ten people prefer image_0), or missing (null in Arrow, NaN
in numpy). Whoever needs its side asks this module, in numpy or in SQL.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

TIE = 0.5
ALLOWED = "a number from 0 to 1: 1 (image_0), 0 (image_1), 0.5 (tie)"
"""The values of a label, as error messages list them."""


def values_of(column: pa.ChunkedArray | pa.Array) -> Floats:
    """A column of labels, choices or scores as float64, (N,); NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def lean(label: npt.ArrayLike | None) -> Floats:
    """The side that each label prefers: +1 image_0, -1 image_1, 0 a tie, NaN no label (or None)."""
    return np.sign(np.asarray(label, np.float64) - TIE)


def sign(label: npt.ArrayLike | None) -> Floats:
    """The sign of ell under each label: 1 image_0 is chosen, -1 image_1, NaN neither."""
    leans = lean(label)
    return np.where(leans == 0, np.nan, leans)


def lean_sql(label: str) -> str:
    """The SQL of `lean`: 1, -1, 0 or null for a label in SQL."""
    return f"sign({label} - {TIE})"


def is_decided(label: npt.ArrayLike | None) -> Mask:
    """Whether each label prefers one of the images: neither a tie nor missing."""
    return np.abs(lean(label)) == 1


def is_tie(label: npt.ArrayLike | None) -> Mask:
    """Whether each label is a tie; a missing label is none."""
    return lean(label) == 0


def is_graded(label: npt.ArrayLike | None) -> Mask:
    """Whether each label prefers one of the images, but not fully: .7, say."""
    values = np.asarray(label, np.float64)
    return is_decided(values) & (values > 0) & (values < 1)


def label_of(lean: npt.ArrayLike) -> Floats:
    """The label of a sum of leans: 1 above zero, 0 below, 0.5 at zero, NaN for NaN."""
    return (np.sign(np.asarray(lean, np.float64)) + 1) / 2


def side(label: npt.ArrayLike | None) -> Floats:
    """Each label as a full preference: 1 where it leans to image_0, 0 image_1, .5 a tie, or NaN."""
    return label_of(lean(label))


def preference(label: npt.ArrayLike) -> Floats:
    """Each label as a preference for the side it leans to: .5 to 1; .7 for .3 as for .7."""
    values = np.asarray(label, np.float64)
    return np.maximum(values, 1 - values)


def reverse(label: npt.ArrayLike) -> Floats:
    """The opposite preference; a tie stays a tie."""
    return 1 - np.asarray(label, np.float64)


def settle(label: npt.ArrayLike, tie_within: float = 0.0) -> Floats:
    """The labels, with a tie (.5) for each that is at most `tie_within` away from .5."""
    values = np.asarray(label, np.float64)
    return np.where(np.abs(values - TIE) <= tie_within + 1e-9, TIE, values)  # .51 - .5 is no .01


def differs(label: npt.ArrayLike, other: npt.ArrayLike) -> Mask:
    """Whether two labels are different; two missing labels are not."""
    first, second = np.asarray(label, np.float64), np.asarray(other, np.float64)
    return ~((first == second) | (np.isnan(first) & np.isnan(second)))


def is_label(label: npt.ArrayLike) -> Mask:
    """Whether each value is a label: from 0 to 1, or NaN for none."""
    values = np.asarray(label, np.float64)
    return np.isnan(values) | ((values >= 0) & (values <= 1))


def is_weight(weight: npt.ArrayLike) -> Mask:
    """Whether each value can be a label's weight: a finite number of 0 or more."""
    values = np.asarray(weight, np.float64)
    return np.isfinite(values) & (values >= 0)
