"""The figures: one function each, table in, plotly figure out, one shared look.

Used by the report, the desk and the data cards alike; `save_figures` writes any as PNG and SVG.
"""

from analysis.detection import flipped_ratio_table
from analysis.figures.flips import flip_shares_figure, flip_shares_table, flipped_ratio_figure
from analysis.figures.judging import (
    calibration_figure,
    curves_table,
    detector_comparison_figure,
    precision_recall_figure,
    roc_figure,
)
from analysis.figures.look import INK
from analysis.figures.pairs import (
    cartography_figure,
    pair_trajectory_figure,
    pair_trajectory_table,
)
from analysis.figures.save import save_figures
from analysis.figures.spread import (
    ell_by_timestep_figure,
    minority_histogram_figure,
    noise_rate_figure,
)
from analysis.figures.voices import annotators_figure
from analysis.tables import ell_by_timestep_table, minority_histogram_table

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
    "roc_figure",
    "save_figures",
]
