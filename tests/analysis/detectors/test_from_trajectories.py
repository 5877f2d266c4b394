"""Detectors of the trajectory alone: hand-derived numbers, and planted flips that are found."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.detectors import DETECTORS, scores
from analysis.detectors.cartography import (
    area_under_margin,
    cartography,
    dynamics_metrics,
    read_dynamics,
    write_dynamics,
    write_metrics,
)
from analysis.detectors.detector import windows_of
from analysis.detectors.minority import minority
from analysis.detectors.mixture import flip_posterior, loss_mixture
from analysis.detectors.noise_type import kinds
from analysis.detectors.trajectory_ell import filtered, matched_filter, out_of_fold, trajectory_ell
from analysis.run_checks import profile
from analysis.trajectory import WINDOWS, numbers
from tests.analysis.detectors.runs import digest_of, planted, trajectory_of
from toolkit.errors import InputError
from toolkit.schema import meaning_of


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, float)))


def test_cartography_of_hand_made_visits():
    # p over four visits: .8 .2 .8 .2 and always .9
    z = np.log(4)
    ell = np.array([[z, np.log(9)], [-z, np.log(9)], [z, np.log(9)], [-z, np.log(9)]])
    table = cartography(digest_of(trajectory_of(ell)), "all").to_pylist()
    first, second = table
    assert first["cartography_confidence"] == pytest.approx(0.5)
    assert first["variability"] == pytest.approx(0.3)
    assert first["correctness"] == 0.5
    assert first["aleatoric"] == pytest.approx(0.16)
    assert first["forgetting"] == 2
    assert second["variability"] == pytest.approx(0, abs=1e-3)
    assert (second["correctness"], second["forgetting"]) == (1.0, 0)
    assert second["aleatoric"] == pytest.approx(0.09)


def test_a_pair_that_was_never_learned_counts_as_forgotten_at_every_visit():
    table = cartography(digest_of(trajectory_of(-np.ones((5, 1)))), "all")
    assert table["forgetting"].to_pylist() == [5]


def test_one_visit_has_no_forgetting():
    table = cartography(digest_of(trajectory_of(np.ones((1, 2)))), "all")
    assert table["forgetting"].to_pylist() == [None, None]


def test_the_area_under_the_margin_is_the_mean_logit():
    digest = digest_of(trajectory_of([[1.0, -2.0], [3.0, 0.0]]), beta=10.0)
    assert area_under_margin(digest, "all")["area_under_margin"].to_pylist() == [20, -10]


def test_without_a_beta_the_probability_is_on_the_running_scale():
    rng = np.random.default_rng(0)
    digest = digest_of(trajectory_of(1e-4 * rng.normal(1, 1, (10, 200))), beta=None)
    spread = numbers(cartography(digest, "late")["cartography_confidence"])
    assert np.nanmean(spread) > 0.6  # of ell in 1e-4 a beta of 1 would leave .5


def test_every_score_of_a_window_is_that_of_its_visits():
    rng = np.random.default_rng(1)
    ell = rng.normal(size=(10, 6))
    digest = digest_of(trajectory_of(ell))
    parts = {"all": ell, "early": ell[:3], "late": ell[3:], "last": ell[7:]}
    for name, mine in parts.items():
        table = cartography(digest, name)
        c = minority(digest, "minority", name)
        np.testing.assert_allclose(
            numbers(table["cartography_confidence"]), sigmoid(mine).mean(0), rtol=1e-5
        )
        np.testing.assert_allclose(
            numbers(c["confidence"]), 1 - sigmoid(15 * mine).mean(0), rtol=1e-4, atol=1e-6
        )
        assert table["visits"].to_pylist() == [len(mine)] * 6
    assert windows_of(digest) == list(parts)


def test_both_is_the_late_visits_and_the_probes_together():
    rng = np.random.default_rng(2)
    visits, probes = rng.normal(size=(2, 6)), rng.normal(size=(3, 6))
    ids = [f"pair-{k}" for k in range(6)]
    probed = trajectory_of(probes, ids=ids, kind="probe", step=[1, 1, 1])
    found = merged(trajectory_of(visits, ids=ids), probed, ids)
    table = trajectory_ell(digest_of(found), "both")
    late = np.vstack([visits[1:], probes])  # of two steps the first is early
    expected = -((late - late.mean()) / late.std(ddof=1)).mean(0)
    np.testing.assert_allclose(numbers(table["trajectory_ell"]), expected, rtol=1e-4, atol=1e-6)
    assert table["visits"].to_pylist() == [4] * 6


def test_first_ell_sees_only_visits_before_the_pair_was_trained_on():
    ell = np.array([[1.0, 2.0, 4.0], [9.0, 9.0, -9.0]])
    table = trajectory_ell(digest_of(trajectory_of(ell)), "all")
    first = numbers(table["first_ell"])
    np.testing.assert_allclose(first, -(ell[0] - ell[0].mean()) / ell[0].std(ddof=1), rtol=1e-5)


def test_out_of_fold_takes_each_pair_from_runs_that_never_trained_on_it():
    ids = ["a", "b", "c", "d"]
    ell = np.array([[1.0, -1.0, 2.0, -2.0]])
    runs = []
    for held in (slice(0, 2), slice(2, 4)):
        trained = [name for name in ids if name not in ids[held]]
        visits = trajectory_of(np.zeros((1, 2)), ids=trained)
        probes = trajectory_of(ell, ids=ids, kind="probe", step=[1])
        runs.append((visits, probes))
    tables = [merged(*run, ids) for run in runs]
    table = out_of_fold([digest_of(found) for found in tables])
    assert table["pair_id"].to_pylist() == ids
    assert table["visits"].to_pylist() == [1, 1, 1, 1]
    # two held-out probes a run: (1 - 0) / sqrt(2) and (2 - 0) / (2 sqrt(2)), each negated
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(numbers(table["out_of_fold_ell"]), [-half, half, -half, half])


def merged(one, other, ids):
    from dataclasses import replace

    place = {name: k for k, name in enumerate(ids)}
    pairs = [np.array([place[name] for name in t.pair_ids])[t.pair] for t in (one, other)]
    joined = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("visit", "step", "rank", "micro", "timestep", "train", "sign", "reference")
    }
    return replace(
        one,
        pair_ids=np.array(ids),
        pair=np.concatenate(pairs),
        difference=np.hstack([one.difference, other.difference]),
        steps=2,
        logged={},
        **joined,
    )


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("trajectory_ell", lambda d: trajectory_ell(d, "all")),
        ("cartography_confidence", lambda d: cartography(d, "all")),
        ("correctness", lambda d: cartography(d, "all")),
        ("area_under_margin", lambda d: area_under_margin(d, "all")),
        ("minority.confidence", lambda d: minority(d, "minority", "all")),
        ("loss_mixture", lambda d: loss_mixture(d, "all")),
        ("flip_posterior", lambda d: flip_posterior(d, "all", ["a"] * 1000)[0]),
    ],
)
def test_planted_flips_are_found_on_the_declared_side(name, make):
    digest, flipped = planted()
    table, (_, detector) = make(digest), scores()[name]
    assert table["pair_id"].to_pylist() == sorted(table["pair_id"].to_pylist())
    values = detector.suspicion(numbers(table[detector.column]))
    assert roc_auc_score(flipped, values) > 0.9
    assert meaning_of(table.schema.field(detector.column))


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_noise_rate_is_estimated_with_an_interval_that_holds_it(rate):
    digest, flipped = planted(pairs=2000, margin=0.5, rate=rate)
    prompts = [str(k // 4) for k in range(2000)]
    table, noise = flip_posterior(digest, "all", prompts)
    assert noise.rate.low <= rate <= noise.rate.high
    assert noise.rate.high - noise.rate.low < 0.1
    posterior = numbers(table["flip_posterior"])
    assert posterior.mean() == pytest.approx(rate, abs=0.03)
    sure = posterior > 0.9
    assert flipped[sure].mean() > 0.85
    assert table["annotator_posterior"].null_count == 2000


def test_a_noise_rate_that_the_margins_do_not_tell_is_not_told():
    digest, _ = planted(margin=0.05, visits=2)
    _, noise = flip_posterior(digest, "all", [str(k // 4) for k in range(1000)])
    assert noise.rate.value is None
    assert noise.margin < 0.5 * noise.spread


def test_a_careless_annotator_has_a_higher_rate_and_a_newcomer_the_common_one():
    rng = np.random.default_rng(0)
    people = np.array(["careful"] * 500 + ["careless"] * 500 + ["new"] * 2)
    rate = {"careful": 0.05, "careless": 0.4, "new": 0.0}
    flipped = rng.random(1002) < [rate[name] for name in people]
    ell = np.where(flipped, -1, 1) + 2 * rng.normal(size=(6, 1002))
    digest = digest_of(trajectory_of(ell))
    table, noise = flip_posterior(digest, "all", [str(k) for k in range(1002)], people.tolist())
    found = {name: e for name, (e, _) in noise.annotators.items()}
    assert found["careful"] == pytest.approx(0.05, abs=0.03)
    assert found["careless"] == pytest.approx(0.4, abs=0.05)
    assert abs(found["new"] - noise.rate.value) < 0.05
    own, common = (
        roc_auc_score(flipped, numbers(table[name]))
        for name in ("annotator_posterior", "flip_posterior")
    )
    assert own > common


def test_a_steady_rejection_reads_as_a_slip_and_a_fought_over_pair_as_a_taste():
    rng = np.random.default_rng(0)
    ell = np.abs(rng.normal(2, 0.3, (8, 300)))
    ell[:, :30] = -2 + 0.2 * rng.normal(size=(8, 30))  # steadily rejected
    ell[:, 30:60] = -0.7 + 2.5 * rng.normal(size=(8, 30))  # rejected on the whole, up and down
    table = kinds(digest_of(trajectory_of(ell)), "all")
    wrong = np.arange(60) < 30
    assert roc_auc_score(wrong, numbers(table["erroneous"])[:60]) > 0.95
    assert roc_auc_score(~wrong, numbers(table["subjective"])[:60]) > 0.9


def test_split_voices_make_a_pair_unstable():
    digest = digest_of(trajectory_of(np.random.default_rng(0).normal(size=(4, 50))))
    split = np.full(50, np.nan)
    split[7] = 0.5
    assert numbers(kinds(digest, "all", split)["instability"])[7] == 1


@pytest.mark.parametrize(
    ("kind", "alpha", "rise", "against"),
    [
        ("conflicting", 8.0, np.linspace(0, 2, 40), 0.35),
        ("balanced", 0.0, np.linspace(0, 2, 40), 0.05),
        ("over-simple", -1.0, np.minimum(np.arange(40), 4.0), 0.01),
        ("not trained enough", None, np.zeros(40), 0.0),
    ],
)
def test_a_dataset_is_profiled_by_how_early_and_how_far_it_is_learned(kind, alpha, rise, against):
    sign = np.where(np.arange(400) < against * 400, -1.0, 1.0)
    digest = digest_of(trajectory_of(rise[:, None] * sign))
    found = profile(digest, np.arange(400))
    assert (found.kind, found.alpha) == (kind, alpha)


def test_contradicting_voices_make_a_dataset_conflicting():
    digest = digest_of(trajectory_of(np.linspace(0, 2, 40)[:, None] * np.ones(100)))
    assert profile(digest, np.arange(100), np.full(100, 0.4)).kind == "conflicting"


def test_pairs_of_equal_loss_have_no_mixture():
    table = loss_mixture(digest_of(trajectory_of(np.ones((3, 50)))), "all")
    assert table["loss_mixture"].null_count == 50


def test_a_pair_outside_the_label_set_is_null_everywhere():
    label = np.array([1.0, 0.0, np.nan] * 20)
    trajectory = trajectory_of(np.random.default_rng(0).normal(size=(4, 60)), label=label)
    digest = digest_of(trajectory)
    tables = [
        cartography(digest, "all"),
        trajectory_ell(digest, "all"),
        area_under_margin(digest, "all"),
        loss_mixture(digest, "all"),
        flip_posterior(digest, "all", ["a"] * 60)[0],
        kinds(digest, "all"),
    ]
    for table in tables:
        for name in table.column_names[2:]:
            if not name.endswith(("probe", "annotator_posterior")):
                known = ~np.isnan(numbers(table[name]))
                assert not known[2::3].any(), name
                if "early" not in name and "first_ell" not in name:
                    assert known[::3].any(), name


def test_every_declared_detector_says_when_to_believe_it():
    listed = scores()
    assert {"minority", "cartography_confidence", "agreement", "dawid_skene"} <= set(listed)
    assert not [name for name in listed if name.endswith(tuple(f"_{w}" for w in WINDOWS))]
    for name, (detector, score) in listed.items():
        assert score.direction in ("high", "low"), name
        for words in (score.formula, score.assumption, score.source):
            assert len(words) > 5, name
        assert detector.needs, name
        assert DETECTORS[detector.finding] is detector


def test_dynamics_go_out_and_come_back_the_same(tmp_path):
    ell = np.random.default_rng(0).normal(size=(3, 5))
    trajectory = trajectory_of(ell, label=[1, 0, 1, 0, 1])
    files = write_dynamics([trajectory], tmp_path, beta=2.0)
    assert [path.name for path in files] == [f"dynamics_epoch_{k}.jsonl" for k in range(3)]
    line = json.loads(files[1].read_text().splitlines()[1])
    assert line["guid"] == "p0001"
    assert line["gold"] == 1
    assert line["logits_epoch_1"][1] - line["logits_epoch_1"][0] == pytest.approx(2 * ell[1, 1])
    there = dynamics_metrics(read_dynamics(tmp_path))
    here = cartography(digest_of(trajectory, beta=2.0), "all")
    for name in ("cartography_confidence", "variability", "correctness", "forgetting"):
        np.testing.assert_allclose(numbers(there[name]), numbers(here[name]), rtol=1e-5, atol=1e-6)
    out = write_metrics(here, tmp_path / "td_metrics.jsonl")
    row = json.loads(out.read_text().splitlines()[0])
    assert set(row) == {
        "guid", "index", "threshold_closeness", "confidence", "variability", "correctness",
        "forgetfulness",
    }  # fmt: skip
    assert row["confidence"] == pytest.approx(here["cartography_confidence"][0].as_py())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "line 1"),
        ('{"guid": "a", "logits_epoch_0": [1, 2, 3], "gold": 0}', "two logits"),
        ('{"guid": "a", "gold": 0}', "logits_epoch_0"),
    ],
)
def test_dynamics_that_cannot_be_read_are_a_sentence(tmp_path, text, words):
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(text + "\n")
    with pytest.raises(InputError, match=words):
        read_dynamics(tmp_path)
    with pytest.raises(InputError, match="no file dynamics_epoch_"):
        read_dynamics(tmp_path / "elsewhere")


def test_the_filter_weighs_features_by_mean_over_variance():
    features = np.array([[1.0, 5.0, 7.0], [3.0, -1.0, 7.0], [2.0, 2.0, 7.0], [9.0, 9.0, 9.0]])
    known = np.array([True, True, True, False])
    scores = filtered(features, known)
    # means 2 and 2, variances 2/3 and 6; the third has no spread
    np.testing.assert_allclose(scores[:3], -(features[:3, :2] @ [3.0, 1 / 3]))
    assert np.isnan(scores[3])


def test_the_matched_filter_finds_flips_where_a_late_phase_alone_tells():
    """Early visits are noise of ten times the size: the filter takes the late ones."""
    rng = np.random.default_rng(0)
    flipped = rng.random(400) < 0.2
    early = rng.normal(0, 10, (6, 400))
    late = np.where(flipped, -1, 1) + rng.normal(0, 1, (14, 400))
    digest = digest_of(trajectory_of(np.vstack([early, late])))
    scores = numbers(matched_filter(digest)["matched_filter"])
    assert scores[flipped].min() > np.quantile(scores[~flipped], 0.99)
    whole = -digest.ell.standardised("all")[0]
    assert whole[flipped].min() < np.quantile(whole[~flipped], 0.9)
