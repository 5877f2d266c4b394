"""c, s and u of the paper, under the run's own metric and under every preset."""

import pyarrow as pa

from analysis.detectors.detector import Detector, by_window, forms
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
    "stability": "the footprints lie far enough apart to disagree about pairs that were hard to "
    "learn; says little about a pair that all models reject alike",
    "minority": "as for c and s together; near 0 where either is",
}


def minority(digest: Digest, metric: str, window: str) -> pa.Table:
    """Each pair's mean c, s and u of one of the digest's metrics.

    Columns: pair_id, visits, confidence, stability, minority, and the three again for every
    window. They are averaged apart, so `minority` is not the product of the other two.
    """
    tallies = dict(zip(SCORES, digest.scores(metric), strict=True))
    return by_window(
        digest, window, {name: (tallies[name].mean, _MEANING[name]) for name in SCORES}
    )


def _declared() -> dict[str, Detector]:
    found = {}
    for finding in ("minority", *(f"minority_{preset}" for preset in PRESETS)):
        for name in SCORES:
            key = finding if name == "minority" else f"{finding}.{name}"
            found[key] = Detector(
                finding=finding,
                column=name,
                direction="high",
                formula=_FORMULA[name],
                needs=("trajectory", "labels"),
                assumption=_ASSUMPTION[name],
                source="arXiv 2503.16921, Eq. 11 to 13; presets in toolkit/minority.py",
            )
    return found


DETECTORS = forms(_declared())
