"""A label leans to a side, is a tie, or is missing: decided in one place."""

import duckdb
import numpy as np
import pyarrow as pa

from toolkit.preference import (
    differs,
    is_decided,
    is_graded,
    is_label,
    is_tie,
    label_of,
    lean,
    lean_sql,
    preference,
    reverse,
    settle,
    side,
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
    assert is_label([*LABELS, 0.7, 1.5, -0.1]).tolist() == [True] * 5 + [False] * 2


def test_a_graded_label_leans_to_the_nearer_side() -> None:
    graded = [0.7, 0.3, 0.5, 0.51, 1, np.nan]
    np.testing.assert_array_equal(lean(graded), [1, -1, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(side(graded), [1, 0, 0.5, 1, 1, np.nan])
    np.testing.assert_array_equal(preference(graded), [0.7, 0.7, 0.5, 0.51, 1, np.nan])
    np.testing.assert_array_equal(settle(graded, 0.01), [0.7, 0.3, 0.5, 0.5, 1, np.nan])
    assert is_graded(graded).tolist() == [True, True, False, True, False, False]


def test_sql_and_numpy_agree_on_the_side_of_a_label() -> None:
    labels = [0.0, 0.3, 0.5, 0.51, 1.0, None]
    sql = f"SELECT {lean_sql('x')} FROM (SELECT unnest(?::DOUBLE[]) AS x)"
    rows = duckdb.execute(sql, [labels]).fetchall()
    assert [x for (x,) in rows] == [-1, -1, 0, 1, 1, None]
    np.testing.assert_array_equal([np.nan if x is None else x for (x,) in rows], lean(labels))
