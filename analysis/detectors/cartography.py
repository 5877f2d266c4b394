"""Dataset cartography of preference pairs: the label's probability from visit to visit.

Source: Swayamdipta et al. 2020, "Dataset Cartography" (EMNLP), Eq. 1 and 2; forgetting: Toneva et
al. 2019. Their confidence is the mean probability of the label, so it means the opposite of ours
and is named `cartography_confidence`.
"""

import numpy as np
import pyarrow as pa

from analysis.detectors.detector import Detector, by_window, forms
from analysis.pair_stats import Digest
from analysis.trajectory import Floats
from toolkit.schema import column

FORGETTING = column(
    "forgetting",
    pa.float64(),
    "times the policy turned from siding with the label to siding against it between visits; the "
    "number of visits for a pair it never sided with; null below two visits",
)


def cartography(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, cartography_confidence, variability, correctness, aleatoric; the
    four again for every window; and forgetting, over the whole run.

    p = sigmoid(beta ell) is the probability the policy gives the label at a visit.
    """
    p, square, correct = (digest.tallies[name] for name in ("p", "square", "correct"))

    def variability(name: str) -> Floats:
        return np.sqrt(np.maximum(square.mean(name) - p.mean(name) ** 2, 0))

    table = by_window(
        digest,
        window,
        {
            "cartography_confidence": (p.mean, "mean p, 0 to 1, LOW = suspicious"),
            "variability": (variability, "standard deviation of p over visits, 0 to .5"),
            "correctness": (correct.mean, "share of visits with p > .5, LOW = suspicious"),
            "aleatoric": (
                lambda name: p.mean(name) - square.mean(name),
                "mean of p (1 - p), 0 to .25, high = ambiguous to the model (Data-IQ)",
            ),
        },
    )
    return table.append_column(FORGETTING, pa.array(_forgetting(digest), from_pandas=True))


def _forgetting(digest: Digest) -> Floats:
    met, kept = digest.met, digest.memory
    visits = digest.counted("all")[met]
    found = np.where(kept.learned[met], kept.forgotten[met], visits).astype(np.float64)
    return np.where((visits < 2) | np.isnan(digest.sign[met]), np.nan, found)


AREA = "mean over visits of z = beta ell, the logit by which the label leads; LOW = suspicious"


def area_under_margin(digest: Digest, window: str) -> pa.Table:
    """Columns pair_id, visits, area_under_margin, and the same for every window.

    Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking",
    Eq. 2: with two classes the margin is the label's logit less the other's, z.
    """
    scored = {"area_under_margin": (digest.tallies["z"].mean, AREA)}
    return by_window(digest, window, scored)


_PAPER = "Swayamdipta et al. 2020, arXiv 2009.10795, Eq. 1 and 2"
_ASSUMPTION = (
    "beta ell is a logit of fair size: where |beta ell| is tiny p stays at .5, where it is huge p "
    "is 0 or 1 by the noise of one draw"
)


def _declared(
    column: str, direction: str, formula: str, assumption: str, source: str, finding: str
) -> Detector:
    return Detector(
        finding,
        column,
        direction,  # type: ignore[arg-type]
        formula,
        ("trajectory", "labels"),
        assumption,
        source,
    )


DETECTORS = {
    **forms(
        {
            "cartography_confidence": _declared(
                "cartography_confidence", "low", "mean over visits of p", _ASSUMPTION, _PAPER,
                "cartography",
            ),
            "variability": _declared(
                "variability", "high", "standard deviation over visits of p",
                _ASSUMPTION + "; high means ambiguous, so it ranks wrong labels only where they "
                "are fought over", _PAPER, "cartography",
            ),
            "correctness": _declared(
                "correctness", "low", "share of visits with p > .5",
                "visits are many: with n of them the score has n + 1 values", _PAPER,
                "cartography",
            ),
            "aleatoric": _declared(
                "aleatoric", "high", "mean over visits of p (1 - p)",
                _ASSUMPTION + "; high means that the model finds the pair ambiguous, not that its "
                "label is wrong: a wrong label that is steadily rejected scores low",
                "Seedat et al. 2022, Data-IQ, arXiv 2210.13043, Eq. 2", "cartography",
            ),
            "area_under_margin": _declared(
                "area_under_margin", "low", "mean over visits of z = beta ell",
                "visits at all timesteps weigh by the size ell has there",
                "Pleiss et al. 2020, arXiv 2001.10528, Eq. 2", "area_under_margin",
            ),
        }
    ),
    "forgetting": _declared(
        "forgetting", "high", "transitions from p > .5 to p < .5 between successive visits",
        "a pair is met often, and single draws are not so noisy that every pair is forgotten",
        "Toneva et al. 2019, arXiv 1812.05159", "cartography",
    ),
}  # fmt: skip
