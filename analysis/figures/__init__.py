"""The figures: one function each, table in, plotly figure out, one shared look.

Used by the report, the desk and the data cards alike; `save_figures` writes any as PNG and SVG.
"""

from analysis.figures.curves import (
    pair_trajectory_figure,
    pair_trajectory_table,
)
from analysis.figures.detection import (
    calibration_figure,
    curves_table,
    detector_comparison_figure,
    flip_shares_figure,
    flip_shares_table,
    flipped_ratio_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
)
from analysis.figures.distributions import (
    annotators_figure,
    cartography_figure,
    ell_by_timestep_figure,
    ell_by_timestep_table,
    minority_histogram_figure,
    minority_histogram_table,
    noise_rate_figure,
)
from analysis.figures.theme import INK, save_figures
from analysis.ranking_metrics import flipped_ratio_table

__all__ = [
    "INK",
    "annotators_figure",
    "calibration_figure",
    "cartography_figure",
    "curves_table",
    "detector_comparison_figure",
    "ell_by_timestep_figure",
    "ell_by_timestep_table",
    "flip_shares_figure",
    "flip_shares_table",
    "flipped_ratio_figure",
    "flipped_ratio_table",
    "minority_histogram_figure",
    "minority_histogram_table",
    "noise_rate_figure",
    "pair_trajectory_figure",
    "pair_trajectory_table",
    "precision_recall_figure",
    "reliability_figure",
    "roc_figure",
    "save_figures",
]
