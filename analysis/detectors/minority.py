"""c, s and u of the paper, under the run's own metric and under every preset."""

import pyarrow as pa

from analysis.detectors.detector import Computed, Detector, Evidence, Score, scored_table
from analysis.pair_stats import SCORES, Digest
from toolkit.minority import PRESETS

_MEANING = {
    "confidence": "mean c (Eq. 11), 0 to 1, high = suspicious",
    "stability": "mean s (Eq. 12), high = unstable, null: below two models",
    "minority": "mean u = s * c (Eq. 13), high = suspicious",
}
_FORMULA = {
    "confidence": "c = 1 - mean over models of sigmoid(rho ell)",
    "stability": "s = spread of ell over the models",
    "minority": "u = s c",
}
_ASSUMPTION = {
    "confidence": "most labels that a model learns from agree with the majority, and it has "
    "learned from them: ell is above 0 for typical pairs",
    "stability": "the footprints are far enough apart to disagree about pairs that were hard to "
    "learn; says little about a pair that all models reject alike",
    "minority": "as for c and s together; near 0 where either is",
}


def minority(digest: Digest, metric: str, window: str) -> pa.Table:
    """Each pair's mean c, s and u in a window, under one of the digest's metrics.

    Columns: pair_id, visits, confidence, stability, minority. They are averaged separately, so
    `minority` is not the product of the other two.
    """
    tallies = zip(SCORES, digest.scores(metric), strict=True)
    return scored_table(
        digest, window, {name: (tally.mean(window), _MEANING[name]) for name, tally in tallies}
    )


def _detector(finding: str) -> Detector:
    def compute(evidence: Evidence, window: str) -> Computed:
        if finding not in evidence.digest.metrics:  # the preset that the run was trained with
            return evidence.tables[window]["minority"]
        return minority(evidence.digest, finding, window)

    scores = tuple(
        Score(
            name=finding if column == "minority" else f"{finding}.{column}",
            column=column,
            direction="high",
            formula=_FORMULA[column],
            assumption=_ASSUMPTION[column],
            source="arXiv 2503.16921, Eq. 11 to 13; presets in toolkit/minority.py",
        )
        for column in SCORES
    )
    return Detector(finding, compute, ("trajectory", "labels"), scores, windows=True)


DETECTORS = tuple(_detector(name) for name in ("minority", *(f"minority_{p}" for p in PRESETS)))
