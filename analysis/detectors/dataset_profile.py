"""The dataset as ViPO reads it: conflicting, balanced or over-simple, and the alpha this suggests.

Source: "ViPO: Visual Preference Optimization at Scale" (arXiv 2604.24953), whose Poly-DPO takes a
positive alpha on conflicting data, about 0 on clean data and a negative one on over-simple pairs.
It gives no thresholds; those below are this project's.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from analysis.pair_stats import STEP_BINS, Digest
from analysis.ranking_metrics import Groups, Interval, mean_interval
from analysis.trajectory import Floats

Kind = Literal["conflicting", "balanced", "over-simple", "not trained enough"]

ALPHA: dict[Kind, float | None] = {
    "conflicting": 8.0,
    "balanced": 0.0,
    "over-simple": -1.0,
    "not trained enough": None,
}
"""8 and -1 are the values ViPO reports on such data; a value of your own is worth a try."""

CONFLICTING = 0.25
"""Share of pairs that end against their label, or of voices that contradict it, from which on."""
SIMPLE_SURE = 0.5
"""Share of late visits with p > .9 from which on, where also few pairs conflict."""
SIMPLE_BY = 0.25
"""Share of the run by which half of the final rise of p is there."""
LEARNED = 0.02
"""Mean p must end this far above .5 before anything is said."""


@dataclass(frozen=True)
class Profile:
    """How a dataset trains."""

    kind: Kind
    alpha: float | None
    """For poly_dpo; None where the run says too little."""
    against: Interval
    """Share of pairs whose mean p over the last part of the run is below .5."""
    sure: float
    """Share of visits in the last tenth with p > .9: how far ell saturates."""
    half_by: float | None
    """Share of the run after which half of the final rise of mean p is there: how early."""
    final: float
    """Mean p over the last tenth."""
    contradicted: float | None
    """Share of repeated comparisons or other voices that contradict the label; None: unknown."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def profile(digest: Digest, prompts: Groups, contradicted: Floats | None = None) -> Profile:
    """Read a run's digest; `prompts` and `contradicted` (shares, NaN: unknown) go with its pairs.

    The reading is of the dataset under this run: another learning rate moves it.
    """
    count, total, sure, _ = digest.progress
    last = slice(STEP_BINS - 2, STEP_BINS)
    visits = max(count[last].sum(), 1)
    final = float(total[last].sum() / visits) if count[last].sum() else 0.5
    p = digest.tallies["p"].mean("last")[digest.visited]
    against = mean_interval(np.where(np.isnan(p), np.nan, p < 0.5), prompts)
    known = np.zeros(0) if contradicted is None else contradicted[~np.isnan(contradicted)]
    share = float(known.mean()) if len(known) else None
    half = _half_by(count, total, final)
    certain = float(sure[last].sum() / visits)
    kind = _kind(final, against.value, share, certain, half)
    return Profile(kind, ALPHA[kind], against, certain, half, final, share)


def _half_by(count: Floats, total: Floats, final: float) -> float | None:
    if final <= 0.5:
        return None
    with np.errstate(invalid="ignore"):
        mean = total / count
    there = np.flatnonzero(mean - 0.5 >= (final - 0.5) / 2)
    return float((there[0] + 1) / STEP_BINS) if len(there) else None


def _kind(
    final: float, against: float | None, contradicted: float | None, sure: float, half: float | None
) -> Kind:
    if final < 0.5 + LEARNED or against is None:
        return "not trained enough"
    if max(against, contradicted or 0.0) >= CONFLICTING:
        return "conflicting"
    if sure >= SIMPLE_SURE and half is not None and half <= SIMPLE_BY:
        return "over-simple"
    return "balanced"
