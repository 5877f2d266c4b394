"""From a detector's score to what it is worth."""

import numpy as np
import pyarrow as pa
import pytest

from analysis.evaluate_detectors import TOO_GOOD, calibrate, detections_of, leak_warning, suspicions
from analysis.ranking_metrics import Detection, flipped_ratio_table, measure
from toolkit.errors import InputError


def tables_of(**columns):
    ids = [f"p{k}" for k in range(len(next(iter(columns.values()))))]
    return pa.table({"pair_id": ids, **columns})


def test_a_score_whose_low_side_is_suspicious_is_turned():
    table = tables_of(cartography_confidence=[0.1, 0.9, None])
    found = suspicions({"cartography": table}, np.array(["p0", "p1", "p2"]))
    assert found["cartography_confidence"].tolist()[:2] == [-0.1, -0.9]
    assert np.isnan(found["cartography_confidence"][2])


def test_scores_are_set_beside_the_pair_they_belong_to():
    table = tables_of(trajectory_ell=[1.0, 2.0])
    found = suspicions({"trajectory_ell": table}, np.array(["a", "p1", "z"]))
    np.testing.assert_array_equal(found["trajectory_ell"], [np.nan, 2.0, np.nan])


def test_other_windows_are_judged_when_asked_for():
    rng = np.random.default_rng(0)
    scores, flipped = rng.normal(size=40), np.arange(40) < 10
    names = [f"p{k}" for k in range(40)]
    late = {"trajectory_ell": tables_of(trajectory_ell=scores)}
    early = {
        "trajectory_ell": tables_of(trajectory_ell=-scores),
        "cartography": tables_of(forgetting=scores),
    }
    pairs = pa.table({"pair_id": sorted(names), "prompt": names, "label": [1.0] * 40})
    assert [d.name for d in detections_of(late, {}, flipped, pairs)] == ["trajectory_ell"]
    asked = detections_of(late, {}, flipped, pairs, others={"late": late, "early": early})
    assert [d.name for d in asked] == ["trajectory_ell", "trajectory_ell_early"]
    assert asked[0].auroc.value == pytest.approx(1 - asked[1].auroc.value)


def planted(pairs=2000, gap=1.5, rate=0.2, seed=0):
    rng = np.random.default_rng(seed)
    flipped = rng.random(pairs) < rate
    return rng.normal(size=pairs) + gap * flipped, flipped, rng.integers(0, 500, pairs)


def test_a_calibrated_probability_is_the_share_that_is_flipped():
    scores, flipped, prompts = planted()
    curve, probability = calibrate("s", scores, flipped, prompts)
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.01)):
        mine = (probability >= low) & (probability < high)
        assert mine.sum() > 50
        assert flipped[mine].mean() == pytest.approx(probability[mine].mean(), abs=0.07)
    assert curve.brier < 0.8 * curve.base_brier
    assert curve.error < 0.05
    assert (np.diff(curve.probability) >= 0).all()


def test_a_score_that_tells_nothing_is_worth_no_more_than_the_base_rate():
    scores, flipped, prompts = planted(gap=0.0)
    curve, probability = calibrate("s", scores, flipped, prompts)
    assert curve.brier >= curve.base_brier - 1e-3
    assert probability.std() < 0.05


def test_no_pair_judges_itself():
    # A score that marks each prompt's flips alone would be perfect on the pairs it was learned on.
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(100), 10)
    flipped = np.repeat(rng.random(100) < 0.3, 10)
    curve, _ = calibrate("s", prompts + 0.1 * rng.random(1000), flipped, prompts)
    assert curve.brier > 0.9 * curve.base_brier


@pytest.mark.parametrize(
    ("scores", "flipped"),
    [
        (np.ones(50), np.arange(50) < 10),
        (np.arange(50.0), np.zeros(50, bool)),
        (np.full(50, np.nan), np.arange(50) < 10),
    ],
)
def test_what_cannot_be_calibrated_is_none(scores, flipped):
    assert calibrate("s", scores, flipped, np.arange(50)) is None


def test_missing_scores_have_no_probability():
    scores, flipped, prompts = planted()
    scores[:5] = np.nan
    _, probability = calibrate("s", scores, flipped, prompts)
    assert np.isnan(probability[:5]).all()
    assert not np.isnan(probability[5:]).any()


def judged(gap: float) -> Detection:
    scores, flipped, prompts = planted(gap=gap)
    return measure("trajectory_ell", scores, flipped, prompts, resamples=2)


def test_more_than_85_on_human_labels_is_a_leak_until_shown_otherwise():
    assert judged(2.5).auroc.value > TOO_GOOD > judged(1.0).auroc.value
    warned = leak_warning([judged(2.5)], set(), {"pickapic"})
    assert len(warned) == 1
    assert "trajectory_ell reaches" in warned[0]
    assert "a leak until shown otherwise" in warned[0]
    assert leak_warning([judged(1.0)], set(), {"pickapic"}) == []
    assert leak_warning([judged(2.5)], set(), {"miniworld"}) == []
    assert leak_warning([judged(2.5)], {"trajectory_ell"}, {"pickapic"}) == []
    assert leak_warning([judged(2.5)], set(), {"miniworld", "pickapic"})


def test_a_callers_detector_may_not_take_a_name_there_is():
    table = tables_of(trajectory_ell=[1.0, 2.0])
    pairs = pa.table({"pair_id": ["p0", "p1"], "prompt": ["a", "b"], "label": [1.0, 0.0]})
    with pytest.raises(InputError, match="'trajectory_ell' already"):
        detections_of(
            {"trajectory_ell": table}, {"trajectory_ell": {}}, np.array([True, False]), pairs
        )


def test_deciles_have_bootstrap_intervals_that_know_of_prompts():
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(60), 10)
    flipped = np.repeat(rng.random(60) < 0.3, 10)
    scores = rng.normal(size=600)
    grouped = flipped_ratio_table(scores, flipped, bins=2, groups=prompts).to_pylist()
    alone = flipped_ratio_table(scores, flipped, bins=2).to_pylist()
    for one, other in zip(grouped, alone, strict=True):
        assert one["share"] == other["share"]
        assert one["share_low"] <= one["share"] <= one["share_high"]
        # Ten pairs of a prompt flip together, so sixty prompts tell far less than 600 pairs.
        width, naive = (row["share_high"] - row["share_low"] for row in (one, other))
        assert width > 1.5 * naive
