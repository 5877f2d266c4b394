import numpy as np
import pyarrow as pa
import pytest
from choreographer.browsers.chromium import Chromium
from PIL import Image

from analysis import figures
from analysis.detectors.annotators import annotators
from analysis.detectors.cartography import cartography
from analysis.figures import (
    annotators_figure,
    cartography_figure,
    curves_table,
    detector_comparison_figure,
    ell_by_timestep_figure,
    ell_by_timestep_table,
    flip_shares_figure,
    flip_shares_table,
    flipped_ratio_figure,
    flipped_ratio_table,
    minority_histogram_figure,
    minority_histogram_table,
    noise_rate_figure,
    pair_trajectory_figure,
    pair_trajectory_table,
    precision_recall_figure,
    roc_figure,
    save_figures,
)
from analysis.figures.distributions import between
from analysis.pair_stats import digest
from analysis.ranking_metrics import Interval, measure_all
from analysis.trajectory import load
from tests.analysis.simulated import simulate
from toolkit.colors import OKABE_ITO
from toolkit.errors import InputError
from toolkit.minority import PRESETS

NOTHING = Interval(None, None, None)
RNG = np.random.default_rng(0)
SCORES = RNG.gamma(2.0, 0.1, 500)
FLIPPED = SCORES + RNG.normal(0, 0.1, 500) > 0.35


@pytest.mark.parametrize("kind", ["quantile", "width"])
def test_the_ratio_figure_shows_shares_counts_and_the_base_rate(kind):
    table = flipped_ratio_table(SCORES, FLIPPED, kind=kind)
    figure = flipped_ratio_figure(table)
    rows = [row for row in table.to_pylist() if row["count"]]
    assert list(figure.data[0].y) == [row["share"] for row in rows]
    words = [note.text for note in figure.layout.annotations]
    assert [f"{row['flipped']}/{row['count']}" for row in rows] == words[: len(rows)]
    assert f"{FLIPPED.mean():.1%}" in words[-1]


def test_an_empty_table_is_an_empty_figure():
    nothing = np.zeros(0)
    for figure in (
        flipped_ratio_figure(flipped_ratio_table(nothing, nothing.astype(bool))),
        minority_histogram_figure(minority_histogram_table(nothing, None)),
        detector_comparison_figure([]),
    ):
        drawn = [
            value for trace in figure.data for value in (trace.y if trace.y is not None else ())
        ]
        assert not any(value and value > 0 for value in drawn), figure.data


def test_the_histogram_counts_every_known_pair_and_means_its_weights():
    scores = SCORES.copy()
    scores[:3] = np.nan
    table = minority_histogram_table(scores, 1 / (1 + 10 * scores))
    assert sum(table["count"].to_pylist()) == 497
    for row in table.to_pylist():
        if row["count"]:
            assert 1 / (1 + 10 * row["high"]) <= row["weight"] <= 1 / (1 + 10 * row["low"])
    assert len(minority_histogram_figure(table).data) == 2
    assert len(minority_histogram_figure(minority_histogram_table(scores, None)).data) == 1


def test_ell_by_timestep_holds_every_visit_of_the_window_once():
    trajectory = load(simulate(PRESETS["released"]), ["policy", "a", "b"])
    flipped = np.arange(60) % 5 == 0
    table = ell_by_timestep_table(trajectory, flipped, window="late")
    assert sum(table["count"].to_pylist()) == trajectory.within("late").sum()
    figure = ell_by_timestep_figure(table)
    assert {trace.name for trace in figure.data if trace.name} == {
        "label as it was",
        "label flipped",
    }
    alone = ell_by_timestep_table(trajectory)
    assert set(alone["pairs"].to_pylist()) == {"all pairs"}


def test_the_comparison_shows_detectors_from_the_top_as_given():
    found = measure_all({"good": SCORES, "bad": -SCORES}, FLIPPED, np.arange(500), resamples=50)
    figure = detector_comparison_figure(found, {"good": "the good one"})
    assert list(figure.data[0].y) == ["bad", "the good one"]
    assert figure.data[0].x[1] > 0.5 > figure.data[0].x[0]


def test_figures_need_no_theme_and_use_the_shared_colours():
    figure = flipped_ratio_figure(flipped_ratio_table(SCORES, FLIPPED))
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.data[1].marker.color in OKABE_ITO


@pytest.mark.parametrize("ground", ["#fcfcfb", "#14171b"])
def test_ink_reads_on_both_grounds(ground):
    assert contrast(figures.INK, ground) > 3.5


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.25, "0.10–0.25"),
        (0.1, 0.104, "0.1000–0.1040"),
        (-0.68, 1.5, "−0.68 to 1.50"),
        (2e-7, 4e-7, "2.0e−7 to 4.0e−7"),
        (0.5, 0.5, "0.500–0.500"),
    ],
)
def test_a_bin_reads_in_as_many_digits_as_it_needs(low, high, words):
    assert between(low, high) == words


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_flips_turn_a_minority_of_a_tenth_into_the_closed_form_of_the_paper():
    table = flip_shares_table(samples=1000, minority=0.1, seed=0)
    rate, minority, majority, expected = (
        np.array(table[name].to_pylist()) for name in table.column_names
    )
    np.testing.assert_allclose(expected, 0.1 + rate * 0.8)
    # 1,000 labels: a binomial share of at most .5 has a standard deviation below .016
    assert np.abs(minority - expected).max() < 3 * 0.016
    np.testing.assert_allclose(minority + majority, 1)
    assert (minority[0], minority[-1]) == (0.1, 0.9)
    figure = flip_shares_figure(table)
    assert list(figure.data[3].y) == minority.tolist()
    assert list(figure.data[2].y) == expected.tolist()


def test_a_pairs_trajectory_shows_every_visit_and_the_band_of_its_footprints():
    trajectory = load(simulate(PRESETS["released"]), ["policy", "a", "b"])
    table = pair_trajectory_table(trajectory, "pair-0003")
    mine = trajectory.pair_ids[trajectory.pair] == "pair-0003"
    assert table["step"].to_pylist() == trajectory.step[mine].tolist()
    np.testing.assert_allclose(table["policy"].to_numpy(), trajectory.ell[0, mine])
    for row in table.to_pylist():
        assert row["low"] <= row["policy"] <= row["high"]
    figure = pair_trajectory_figure(table)
    assert list(figure.data[1].y) == table["policy"].to_pylist()
    assert len(figure.data[0].x) == 2 * table.num_rows
    assert pair_trajectory_table(trajectory, "nobody").num_rows == 0
    pair_trajectory_figure(pair_trajectory_table(trajectory, "nobody"))


def test_the_map_shows_every_pair_once_and_flips_apart():
    trajectory = load(simulate(PRESETS["released"]), ["policy", "a", "b"])
    table = cartography(digest([trajectory], {}, beta=300.0), "all")
    flipped = np.arange(60) < 12
    figure = cartography_figure(table, flipped)
    assert {trace.name: len(trace.x) for trace in figure.data} == {
        "label as it was": 48,
        "label flipped": 12,
    }
    assert len(cartography_figure(table).data[0].x) == 60


def test_roc_and_precision_of_a_hand_made_ranking():
    # ranked: flip, other, flip, other
    scores = {"s": np.array([4.0, 3.0, 2.0, 1.0]), "none": np.full(4, np.nan)}
    table = curves_table(scores, np.array([True, False, True, False]))
    rows = [row for row in table.to_pylist() if row["detector"] == "s"]
    assert [row["recall"] for row in rows] == [0.5, 0.5, 1.0, 1.0]
    assert [row["false_positives"] for row in rows] == [0, 0.5, 0.5, 1.0]
    assert [row["precision"] for row in rows] == pytest.approx([1, 0.5, 2 / 3, 0.5])
    assert set(table["detector"].to_pylist()) == {"s"}
    assert list(roc_figure(table).data[0].x) == [0, 0, 0.5, 0.5, 1.0]
    assert len(precision_recall_figure(table, 0.5).data) == 1


def test_tied_scores_are_flagged_together():
    table = curves_table({"s": np.ones(4)}, np.array([True, False, True, False])).to_pylist()
    assert [(row["recall"], row["false_positives"]) for row in table] == [(1.0, 1.0)]


def test_noise_rates_and_annotators_are_drawn_with_what_they_rest_on():
    figure = noise_rate_figure({"estimated": Interval(0.2, 0.1, 0.25), "unknown": NOTHING})
    assert list(figure.data[0].y) == ["estimated"]
    assert list(figure.data[0].error_x.array) == pytest.approx([0.05])
    habits = annotators(
        pa.table(
            {
                "pair_id": ["a", "b"],
                "comparison_id": ["x", "y"],
                "image_0": ["i", "k"],
                "image_1": ["j", "l"],
            }
        ),
        pa.table({"pair_id": ["a", "b"], "annotator": ["ann", "bob"], "choice": [1.0, 0.5]}),
        np.array([0.1, 0.5]),
    )
    assert list(annotators_figure(habits).data[0].y) == ["ann", "bob"]
    for habit in ("left_share", "tie_rate", "agreement"):
        annotators_figure(habits, habit)


def test_a_figure_is_saved_as_png_and_svg_without_a_window(tmp_path):
    if Chromium.find_browser(skip_local=False) is None:
        pytest.skip("no Chrome or Chromium on this machine")
    figure = flip_shares_figure(flip_shares_table())
    png, svg = save_figures({"figure2": figure}, tmp_path / "deep")
    assert Image.open(png).size == (1800, 720)
    text = svg.read_text()
    assert text.startswith("<svg")
    assert "share of labels flipped" in text


def test_without_a_browser_saving_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-browser"))
    with pytest.raises(InputError, match=r"needs Chrome or Chromium.*apt-get install chromium"):
        save_figures({"f": flip_shares_figure(flip_shares_table())}, tmp_path)
    with pytest.raises(InputError, match="png or svg, not 'pdf'"):
        save_figures({}, tmp_path, ["pdf"])
