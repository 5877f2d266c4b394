import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from analysis import ranking_metrics as detection
from analysis.ranking_metrics import (
    coded,
    flipped_ratio_table,
    mean_interval,
    measure,
    measure_all,
    resample,
)
from toolkit.errors import InputError


def planted(pairs=1000, gap=1.0, prompts=250, seed=0):
    """Scores of N(0, 1), flipped ones (a fifth) of N(gap, 1); prompts."""
    rng = np.random.default_rng(seed)
    flipped = np.zeros(pairs, bool)
    flipped[rng.permutation(pairs)[: pairs // 5]] = True
    scores = rng.normal(size=pairs) + gap * flipped
    return scores, flipped, rng.integers(0, prompts, pairs)


def test_a_hand_made_ranking():
    # ranked: flip, other, flip, other -> pairs won 3 of 4; precision 1/1 and 2/3 at the flips
    found = measure(
        "hand",
        np.array([4.0, 3.0, 2.0, 1.0]),
        np.array([True, False, True, False]),
        ["a", "b", "c", "d"],
    )
    assert found.auroc.value == pytest.approx(0.75)
    assert found.auprc.value == pytest.approx((1 + 2 / 3) / 2)
    assert found.precision_at_planted.value == pytest.approx(0.5)
    assert (found.base_rate, found.pairs, found.flipped) == (0.5, 4, 2)


@pytest.mark.parametrize("digits", [8, 1, 0])
def test_figures_are_those_of_scikit_learn_with_and_without_ties(digits):
    scores, flipped, prompts = planted()
    scores = scores.round(digits)
    found = measure("s", scores, flipped, prompts, resamples=2)
    assert found.auroc.value == pytest.approx(roc_auc_score(flipped, scores))
    assert found.auprc.value == pytest.approx(average_precision_score(flipped, scores))
    fpr, tpr, _ = roc_curve(flipped, scores, drop_intermediate=False)
    assert found.recall_at_fpr05.value == pytest.approx(np.interp(0.05, fpr, tpr))


def test_resamples_are_those_of_scikit_learn_under_the_same_weights():
    scores, flipped, prompts = planted(pairs=200, prompts=40)
    found = measure("s", scores, flipped, prompts, resamples=50, seed=3)
    which, count = coded(prompts)
    weights = np.concatenate(list(resample(count, 50, 3)))[:, which]
    aurocs = [roc_auc_score(flipped, scores, sample_weight=w) for w in weights]
    expected = np.percentile(aurocs, [2.5, 97.5])
    np.testing.assert_allclose([found.auroc.low, found.auroc.high], expected)


def test_precision_at_the_planted_count_is_the_share_in_the_top():
    scores, flipped, prompts = planted()
    top = np.argsort(-scores)[: flipped.sum()]
    found = measure("s", scores, flipped, prompts, resamples=2)
    assert found.precision_at_planted.value == pytest.approx(flipped[top].mean())


def test_shuffled_scores_guess():
    scores, flipped, prompts = planted(pairs=4000)
    shuffled = np.random.default_rng(1).permutation(scores)
    found = measure("s", shuffled, flipped, prompts)
    assert found.auroc.low < 0.5 < found.auroc.high
    assert found.auprc.value == pytest.approx(found.base_rate, abs=0.03)
    assert found.recall_at_fpr05.value == pytest.approx(0.05, abs=0.02)


def test_constant_scores_guess_exactly():
    _, flipped, prompts = planted()
    found = measure("constant", np.ones(1000), flipped, prompts)
    assert found.auroc.value == found.auroc.low == found.auroc.high == 0.5
    assert found.auprc.value == pytest.approx(0.2)
    assert found.precision_at_planted.value == pytest.approx(0.2)
    assert found.recall_at_fpr05.value == pytest.approx(0.05)
    assert len(found.deciles) == 1


def test_a_higher_gap_is_found_better():
    by_gap = [measure("s", *planted(gap=gap)).auroc.value for gap in (0.0, 0.5, 1.0, 2.0)]
    assert by_gap == sorted(by_gap)


def test_intervals_cover_the_truth_also_where_pairs_of_a_prompt_go_together():
    truth, covered, naive, trials = 0.7602, 0, 0, 60  # Phi(1 / sqrt 2) of a gap of 1
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        prompts = np.repeat(np.arange(60), 5)
        flipped = np.repeat(rng.random(60) < 0.3, 5)
        shared = np.repeat(rng.normal(size=60), 5)
        scores = 0.9**0.5 * shared + 0.1**0.5 * rng.normal(size=300) + flipped
        found = measure("s", scores, flipped, prompts, resamples=200).auroc
        covered += found.low <= truth <= found.high
        alone = measure("s", scores, flipped, np.arange(300), resamples=200).auroc
        naive += alone.low <= truth <= alone.high
    assert covered >= 0.85 * trials
    assert naive < covered  # resampling pairs would claim too much


def test_intervals_of_many_distinct_scores_hardly_differ_from_exact_ones(monkeypatch):
    scores, flipped, prompts = planted(pairs=3000)
    exact = measure("s", scores, flipped, prompts)
    monkeypatch.setattr(detection, "_LEVELS", 500)
    coarse = measure("s", scores, flipped, prompts)
    for name in detection.FIGURES:
        one, other = getattr(exact, name), getattr(coarse, name)
        assert one.value == other.value
        assert one.low == pytest.approx(other.low, abs=0.004), name
        assert one.high == pytest.approx(other.high, abs=0.004), name


def test_the_same_seed_gives_the_same_intervals():
    first, again, other = (measure("s", *planted(), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.auroc != other.auroc


def test_missing_scores_are_left_out_and_counted():
    scores, flipped, prompts = planted()
    holed = scores.copy()
    holed[::4] = np.nan
    found = measure("s", holed, flipped, prompts)
    assert (found.pairs, found.missing) == (750, 250)
    has = ~np.isnan(holed)
    assert found.auroc.value == pytest.approx(roc_auc_score(flipped[has], scores[has]))


@pytest.mark.parametrize("flip", [True, False])
def test_one_kind_of_pair_alone_has_no_figures(flip):
    found = measure("s", np.arange(5.0), np.full(5, flip), list("abcde"))
    assert found.auroc.value is None
    assert found.auprc.value is None


def test_a_detector_without_any_score_has_no_figures():
    found = measure("none", np.full(5, np.nan), np.eye(5, dtype=bool)[0], list("abcde"))
    assert (found.pairs, found.missing, found.base_rate) == (0, 5, None)
    assert found.auroc.value is None
    assert found.deciles == []


def test_one_prompt_gives_a_figure_without_an_interval():
    scores, flipped, _ = planted()
    found = measure("s", scores, flipped, np.zeros(1000))
    assert found.auroc.value is not None
    assert found.auroc.low is None


def test_infinite_or_misshapen_scores_are_a_sentence():
    flipped = np.array([True, False])
    with pytest.raises(InputError, match=r"Detector 'bad' gave scores .* 1 of them infinite"):
        measure("bad", np.array([np.inf, 0.0]), flipped, ["a", "b"])
    with pytest.raises(InputError, match="it must give 2"):
        measure("bad", np.zeros(3), flipped, ["a", "b"])


def test_six_detectors_of_two_thousand_pairs_take_less_than_three_seconds():
    scores, flipped, prompts = planted(pairs=2000, prompts=500)
    begun = time.process_time()
    measure_all({str(k): np.roll(scores, k) for k in range(6)}, flipped, prompts)
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("kind", ["quantile", "width"])
def test_bins_sum_to_the_pairs_and_flips(kind):
    scores, flipped, _ = planted()
    scores[:7] = np.nan
    table = flipped_ratio_table(scores, flipped, bins=10, kind=kind)
    assert table.num_rows == 10
    assert sum(table["count"].to_pylist()) == 993
    assert sum(table["flipped"].to_pylist()) == flipped[7:].sum()
    low, high = table["low"].to_pylist(), table["high"].to_pylist()
    assert low[1:] == high[:-1]
    for row in table.to_pylist():
        if row["count"]:
            assert row["share_low"] <= row["share"] <= row["share_high"]
        else:
            assert row["share"] is None


def test_quantile_bins_hold_equal_counts():
    scores, flipped, _ = planted()
    assert set(flipped_ratio_table(scores, flipped)["count"].to_pylist()) == {100}


def test_every_pair_lies_between_the_edges_of_its_bin():
    scores = np.array([0.0, 0.1, 0.1, 0.2, 0.9, 1.0])
    table = flipped_ratio_table(scores, np.zeros(6, bool), bins=3).to_pylist()
    for k, row in enumerate(table):
        inside = (scores > row["low"]) & (scores <= row["high"])
        inside |= (k == 0) & (scores == row["low"])
        assert inside.sum() == row["count"]


def test_a_mean_has_an_interval_around_it():
    found = mean_interval(np.array([0.0, 1.0, np.nan] * 50), np.arange(150))
    assert found.value == 0.5
    assert 0.38 < found.low < 0.5 < found.high < 0.62
    assert mean_interval(np.full(3, np.nan), ["a", "b", "c"]).value is None
