"""What the errors on disk give back must be what training logged."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.detectors.minority import minority
from analysis.pair_stats import digest
from analysis.recompute_metric import metric_of, scores
from analysis.trajectory import COLUMNS, LOGGED, load
from tests.analysis.simulated import simulate
from toolkit.errors import StoreError
from toolkit.minority import PRESETS
from toolkit.store.runs import run_about
from toolkit.store.trajectory import read_trajectory

MODELS = ["policy", "ema_0.99", "ema_0.5"]
NAMES = ("confidence", "stability", "minority")

SETTINGS = {
    "paper": replace(PRESETS["paper"], ell_scale=16384.0),
    "released": PRESETS["released"],
    "running": replace(PRESETS["running"], timestep_bins=4, rms_min_count=8.0, rms_decay=0.9),
    "history": replace(PRESETS["history"], timestep_bins=3, rms_min_count=8.0, window=3),
}


def table_of(trajectory, metric):
    return minority(digest([trajectory], {"minority": metric}), "minority", "late")


@pytest.mark.parametrize("preset", sorted(SETTINGS))
def test_recomputed_scores_are_those_a_trainer_logged(preset):
    metric = SETTINGS[preset]
    trajectory = load(simulate(metric), MODELS)
    found = scores(trajectory, metric)
    for name in NAMES:
        logged = trajectory.logged[name]
        assert np.isfinite(logged).any()
        np.testing.assert_allclose(getattr(found, name), logged, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preset", ["running", "history"])
def test_a_bin_not_seen_often_enough_has_no_score(preset):
    metric = SETTINGS[preset]
    trajectory = load(simulate(metric), MODELS)
    found = scores(trajectory, metric)
    assert np.isnan(found.minority[trajectory.step == 0]).all()
    assert np.isfinite(found.confidence[trajectory.step > 20]).all()


@pytest.mark.parametrize("preset", ["running", "history"])
def test_the_split_into_ranks_and_micro_batches_does_not_matter(preset):
    metric = SETTINGS[preset]
    shapes = [(1, 1, 16), (2, 2, 4), (1, 8, 2)]
    found = []
    for ranks, micros, size in shapes:
        table = simulate(metric, ranks=1, micros=1, micro_size=16)
        trajectory = load(table, MODELS)
        place = np.arange(len(trajectory.step)) % 16
        split = replace(trajectory, rank=place // (micros * size), micro=place // size)
        assert split.rank.max() == ranks - 1
        found.append(scores(split, metric).minority)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_released_depends_on_who_sits_in_the_micro_batch():
    trajectory = load(simulate(PRESETS["released"], ranks=1, micros=1, micro_size=16), MODELS)
    apart = replace(trajectory, micro=np.arange(len(trajectory.step)) // 4)
    both = [scores(t, PRESETS["released"]).minority for t in (trajectory, apart)]
    assert not np.allclose(*both)


def test_the_live_metric_logs_what_is_recomputed():
    torch = pytest.importorskip("torch")
    live = pytest.importorskip("training.live_metric").LiveMetric

    class OneProcess:
        @staticmethod
        def reduce(value, _how):
            return value

        @staticmethod
        def gather(value):
            return value

    for preset, metric in SETTINGS.items():
        trajectory = load(simulate(metric, ranks=1, micros=1, micro_size=16), MODELS)
        state = live(metric, models=3, pairs=60, timesteps=1000, device="cpu")
        found = scores(trajectory, metric).minority
        for step in range(trajectory.steps):
            here = np.flatnonzero(trajectory.step == step)
            measured = state.measure(
                torch.from_numpy(trajectory.ell[:, here]),
                torch.from_numpy(trajectory.pair[here]),
                torch.from_numpy(trajectory.timestep[here]),
                torch.ones(len(here)),
            )
            state.end_step(OneProcess())
            logged = measured.scores.minority.numpy()
            np.testing.assert_allclose(
                found[here], logged, rtol=1e-4, atol=1e-6, err_msg=f"{preset} step {step}"
            )


def test_the_factory_run_gives_back_its_logged_scores(make_store):
    store = make_store(run=True)
    about = run_about(store, "r")
    table = read_trajectory(store, "r", COLUMNS + LOGGED, label_set="flip20")
    trajectory = load(table, about["models"])
    found = scores(trajectory, metric_of(about))
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(found, name), trajectory.logged[name], rtol=1e-5, atol=1e-6
        )


def test_history_reads_the_visit_and_the_ones_before_as_they_were_scaled():
    metric = replace(SETTINGS["history"], window=2)
    trajectory = load(simulate(metric, pairs=17), MODELS)
    found = scores(trajectory, metric)
    one = replace(metric, window=1)
    alone = scores(trajectory, one)
    assert np.isnan(alone.stability).all()
    mine = np.flatnonzero(trajectory.pair == 3)
    x = -np.log(1 / (1 - alone.confidence[mine]) - 1)  # scaled ell from c of one visit
    for k in range(len(mine) - 1):
        if np.abs(x[k : k + 2]).max() < 5:
            spread = min(1.0, abs(x[k + 1] - x[k]) / np.sqrt(2))
            np.testing.assert_allclose(found.stability[mine[k + 1]], spread, rtol=1e-4)


def test_one_model_has_confidence_and_history_but_no_stability():
    table = simulate(PRESETS["released"], models=1)
    trajectory = load(table, ["policy"])
    for preset in ("paper", "released", "running"):
        found = table_of(trajectory, SETTINGS[preset])
        assert found["stability"].null_count == found["minority"].null_count == 60
        assert found["confidence"].null_count < 60
    assert table_of(trajectory, SETTINGS["history"])["minority"].null_count < 60


def test_scores_of_a_pair_are_means_over_its_visits_in_the_window():
    trajectory = load(simulate(PRESETS["released"]), MODELS)
    rows = scores(trajectory, PRESETS["released"])
    table = table_of(trajectory, PRESETS["released"]).to_pylist()
    for row in table[:10]:
        mine = trajectory.pair_ids[trajectory.pair] == row["pair_id"]
        mine &= trajectory.step >= 12  # the last 70 % of 40 steps
        assert row["visits"] == mine.sum()
        assert row["minority"] == pytest.approx(rows.minority[mine].mean())


def test_a_run_without_a_metric_is_read_as_released():
    assert metric_of({}) == PRESETS["released"]
    own = metric_of({"metric": {"preset": "running", "rho": 2.0, "later": 1}})
    assert own == replace(PRESETS["running"], rho=2.0)


def test_an_unknown_preset_is_a_sentence():
    with pytest.raises(StoreError, match=r"'rolling'; this version knows paper, released"):
        metric_of({"metric": {"preset": "rolling"}})
