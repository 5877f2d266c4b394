import numpy as np
import pyarrow as pa
import pytest

from analysis.detectors.trajectory_ell import trajectory_ell
from analysis.pair_stats import BinSums, Tallies, digest
from analysis.trajectory import COLUMNS, LOGGED, load
from tests.analysis.simulated import simulate
from toolkit.errors import StoreError
from toolkit.minority import PRESETS
from toolkit.recorder import rows
from toolkit.store.label_sets import planted_flips
from toolkit.store.runs import run_about, start_run
from toolkit.store.trajectory import read_trajectory

MODELS = ["policy", "ema_0.99", "ema_0.5"]


def table_of(errors, labels, **more) -> pa.Table:
    """Rows of one model: errors is (4, B): reference 0 and 1, model 0 and 1."""
    errors = np.asarray(errors, np.float32)
    size = errors.shape[1]
    made = rows(
        **{
            "pair_id": [f"p{k}" for k in range(size)],
            "visit": 0,
            "step": 0,
            "timestep": 10,
            "err_ref_0": errors[0],
            "err_ref_1": errors[1],
            "err_0": errors[2:3],
            "err_1": errors[3:4],
            **more,
        }
    )
    made = made.append_column("set_label", pa.array(labels, pa.float32()))
    return made.append_column("known", pa.array([True] * size))


def ell_table(trajectory, window="late"):
    return trajectory_ell(digest([trajectory], {}), window)


def test_ell_of_hand_made_errors():
    # image_0 went from .5 to .4, image_1 from .5 to .6: for label 1 ell = .2, for label 0 -.2
    errors = np.repeat([[0.5], [0.5], [0.4], [0.6]], 4, axis=1)
    found = load(table_of(errors, [1.0, 0.0, 0.5, None]), ["policy"])
    np.testing.assert_allclose(found.ell[0, :2], [0.2, -0.2], rtol=1e-6)
    assert np.isnan(found.ell[0, 2:]).all()
    assert found.ell.dtype == np.float32


def test_ell_under_another_label_set_is_a_sign(make_store):
    store = make_store(run=True)
    flips = set(planted_flips(store, "flip20"))
    found = {}
    for labels in ("original", "flip20"):
        table = read_trajectory(store, "r", COLUMNS + LOGGED, label_set=labels)
        found[labels] = load(table, MODELS)
    same, other = found["original"], found["flip20"]
    flipped = np.isin(same.pair_ids, list(flips))[same.pair]
    assert flipped.any()
    np.testing.assert_array_equal(same.ell[:, ~flipped], other.ell[:, ~flipped])
    np.testing.assert_array_equal(same.ell[:, flipped], -other.ell[:, flipped])


def test_rows_come_back_in_order_of_step_however_they_were_read():
    table = simulate(PRESETS["released"])
    one = load(table, MODELS)
    other = load(table.take(np.arange(table.num_rows)[::-1]), MODELS)
    assert (np.diff(one.step) >= 0).all()
    np.testing.assert_array_equal(one.difference, other.difference)
    np.testing.assert_array_equal(one.pair_ids[one.pair], other.pair_ids[other.pair])


def test_rows_that_cannot_be_used_are_left_out_and_counted():
    errors = np.full((4, 5), 0.5)
    errors[2, 0] = np.nan
    errors[1, 1] = np.inf
    table = table_of(errors, [1.0] * 5)
    known = table["known"].to_pylist()
    known[2] = False
    table = table.set_column(table.column_names.index("known"), "known", pa.array(known))
    whole = pa.concat_tables([table, table.slice(4, 1)])
    found = load(whole, ["policy"])
    assert found.excluded == {"unknown_pair": 1, "not_finite": 2, "repeated": 1}
    assert found.pair_ids.tolist() == ["p3", "p4"]


def test_a_missing_reference_error_is_not_a_number():
    table = table_of(np.full((4, 2), 0.5), [1.0, 1.0], err_ref_0=None)
    with pytest.raises(StoreError, match=r"None of the run's 2 .* can be used .*learning rate"):
        load(table, ["policy"])


def test_another_number_of_models_is_counted():
    table = table_of(np.full((4, 2), 0.5), [1.0, 1.0])
    with pytest.raises(
        StoreError, match=r"2 with another number of errors.*\): correct \"models\" in run.json"
    ):
        load(table, ["policy", "ema_0.5"])


def test_a_run_without_rows_is_a_sentence(make_store):
    store = make_store()
    start_run(store, "empty", {"models": ["policy"], "labels": "original"}, "")
    with pytest.raises(StoreError, match=r"'empty' has no trajectory rows"):
        read_trajectory(store, "empty", COLUMNS)


def test_a_run_that_does_not_exist_is_a_sentence(make_store):
    store = make_store(run=True)
    with pytest.raises(StoreError, match=r"no run 'q' \(runs: r\)"):
        read_trajectory(store, "q", COLUMNS)


def test_probes_are_a_part_of_their_own():
    errors = np.full((4, 3), 0.5)
    found = load(table_of(errors, [1.0] * 3, kind=["train", "probe", "train"]), ["policy"])
    assert found.pair_ids[found.pair[~found.train]].tolist() == ["p1"]
    assert found.within("probe").sum() == 1
    assert found.within("all").sum() == 2


def test_a_pair_met_only_outside_the_window_has_no_mean():
    table = table_of(np.full((4, 2), 0.5), [1.0, 1.0], step=np.array([0, 9]))
    found = load(table, ["policy"])
    tallies = Tallies.zeros(2, ["x"])
    tallies.add(found, {"x": np.array([1.0, 2.0])})
    mean = tallies["x"].mean("late")
    assert np.isnan(mean[0])
    assert (mean[1], tallies["x"].counted("late").tolist()) == (2.0, [0, 1])
    assert tallies["x"].counted("all").tolist() == [1, 1]
    assert tallies["x"].counted("early").tolist() == [1, 0]


def test_windows_cut_the_steps_where_they_say():
    table = table_of(np.full((4, 10), 0.5), [1.0] * 10, step=np.arange(10))
    found = load(table, ["policy"])
    cut = {name: found.step[found.within(name)].tolist() for name in ("early", "late", "last")}
    assert cut == {"early": [0, 1, 2], "late": [3, 4, 5, 6, 7, 8, 9], "last": [7, 8, 9]}


@pytest.mark.parametrize("window", ["all", "late"])
def test_standardised_ell_is_that_of_the_plain_formula(window):
    found = load(simulate(PRESETS["released"]), MODELS)
    mine = found.within(window)
    ell, bins = found.ell[0].astype(float), found.bins(10)
    standard = np.full(len(ell), np.nan)
    for place in range(10):
        rows = mine & (bins == place)
        standard[rows] = (ell[rows] - ell[rows].mean()) / ell[rows].std(ddof=1)
    sums = BinSums.zeros(60, 10)
    sums.add(found, found.ell[0])
    mean, count = sums.standardised(window)
    for pair in range(60):
        rows = mine & (found.pair == pair)
        assert count[pair] == rows.sum()
        assert mean[pair] == pytest.approx(standard[rows].mean(), abs=1e-5)


def test_trajectory_ell_is_high_for_flipped_pairs(make_store):
    store = make_store(run=True, pairs=200)
    about = run_about(store, "r")
    table = read_trajectory(store, "r", COLUMNS, label_set="flip20")
    found = ell_table(load(table, about["models"]))
    flipped = np.isin(found["pair_id"].to_pylist(), planted_flips(store, "flip20"))
    values = found["trajectory_ell"].to_numpy()
    assert values[flipped].mean() > 1 > 0 > values[~flipped].mean()


def test_a_run_without_timesteps_is_one_bin():
    table = table_of(np.full((4, 3), 0.5), [1.0] * 3, timestep=None)
    assert load(table, ["policy"]).bins(10).tolist() == [0, 0, 0]


def test_bins_without_spread_give_no_score_rather_than_a_division():
    found = load(table_of(np.full((4, 3), 0.5), [1.0] * 3), ["policy"])
    assert ell_table(found)["trajectory_ell"].null_count == 3
