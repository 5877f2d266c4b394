"""Wilson's interval of a share, held to published cases and to its own equation."""

import numpy as np
import pytest

from toolkit.intervals import wilson


def test_known_cases_come_out_as_published():
    # 10 of 50 at 95 %: (.1124, .3304), as in Newcombe's tables; Wilson (1927): 8 of 10.
    low, high = wilson(np.array([10, 8]), np.array([50, 10]))
    np.testing.assert_allclose(low, [0.1124, 0.490], atol=5e-4)
    np.testing.assert_allclose(high, [0.3304, 0.943], atol=5e-4)


@pytest.mark.parametrize(("found", "count"), [(0, 7), (3, 20), (20, 20), (1, 1)])
def test_each_end_is_the_share_that_lies_z_errors_from_what_was_found(found, count):
    ends = [float(end) for end in wilson(found, count)]
    for end in ends:
        if 0 < end < 1:
            assert abs(found / count - end) == pytest.approx(
                1.959964 * (end * (1 - end) / count) ** 0.5
            )
    assert 0 <= ends[0] <= found / count <= ends[1] <= 1


def test_nothing_counted_is_not_known():
    assert np.isnan(wilson([0.0], [0.0])).all()
