"""The detectors on plain arrays give what the analysis of a run gives, and their examples run."""

import doctest

import numpy as np
import pytest

from analysis import frames
from analysis.detectors import arrays, label_arrays
from analysis.detectors.cartography import area_under_margin, cartography
from analysis.detectors.consistency import consistency
from analysis.detectors.mixture import flip_posterior, loss_mixture
from analysis.detectors.noise_type import kinds
from analysis.detectors.trajectory_ell import matched_filter, trajectory_ell
from analysis.trajectory import numbers
from tests.analysis.detectors.runs import digest_of, trajectory_of
from tests.factories import png
from toolkit.errors import InputError
from toolkit.minority import PRESETS, batch_scale, score, sigmoid

VISITS, PAIRS = 7, 60


@pytest.fixture(scope="module")
def run():
    """ell (V, P), the same as rows, and the digest of such a run."""
    rng = np.random.default_rng(0)
    ell = rng.normal(rng.normal(0.3, 1, PAIRS), 1, (VISITS, PAIRS)).astype(np.float32)
    pair = np.tile([f"p{k:04d}" for k in range(PAIRS)], VISITS)
    return ell.ravel(), pair, digest_of(trajectory_of(ell))


@pytest.mark.parametrize("module", [arrays, label_arrays, frames])
def test_every_example_of_a_docstring_gives_what_it_says(module):
    found = doctest.testmod(module)
    assert found.attempted > 1
    assert not found.failed


def test_arrays_give_what_the_analysis_of_a_run_gives(run):
    ell, pair, digest = run
    p = sigmoid(ell)
    table = cartography(digest, "all")
    for name in ("cartography_confidence", "variability", "correctness", "aleatoric", "forgetting"):
        mine = getattr(arrays, name)(p, pair)
        np.testing.assert_allclose(mine, numbers(table[name]), rtol=1e-5, atol=1e-6, err_msg=name)
    own = numbers(trajectory_ell(digest, "all")["trajectory_ell"])
    mine = arrays.trajectory_ell(ell, pair, np.full(len(ell), 500))
    np.testing.assert_allclose(mine, own, rtol=1e-5, atol=1e-6)
    steps = np.repeat(np.arange(VISITS), PAIRS)
    filtered = arrays.matched_filter(ell, pair, steps, np.full(len(ell), 500))
    own = numbers(matched_filter(digest)["matched_filter_ell"])
    np.testing.assert_allclose(filtered, own, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        arrays.area_under_margin(ell, pair), numbers(area_under_margin(digest, "all")[2])
    )
    mixed = loss_mixture(digest, "all")
    np.testing.assert_array_equal(
        arrays.loss_mixture(numbers(mixed["loss"])), numbers(mixed["loss_mixture"])
    )
    types = kinds(digest, "all")
    erroneous, subjective = arrays.noise_type(ell, p, pair)
    np.testing.assert_allclose(erroneous, numbers(types["erroneous"]), atol=0.02)
    np.testing.assert_allclose(subjective, numbers(types["subjective"]), atol=0.02)
    margin = digest.ell.scaled("all")[0]
    prompts = [str(k // 2) for k in range(PAIRS)]
    table, rate = flip_posterior(digest, "all", prompts)
    np.testing.assert_array_equal(
        arrays.flip_posterior(margin, group=prompts), numbers(table["flip_posterior"])
    )
    assert arrays.noise_rate(margin, group=prompts) == rate


def test_rows_may_come_in_any_order_of_pairs(run):
    ell, pair, _ = run
    order = np.argsort(pair, kind="stable")
    for name in ("trajectory_ell", "area_under_margin", "forgetting"):
        function = getattr(arrays, name)
        np.testing.assert_allclose(function(ell[order], pair[order]), function(ell, pair))


def test_values_that_are_absent_count_nothing():
    pair = ["a", "a", "b", "b"]
    assert arrays.cartography_confidence([0.5, np.nan, np.nan, np.nan], pair)[0] == 0.5
    assert np.isnan(arrays.cartography_confidence([0.5, np.nan, np.nan, np.nan], pair)[1])
    assert np.isnan(arrays.correctness([np.nan, np.nan, 1.0, 1.0], pair)[0])
    assert np.isnan(arrays.forgetting([0.9, np.nan, 0.9, 0.1], pair)[0])
    assert arrays.trajectory_ell([], []).shape == (0,)
    assert arrays.contradicted([], []).shape == (0,)


def test_a_batch_scores_as_training_scores_it():
    ell = np.random.default_rng(0).normal(size=(3, 8))
    metric = PRESETS["released"]
    found = score(ell * batch_scale(ell, metric), metric)
    np.testing.assert_array_equal(arrays.minority(ell), found.minority)
    np.testing.assert_array_equal(arrays.confidence(ell), found.confidence)
    np.testing.assert_array_equal(arrays.stability(ell), found.stability)
    with pytest.raises(InputError, match="'running' needs a run's history"):
        arrays.minority(ell, preset="running")


def test_labels_conflict_as_in_a_store():
    import pyarrow as pa

    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 5, (2, 80))
    prompt, label = rng.integers(0, 3, 80), rng.integers(0, 2, 80)
    keep = first != second
    first, second, prompt, label = (v[keep] for v in (first, second, prompt, label))
    names = [f"p{k:03d}" for k in range(len(first))]
    columns = {"prompt": prompt, "image_0": first, "image_1": second}
    table = consistency(
        pa.table({"pair_id": names, **{k: v.astype(str).tolist() for k, v in columns.items()},
                  "label": label.astype(float)})
    )  # fmt: skip
    winner, loser = np.where(label == 1, first, second), np.where(label == 1, second, first)
    for name in ("contradicted", "cyclic", "ranking_residual"):
        mine = getattr(arrays, name)(winner, loser, prompt)
        np.testing.assert_allclose(mine, numbers(table[name]), atol=1e-3, err_msg=name)


def test_an_image_under_two_prompts_is_a_defect():
    red, blue, green = png((200, 0, 0)), png((0, 0, 200)), png((0, 200, 0))
    found = arrays.image_defects([red, red], [blue, green], ["one", "two"])
    assert found.tolist() == [1.0, 1.0]


def test_out_of_fold_is_standardised_within_a_run():
    ell, run = np.array([1.0, -1.0, 20.0, -20.0]), [0, 0, 1, 1]
    half = 1 / np.sqrt(2)
    mine = arrays.out_of_fold_ell(ell, ["a", "b", "c", "d"], run)
    np.testing.assert_allclose(mine, [-half, half, -half, half])
    both = arrays.out_of_fold_ell(ell, ["a", "b", "b", "a"], run)
    np.testing.assert_allclose(both, [0, 0], atol=1e-7)
