"""Krippendorff's alpha on answers whose agreement is known by hand."""

import pytest

from analysis.ranking_metrics import alpha


def test_people_who_always_agree_reach_one() -> None:
    said = {"x": "image_0", "y": "image_1", "z": "tie"}
    found = alpha({"anna": said, "berta": dict(said)})
    assert found == (pytest.approx(1.0), 3)


def test_two_of_three_agreements_by_hand() -> None:
    """Three pairs, two people: agree, agree, differ.

    Observed disagreement 1/3. Values: image_0 thrice, image_1 thrice of 6, so expected
    disagreement is 2 * 3 * 3 / (6 * 5) = .6, and alpha = 1 - (1/3) / .6 = 4/9.
    """
    anna = {"x": "image_0", "y": "image_1", "z": "image_0"}
    berta = {"x": "image_0", "y": "image_1", "z": "image_1"}
    assert alpha({"anna": anna, "berta": berta}) == (pytest.approx(4 / 9), 3)


def test_pairs_that_one_person_answered_do_not_count() -> None:
    anna = {"x": "image_0", "y": "image_1", "only": "tie"}
    berta = {"x": "image_0", "y": "image_1"}
    assert alpha({"anna": anna, "berta": berta}) == (pytest.approx(1.0), 2)


def test_nothing_is_said_without_overlap_or_without_difference() -> None:
    assert alpha({}) is None
    assert alpha({"anna": {"x": "image_0"}, "berta": {"y": "image_0"}}) is None
    assert alpha({"anna": {"x": "tie"}, "berta": {"x": "tie"}}) is None
