"""Frames of pandas, polars and Arrow give one figure and one evaluation."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pyarrow as pa
import pytest

from analysis import figures
from analysis.figures.curves import PAIR, PAIR_ERRORS, pair_errors_figure
from analysis.frames import as_arrow, detect
from analysis.ranking_metrics import flipped_ratio_table, measure
from toolkit.errors import InputError

RNG = np.random.default_rng(0)
FLIPPED = RNG.random(300) < 0.2
SCORE = RNG.normal(size=300) + FLIPPED
GROUP = RNG.integers(0, 80, 300)
TABLE = pa.table({"u": SCORE, "bad": FLIPPED, "prompt": [f"prompt {k}" for k in GROUP]})
KINDS = {
    "pandas": lambda table: table.to_pandas(),
    "polars": pl.from_arrow,
    "arrow": lambda table: table,
    "batches": lambda table: pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
    "dict": lambda table: {name: table[name].to_pylist() for name in table.column_names},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_evaluated_on_any_frame(kind):
    found = detect(KINDS[kind](TABLE), score="u", flipped="bad", group="prompt", resamples=50)
    names = np.array([f"prompt {k}" for k in GROUP])
    assert found == measure("u", SCORE, FLIPPED, names, resamples=50)
    assert found.auroc.low < found.auroc.value < found.auroc.high


def test_a_low_side_is_turned_and_unknown_rows_are_left_out():
    frame = pd.DataFrame({"p": -SCORE, "bad": FLIPPED.astype(float)})
    frame.loc[:9, "bad"] = np.nan
    frame.loc[10:14, "p"] = np.nan
    low = detect(frame, score="p", flipped="bad", direction="low", resamples=2)
    assert (low.pairs, low.missing) == (285, 5)
    high = detect(frame, score="p", flipped="bad", resamples=2)
    assert low.auroc.value == pytest.approx(1 - high.auroc.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"score": "v", "flipped": "bad"}, r"no column 'v' \(columns: u, bad, prompt\)"),
        ({"score": "prompt", "flipped": "bad"}, "'prompt' contains string; .* numbers"),
        ({"score": "u", "flipped": "u"}, "'u' contains -.*true and false or 1 and 0"),
        ({"score": "u", "flipped": "bad", "direction": "up"}, "'high' or 'low', not 'up'"),
    ],
)
def test_a_wrong_column_is_one_sentence(given, words):
    with pytest.raises(InputError, match=words):
        detect(TABLE, **given)
    with pytest.raises(InputError, match="list is no frame"):
        as_arrow([1, 2])


def test_columns_of_findings_count_under_their_bare_names():
    frame = pl.DataFrame({"cartography.variability": [0.1], "other": [1]})
    assert as_arrow(frame, "variability")["variability"].to_pylist() == [0.1]
    twice = frame.with_columns(pl.lit(0.2).alias("mine.variability"))
    with pytest.raises(InputError, match="no column 'variability'"):
        as_arrow(twice, "variability")


MAP = pa.table(
    {
        "pair_id": [f"p{k}" for k in range(300)],
        "variability": RNG.random(300) / 2,
        "cartography_confidence": RNG.random(300),
        "bad": FLIPPED,
    }
)
VISITS = {"step": [0, 9], "timestep": [10, 900], "kind": ["train", "probe"]}
ERRORS = pa.table({**VISITS, "chosen": [0.1, 0.2], "rejected": [0.0, 0.1]}).cast(PAIR_ERRORS)
ELL = pa.table({**VISITS, "policy": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}).cast(PAIR)
HABITS = pa.table(
    {
        "annotator": ["x", "y"],
        "votes": [5, 6],
        "compared": [5, 6],
        "tie_rate": [0.1, 0.2],
        "tie_rate_shrunk": [0.1, 0.2],
        "mean_u": [0.1, 0.2],
        "mean_u_shrunk": [0.1, 0.2],
    }
)
FIGURES = {
    "cartography": (lambda f: figures.cartography_figure(f, "bad"), MAP),
    "histogram": (figures.minority_histogram_figure, TABLE.rename_columns(["minority", "b", "p"])),
    "ratio": (figures.flipped_ratio_figure, flipped_ratio_table(SCORE, FLIPPED)),
    "roc": (lambda f: figures.roc_figure(f, score="u", flipped="bad"), TABLE),
    "recall": (lambda f: figures.precision_recall_figure(f, score="u", flipped="bad"), TABLE),
    "shares": (figures.flip_shares_figure, figures.flip_shares_table(samples=50)),
    "curves": (figures.roc_figure, figures.curves_table({"u": SCORE}, FLIPPED)),
    "errors": (pair_errors_figure, ERRORS),
    "ell": (figures.pair_trajectory_figure, ELL),
    "annotators": (figures.annotators_figure, HABITS),
    "ties": (lambda f: figures.annotators_figure(f, "tie_rate"), HABITS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_from_every_kind_of_frame(name):
    draw, table = FIGURES[name]
    expected = draw(table)
    assert isinstance(expected, go.Figure)
    assert len(expected.data) > 0
    for kind in ("pandas", "polars", "batches"):
        assert draw(KINDS[kind](table)).to_json() == expected.to_json(), kind


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_a_wrong_frame_lists_what_is_there(name):
    draw, _ = FIGURES[name]
    with pytest.raises(InputError, match=r"no column .* \(columns: other\); this needs"):
        draw(pd.DataFrame({"other": [1.0]}))
