"""Erroneous or subjective: two axes, strong steady disagreement and instability.

An error is rejected steadily: the other labels taught the model the opposite. On a matter of taste
the model is torn: some labels of its kind point one way, some the other.
"""

import numpy as np
import pyarrow as pa

from analysis.detectors.cartography import spread
from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.pair_stats import Digest
from analysis.trajectory import Floats, Mask, as_table, numbers
from toolkit.schema import column

KINDS = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column(
            "disagreement",
            pa.float64(),
            "rank of trajectory_ell among all pairs, 0 to 1, high: the model rejects the label",
        ),
        column(
            "instability",
            pa.float64(),
            "rank of the spread among all pairs, 0 to 1, high: the model changes its mind",
        ),
        column(
            "erroneous",
            pa.float64(),
            "disagreement * (1 - instability), 0 to 1: strong and steady, more likely an error",
        ),
        column(
            "subjective",
            pa.float64(),
            "disagreement * instability, 0 to 1: strong and unsteady, more likely a taste",
        ),
    ]
)


def kinds(digest: Digest, window: str, split: Floats | None = None) -> pa.Table:
    """The two axes and two readings of every pair the run met; schema KINDS.

    Instability is sd / (sd + |mean p - .5|) of p over visits, null with one visit: how much the
    probability moves, compared with how far it is from undecided. `split`, (P,) with
    `digest.visited`, is the smaller share of extra votes on the pair, 0 to .5 (NaN: none); twice
    that counts where it is larger.
    """
    visited = digest.visited
    p, square = (digest.tallies[name].mean(window)[visited] for name in ("p", "square"))
    several = digest.counted(window)[visited] > 1
    axes = noise_axes(-digest.ell.standardised(window)[0][visited], p, spread(p, square), several)
    disagreement, instability = axes
    if split is not None:
        known = ~np.isnan(split)
        instability[known] = np.fmax(instability[known], 2 * split[known])
    readings = [disagreement * (1 - instability), disagreement * instability]
    return as_table(KINDS, [digest.visited_ids, disagreement, instability, *readings])


def noise_axes(rejected: Floats, p: Floats, sd: Floats, several: Mask) -> tuple[Floats, Floats]:
    """Disagreement and instability, (P,) each, as ranks from 0 to 1.

    `rejected`: trajectory_ell; `p` and `sd`: mean and standard deviation of the label's
    probability over visits; `several`: whether the pair has more than one visit.
    """
    relative = sd / np.maximum(sd + np.abs(p - 0.5), 1e-12)
    return _rank(rejected), _rank(np.where(several, relative, np.nan))


def _rank(values: Floats) -> Floats:
    """(P,) share of the known values below each one, ties halved; NaN stays."""
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    known = ~np.isnan(values)
    ranks = np.full(len(values), np.nan)
    if known.any():
        ranks[known] = (rankdata(values[known]) - 0.5) / known.sum()
    return ranks


def _kinds(evidence: Evidence, window: str) -> Computed:
    split = None
    if (votes := evidence.tables[window].get("agreement")) is not None:
        against = numbers(votes["against_share"])
        split = np.minimum(against, 1 - against)
    return kinds(evidence.digest, window, split)


DETECTORS = (
    Detector(
        finding="kinds",
        compute=_kinds,
        needs=("trajectory", "labels"),
        scores=tuple(
            Score(
                name=name,
                column=name,
                direction="high",
                formula=formula,
                assumption="tastes are shared by enough annotators to pull the model both ways; a "
                "taste that few share looks like an error",
                source="this project",
            )
            for name, formula in (
                ("erroneous", "rank(trajectory_ell) * (1 - rank(instability))"),
                ("subjective", "rank(trajectory_ell) * rank(instability)"),
            )
        ),
    ),
)
