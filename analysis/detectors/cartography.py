"""Dataset cartography of preference pairs: the label's probability from visit to visit.

Source: Swayamdipta et al. 2020, "Dataset Cartography" (EMNLP), Eq. 1 and 2; forgetting: Toneva et
al. 2019. Their confidence is the mean probability of the label, so it means the opposite of ours
and is named `cartography_confidence`.
"""

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Detector, Score, scored_table
from analysis.pair_stats import Digest, Memory
from analysis.trajectory import Floats, Ints
from toolkit.schema import SPAN, WHOLE_RUN, column

FORGETTING = column(
    "forgetting",
    pa.float64(),
    "times the policy turned from agreeing to disagreeing with the label between visits, over the "
    "whole run; the number of visits for a pair it never agreed with; null below two visits",
)


def cartography(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, cartography_confidence, variability, correctness, aleatoric in a
    window; and forgetting, over the whole run.

    p = sigmoid(beta ell) is the probability the policy gives the label at a visit.
    """
    p, square = (digest.tallies[name].mean(window) for name in ("p", "square"))
    table = scored_table(
        digest,
        window,
        {
            "cartography_confidence": (p, "mean p, 0 to 1, LOW = suspicious"),
            "variability": (spread(p, square), "standard deviation of p over visits, 0 to .5"),
            "correctness": (
                digest.tallies["correct"].mean(window),
                "share of visits with p > .5, LOW = suspicious",
            ),
            "aleatoric": (
                p - square,
                "mean of p (1 - p), 0 to .25, high = ambiguous to the model (Data-IQ)",
            ),
        },
    )
    field = FORGETTING.with_metadata({**FORGETTING.metadata, SPAN: WHOLE_RUN})
    visited = digest.visited
    events = forgetting_events(digest.memory, digest.counted("all"), digest.sign)[visited]
    return table.append_column(field, pa.array(events, from_pandas=True))


def spread(mean: Floats, square: Floats) -> Floats:
    """Standard deviation from a mean and a mean square."""
    return np.sqrt(np.maximum(square - mean**2, 0))


def forgetting_events(memory: Memory, visits: Ints, sign: Floats) -> Floats:
    """(P,) forgetting events over `visits`; NaN below two of them or without a `sign`."""
    events = np.where(memory.learned, memory.forgotten, visits).astype(np.float64)
    return np.where((visits < 2) | np.isnan(sign), np.nan, events)


def area_under_margin(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, area_under_margin, in a window.

    Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking",
    Eq. 2: with two classes the margin is the label's logit less the other's, z.
    """
    meaning = "mean over visits of z = beta ell, the label's logit margin; LOW = suspicious"
    margin = digest.tallies["z"].mean(window)
    return scored_table(digest, window, {"area_under_margin": (margin, meaning)})


_PAPER = "Swayamdipta et al. 2020, arXiv 2009.10795, Eq. 1 and 2"
_ASSUMPTION = (
    "beta ell is a logit of fair size: where |beta ell| is tiny p stays at .5, where it is huge p "
    "is 0 or 1 by the noise of one draw"
)

DETECTORS = (
    Detector(
        finding="cartography",
        compute=lambda evidence, window: cartography(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            Score(
                "cartography_confidence", "cartography_confidence", "low",
                "mean over visits of p", _ASSUMPTION, _PAPER,
            ),
            Score(
                "variability", "variability", "high", "standard deviation over visits of p",
                _ASSUMPTION + "; high means ambiguous, so it ranks wrong labels only where the "
                "model is torn about them", _PAPER,
            ),
            Score(
                "correctness", "correctness", "low", "share of visits with p > .5",
                "visits are many: with n of them the score has n + 1 values", _PAPER,
            ),
            Score(
                "aleatoric", "aleatoric", "high", "mean over visits of p (1 - p)",
                _ASSUMPTION + "; high means that the model finds the pair ambiguous, not that its "
                "label is wrong: a wrong label that is steadily rejected scores low",
                "Seedat et al. 2022, Data-IQ, arXiv 2210.13043, Eq. 2",
            ),
            Score(
                "forgetting", "forgetting", "high",
                "transitions from p > .5 to p < .5 between successive visits",
                "a pair is met often, and single draws are not so noisy that every pair is "
                "forgotten", "Toneva et al. 2019, arXiv 1812.05159", whole_run=True,
            ),
        ),
        windows=True,
    ),
    Detector(
        finding="area_under_margin",
        compute=lambda evidence, window: area_under_margin(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            Score(
                "area_under_margin", "area_under_margin", "low",
                "mean over visits of z = beta ell",
                "visits at all timesteps weigh by the size ell has there",
                "Pleiss et al. 2020, arXiv 2001.10528, Eq. 2",
            ),
        ),
        windows=True,
    ),
)  # fmt: skip
