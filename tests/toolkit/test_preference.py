"""A label leans to a side, is a tie, or is missing: decided in one place."""

import numpy as np
import pyarrow as pa

from toolkit.preference import (
    differs,
    is_decided,
    is_label,
    is_tie,
    label_of,
    lean,
    reverse,
    values_of,
)

LABELS = np.array([1.0, 0.0, 0.5, np.nan])


def test_a_label_leans_to_one_side_or_to_none() -> None:
    np.testing.assert_array_equal(lean(LABELS), [1, -1, 0, np.nan])
    assert is_decided(LABELS).tolist() == [True, True, False, False]
    assert is_tie(LABELS).tolist() == [False, False, True, False]


def test_the_label_of_a_lean_is_the_label_and_reversing_twice_too() -> None:
    np.testing.assert_array_equal(label_of(lean(LABELS)), LABELS)
    np.testing.assert_array_equal(label_of([3.0, -2.0, 0.0]), [1, 0, 0.5])
    np.testing.assert_array_equal(reverse(reverse(LABELS)), LABELS)
    np.testing.assert_array_equal(lean(reverse(LABELS)), -lean(LABELS))


def test_two_missing_labels_are_the_same_label() -> None:
    assert not differs(LABELS, LABELS).any()
    assert differs(LABELS, np.roll(LABELS, 1)).all()


def test_a_column_is_read_with_nan_for_null() -> None:
    column = pa.chunked_array([pa.array([1, None], pa.float32()), pa.array([0.5], pa.float32())])
    np.testing.assert_array_equal(values_of(column), [1, np.nan, 0.5])
    assert is_label([*LABELS, 0.7]).tolist() == [True] * 4 + [False]
