"""Every figure that an analysis gives rise to, with its caption; for the report and for files."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from analysis import figures
from analysis.evaluate_detectors import suspicions
from analysis.figures.distributions import (
    ELL_BY_TIMESTEP,
    ell_by_timestep_table,
    minority_histogram_table,
)
from analysis.ranking_metrics import Interval, flipped_ratio_table
from analysis.report.text import detector_names, headline
from analysis.run_analysis import SAMPLE, Analysis
from analysis.trajectory import numbers
from toolkit.labels.flips import planted_count
from toolkit.store.label_sets import planted_flips
from toolkit.store.pseudonyms import exported_ids, with_exported_names

Drawn = dict[str, tuple[go.Figure, str]]
"""Figure's name -> figure and caption."""


def all_figures(analysis: Analysis) -> dict[str, go.Figure]:
    """The figures by name, those that need planted flips only where there are some."""
    return {name: figure for name, (figure, _) in drawn(analysis).items()}


def drawn(analysis: Analysis) -> Drawn:
    """All figures with their captions."""
    if not analysis.run:
        return _of_labels(analysis)
    names = detector_names(analysis)
    negated = ", negated" if analysis.ranking == "trajectory_ell" else ""
    ranked = names[analysis.ranking] + negated
    scores = analysis.column(analysis.ranking)
    made: Drawn = {}
    if analysis.flipped is not None and analysis.detections:
        made |= _judged(analysis, names, ranked)
    spread = minority_histogram_table(scores, analysis.weight)
    made["histogram"] = (
        figures.minority_histogram_figure(spread, ranked),
        "Number of pairs at each score, and the mean weight that training gave them.",
    )
    ell = _ell_table(analysis)
    if ell.num_rows:
        some = len(analysis.pairs) > SAMPLE
        made["ell"] = (
            figures.ell_by_timestep_figure(ell),
            "ell of the policy by timestep: median and middle half of the visits. Above 0 the "
            "model agrees with the label."
            + (f" Visits of {SAMPLE:,} pairs drawn at random." if some else ""),
        )
    made["map"] = (
        figures.cartography_figure(
            with_exported_names(analysis.store, analysis.tables["cartography"]), analysis.flipped
        ),
        "Each dot a pair: how probable the model finds its label, and how much that moves from "
        "visit to visit. Below the line it disagrees with the label.",
    )
    return made | _annotators(analysis) | _suspect(analysis)


def _of_labels(analysis: Analysis) -> Drawn:
    made: Drawn = {}
    split = analysis.tables.get("vote_split")
    if split is not None and split["outvoted"].null_count < len(split):
        spread = minority_histogram_table(numbers(split["outvoted"]), None)
        made["votes"] = (
            figures.minority_histogram_figure(spread, "probability that the label is outvoted"),
            "Labelled pairs by the probability, from their votes alone, that most people prefer "
            "the other image.",
        )
    habits = analysis.tables.get("annotators")
    if habits is not None and (numbers(habits["compared"]) > 0).sum() > 1:
        made["annotators"] = (
            figures.annotators_figure(with_exported_names(analysis.store, habits), "agreement"),
            "Share of votes that go with the majority of the others, the busiest annotators first "
            "chosen; values are drawn towards the common mean as if 20 more votes were average.",
        )
    return made


def _judged(analysis: Analysis, names: Mapping[str, str], ranked: str) -> Drawn:
    assert analysis.flipped is not None
    scores, flipped = analysis.column(analysis.ranking), analysis.flipped
    table = flipped_ratio_table(scores, flipped, groups=analysis.pairs["prompt"].to_pylist())
    widths = flipped_ratio_table(
        scores, flipped, kind="width", groups=analysis.pairs["prompt"].to_pylist()
    )
    by_name = {detection.name: detection for detection in analysis.detections}
    listed = headline(analysis)
    best = [by_name[name] for name in listed if name in by_name]
    made: Drawn = {
        "ratio": (
            figures.flipped_ratio_figure(table, ranked),
            "Share of flipped labels among the pairs of each tenth, by score. Above the bars: "
            "flipped pairs of all pairs there. Whiskers: 95% intervals, prompts resampled.",
        ),
        "ratio_width": (
            figures.flipped_ratio_figure(widths, ranked),
            "The same in bins of equal width, as the paper's Figure 3 has them: bins at the ends "
            "hold few pairs.",
        ),
        "detectors": (
            figures.detector_comparison_figure(best, names),
            "AUROC with 95% intervals, prompts resampled.",
        ),
    }
    curves = _curves(analysis, [name for name in listed if name in by_name][:6])
    if curves.num_rows:
        base = float(flipped.mean())
        made["roc"] = (
            figures.roc_figure(curves, names),
            "Share of flips detected by share of false positives; the diagonal is guessing.",
        )
        made["precision_recall"] = (
            figures.precision_recall_figure(curves, base, names),
            "Precision among the flagged pairs by the share of flips detected.",
        )
    if analysis.calibration is not None:
        made["calibration"] = (
            figures.calibration_figure(analysis.calibration),
            "Probability that a pair with this score is one of the planted flips, at the planted "
            "rate.",
        )
    return made


def _curves(analysis: Analysis, listed: list[str]) -> pa.Table:
    assert analysis.flipped is not None
    ids = analysis.digest.pair_ids[analysis.digest.visited]
    scores = suspicions(analysis.tables, ids)
    known = {name: scores[name] for name in listed if name in scores}
    return figures.curves_table(known, analysis.flipped)


def _ell_table(analysis: Analysis) -> pa.Table:
    if not analysis.digest.has_timesteps:
        return ELL_BY_TIMESTEP.empty_table()
    rows = analysis.sample()
    ids = analysis.digest.pair_ids[analysis.digest.visited]
    flips = analysis.flipped
    mine = None if flips is None else flips[np.searchsorted(ids, rows.pair_ids)]
    return ell_by_timestep_table(rows, mine, window=analysis.window)


def _annotators(analysis: Analysis) -> Drawn:
    made: Drawn = {}
    if analysis.noise is not None and analysis.noise.rate.value is not None:
        rates = {"estimated from the margins": analysis.noise.rate}
        if planted_flips(analysis.store, analysis.labels) is not None:
            flipped, labelled = planted_count(analysis.store, analysis.labels)
            planted = flipped / labelled
            rates["planted on purpose"] = Interval(planted, planted, planted)
        made["noise"] = (
            figures.noise_rate_figure(rates),
            "Share of labels that look reversed. The estimate counts natural errors and honest "
            "minority votes along with planted flips.",
        )
    habits = analysis.tables.get("annotators")
    if habits is not None and habits.num_rows > 1:
        made["annotators"] = (
            figures.annotators_figure(with_exported_names(analysis.store, habits)),
            "Mean u of the pairs of each annotator (by the pseudonym that exports use), the "
            "busiest first chosen; values are drawn towards the common mean as if 20 more of their "
            "votes were average.",
        )
    return made


def _suspect(analysis: Analysis) -> Drawn:
    order = analysis.suspicious()
    if not len(order):
        return {}
    pair = str(analysis.pairs["pair_id"][int(order[0])])
    table = figures.pair_trajectory_table(analysis.trajectory_of([pair]), pair)
    (name,) = exported_ids(analysis.store)([pair])
    return {
        "suspect": (
            figures.pair_trajectory_figure(table),
            f"Visit by visit, pair {name}, the most suspicious one: steadily below 0: the model "
            "rejects the label; up and down: it is undecided. Timesteps differ between visits.",
        )
    }
