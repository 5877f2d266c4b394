"""Eq. 10 to 16 against numbers derived by hand, for numpy and torch alike."""

import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from toolkit.minority import (
    PRESETS,
    Metric,
    RunningScale,
    batch_scale,
    confidence,
    deviation,
    ell,
    ell_sql,
    margin,
    score,
    sigmoid,
    timestep_bin,
    variance,
    weight,
)

torch = pytest.importorskip("torch")

KINDS = {
    "numpy": lambda values: np.asarray(values, np.float64),
    "torch": lambda values: torch.tensor(values, dtype=torch.float64),
}

LN3 = math.log(3)  # sigmoid(ln 3) = 3/4, sigmoid(-ln 3) = 1/4


@pytest.fixture(params=sorted(KINDS))
def array(request):
    return KINDS[request.param]


def near(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-15)


def test_ell_is_positive_where_the_model_improved_on_the_chosen_image(array):
    # Reference: .5 on both. The model: .4 on the chosen, .6 on the rejected image.
    # (.5 - .5) - (.4 - .6) = .2
    near(ell(array([0.5]), array([0.5]), array([0.4]), array([0.6])), [0.2])


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_exchanging_the_images_negates_ell_bit_for_bit(kind):
    errors = np.random.default_rng(0).uniform(0.01, 0.9, (4, 10_000)).astype(np.float32)
    r0, r1, e0, e1 = errors if kind == "numpy" else torch.from_numpy(errors)
    forth, back = np.asarray(ell(r0, r1, e0, e1)), np.asarray(ell(r1, r0, e1, e0))
    assert forth.dtype == np.float32
    assert (forth.view(np.uint32) ^ back.view(np.uint32) == 1 << 31)[forth != 0].all()


def test_sigmoid_holds_at_both_ends_without_overflow(array):
    with np.errstate(over="raise"):
        near(sigmoid(array([-800.0, 0.0, LN3, 800.0])), [0.0, 0.5, 0.75, 1.0])


def test_confidence_is_one_less_the_mean_sigmoid(array):
    # models say sigmoid 3/4, 1/2, 1/4: mean 1/2, c = 1/2; then 3/4 thrice: c = 1/4
    near(confidence(array([[LN3, LN3], [0.0, LN3], [-LN3, LN3]])), [0.5, 0.25])


def test_confidence_grows_as_the_model_rejects_the_label(array):
    c = np.asarray(confidence(array([[4.0, 0.0, -4.0]])))
    assert c[0] < c[1] == 0.5 < c[2]


def test_stability_is_the_unbiased_variance_and_its_capped_root(array):
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14, over M - 1 = 2: 7
    # .1, .2, .6: 7 / 100, root .26457...
    x = array([[1.0, 0.1], [2.0, 0.2], [6.0, 0.6]])
    near(variance(x), [7.0, 0.07])
    near(deviation(x), [1.0, math.sqrt(0.07)])


def test_minority_is_stability_times_confidence_under_the_paper(array):
    # ell = (ln 3 / 15, 0) : c = 1 - (3/4 + 1/2) / 2 = 3/8; s = (ln 3 / 15)^2 / 2
    c, s, u = score(array([[LN3 / 15], [0.0]]), PRESETS["paper"])
    near(c, [0.375])
    near(s, [(LN3 / 15) ** 2 / 2])
    near(u, [0.375 * (LN3 / 15) ** 2 / 2])


def test_minority_takes_the_deviation_of_the_scaled_ell_elsewhere(array):
    # x = (ln 3, 0): s = sqrt(ln3^2 / 2) = .7768, under the cap; rho is in the scale already
    c, s, u = score(array([[LN3], [0.0]]), PRESETS["released"])
    near(c, [0.375])
    near(s, [LN3 / math.sqrt(2)])
    near(u, [0.375 * LN3 / math.sqrt(2)])


def test_a_pair_that_all_models_reject_alike_has_high_c_and_no_u(array):
    c, s, u = score(array([[-5.0], [-5.0], [-5.0]]), PRESETS["released"])
    assert float(c[0]) > 0.99
    near(s, [0.0])
    near(u, [0.0])


def test_a_missing_model_is_left_out_of_mean_and_spread(array):
    whole, missing = [[LN3], [0.0]], [[LN3], [float("nan")], [0.0]]
    for metric in PRESETS.values():
        for found, expected in zip(
            score(array(missing), metric), score(array(whole), metric), strict=True
        ):
            near(found, np.asarray(expected))


def test_one_model_has_a_confidence_but_no_stability(array):
    c, s, u = score(array([[LN3]]), PRESETS["history"])
    near(c, [0.25])
    assert math.isnan(float(s[0]))
    assert math.isnan(float(u[0]))


def test_a_pair_without_any_known_model_has_no_score(array):
    nan = float("nan")
    for values in score(array([[nan], [nan]]), PRESETS["running"]):
        assert math.isnan(float(values[0]))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("linear", 1 / (1 + 10 * 0.25)),
        ("square", 1 / (1 + 10 * 0.0625)),
        ("sqrt", 1 / (1 + 10 * 0.5)),
        ("sigmoid", 1 / (1 + math.exp(2.5))),
        ("sigmoid_sqrt", 1 / (1 + math.exp(5.0))),
        ("none", 1.0),
    ],
)
def test_weight_forms_at_u_a_quarter_and_k1_ten(array, form, expected):
    near(weight(array([0.25, float("nan")]), form, 10.0), [expected, 1.0])


@pytest.mark.parametrize(
    ("form", "expected", "unknown"),
    [
        ("quadratic", -2 * 0.25**2 + 0.1, 0.1),
        ("linear", -2 * 0.25 + 0.1, 0.1),
        ("none", 0.0, 0.0),
    ],
)
def test_margin_forms_at_u_a_quarter(array, form, expected, unknown):
    near(margin(array([0.25, float("nan")]), form, -2.0, 0.1), [expected, unknown])


def test_released_divides_each_model_by_its_norm_over_the_micro_batch(array):
    # rows (3, 4): norm 5, factor 15 / 5 = 3; a model that never moved keeps 0, not 0/0
    near(batch_scale(array([[3.0, 4.0], [0.0, 0.0]]), PRESETS["released"]), [[3, 3], [0, 0]])


def test_paper_multiplies_by_its_explicit_scale_alone(array):
    metric = Metric("paper", rho=15.0, ell_scale=16384.0)
    near(batch_scale(array([[3.0, 4.0]]), metric), [[16384.0, 16384.0]])


def test_timestep_bins_are_of_equal_width():
    assert timestep_bin(np.array([0, 99, 100, 999]), 10).tolist() == [0, 0, 1, 9]
    assert timestep_bin(np.array([0, 24, 25, 49]), 2, 50).tolist() == [0, 0, 1, 1]


SMALL = Metric("running", rho=2.0, timestep_bins=2, rms_decay=0.5, rms_min_count=2.0)


def bins_like(values, numbers):
    kind = np.asarray if isinstance(values, np.ndarray) else torch.tensor
    return kind(numbers)


def test_a_bin_counts_once_it_was_seen_often_enough(array):
    ell = array([[3.0, 4.0, 1.0]])
    bins = bins_like(ell, [0, 0, 1])
    state = RunningScale.zeros(ell, 1, SMALL)
    assert np.isnan(np.asarray(state.scale(bins, SMALL))).all()
    state.update(*state.sums(ell, bins), SMALL)
    # bin 0: RMS sqrt((9 + 16) / 2), factor 2 / that; bin 1: one observation of two needed
    found = np.asarray(state.scale(bins, SMALL))
    near(found[0, :2], [2 / math.sqrt(12.5)] * 2)
    assert np.isnan(found[0, 2])


def test_the_past_fades_by_the_decay(array):
    ell = array([[3.0, 4.0]])
    bins = bins_like(ell, [0, 0])
    state = RunningScale.zeros(ell, 1, SMALL)
    state.update(*state.sums(ell, bins), SMALL)
    state.update(*state.sums(ell * 2, bins), SMALL)
    # squares .5 * 25 + 100, counts .5 * 2 + 2
    near(state.scale(bins, SMALL), [[2 / math.sqrt(112.5 / 3)] * 2])


def test_a_bin_of_zeros_has_no_scale(array):
    ell = array([[0.0, 0.0, 0.0]])
    bins = bins_like(ell, [0, 0, 0])
    state = RunningScale.zeros(ell, 1, SMALL)
    state.update(*state.sums(ell, bins), SMALL)
    assert np.isnan(np.asarray(state.scale(bins, SMALL))).all()


@pytest.mark.parametrize("micro", [1, 3, 4, 12])
def test_the_running_scale_does_not_depend_on_micro_batches(micro):
    rng = np.random.default_rng(0)
    metric = Metric("running", rho=3.75, timestep_bins=4, rms_min_count=1.0)
    whole = RunningScale.zeros(np.zeros(1), 3, metric)
    parts = RunningScale.zeros(np.zeros(1), 3, metric)
    for _ in range(5):
        ell = rng.normal(size=(3, 12)).astype(np.float32)
        bins = rng.integers(0, 4, 12)
        whole.update(*whole.sums(ell, bins), metric)
        sums = [
            parts.sums(ell[:, at : at + micro], bins[at : at + micro]) for at in range(0, 12, micro)
        ]
        squares, counts = (sum(column) for column in zip(*sums, strict=True))
        parts.update(squares, counts, metric)
    near(parts.scale(np.arange(4), metric), whole.scale(np.arange(4), metric))


def test_numpy_and_torch_agree_on_random_input():
    rng = np.random.default_rng(1)
    ell = rng.normal(size=(3, 64))
    ell[rng.random(ell.shape) < 0.2] = np.nan
    for metric in PRESETS.values():
        for a, b in zip(score(ell, metric), score(torch.from_numpy(ell), metric), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12)
    known = np.nan_to_num(ell)
    bins = rng.integers(0, 10, 64)
    states = []
    for values, which in ((known, bins), (torch.from_numpy(known), torch.from_numpy(bins))):
        state = RunningScale.zeros(values, 3, PRESETS["running"])
        for _ in range(10):
            state.update(*state.sums(values, which), PRESETS["running"])
        states.append(np.asarray(state.scale(which, PRESETS["running"])))
    np.testing.assert_allclose(states[0], states[1], rtol=1e-12)


def test_the_sql_form_of_ell_is_the_definition_and_a_flip_negates_it():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 5, 3)).astype(np.float32)  # each pair's three models
    reference = rng.random((2, 5)).astype(np.float32)
    table = pa.table(
        {
            "err_ref_0": reference[0],
            "err_ref_1": reference[1],
            "err_0": pa.array(list(first), pa.list_(pa.float32())),
            "err_1": pa.array(list(second), pa.list_(pa.float32())),
        }
    )
    con = duckdb.connect()
    con.register("t", table)
    for model in range(3):
        got = con.execute(f"SELECT {ell_sql(model)} AS ell FROM t").fetchnumpy()["ell"]
        np.testing.assert_array_equal(got, ell(*reference, first[:, model], second[:, model]))
        flipped = ell(*reference[::-1], second[:, model], first[:, model])
        np.testing.assert_array_equal(-got, flipped)
