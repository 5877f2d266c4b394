"""The report's sentences about the dataset as a whole: profile, noise, voices, kinds, pictures."""

import numpy as np

from analysis.arrays import numbers
from analysis.compute import contradictions
from analysis.outcome import Analysis

_KINDS = {
    "conflicting": "conflicting: many labels go against what the others teach",
    "balanced": "balanced: neither full of contradictions nor learned at a glance",
    "over-simple": "over-simple: the labels are learned early and almost without doubt",
    "not trained enough": "not to be told yet: the model has hardly learned to side with the "
    "labels, so this run says nothing about the dataset",
}


def dataset_words(analysis: Analysis) -> list[str]:
    """Paragraphs: the profile, the noise rate, and labels that contradict each other."""
    found = analysis.profile
    against = found.against
    span = "" if against.low is None else f" ({against.low:.0%} to {against.high:.0%})"
    share = "an unknown share" if against.value is None else f"{against.value:.0%}{span}"
    early = (
        "p never rose"
        if found.half_by is None
        else f"half of the rise was there after {found.half_by:.0%} of the run"
    )
    words = [
        f"This run reads the dataset as {_KINDS[found.kind]}. At the end the model gives the "
        f"label a probability of {found.final:.2f} on average, is sure of it (above .9) at "
        f"{found.sure:.0%} of the visits, and sides against it on {share} of the pairs; {early}."
        + _alpha_words(found.alpha)
    ]
    if analysis.noise is not None and analysis.noise.rate.value is not None:
        rate = analysis.noise.rate
        span = "" if rate.low is None else f", 95% interval {rate.low:.0%} to {rate.high:.0%}"
        words.append(
            f"Read as a mixture of right and reversed labels, the margins put the share of "
            f"reversed ones at {rate.value:.0%}{span}. The margin of a right label is "
            f"{analysis.noise.margin:.2f} times its usual size, its spread "
            f"{analysis.noise.spread:.2f}: the smaller the first beside the second, the less the "
            "estimate means."
        )
    elif analysis.noise is not None:
        words.append(
            "How many labels are reversed cannot be told: the margin of a typical label is "
            f"{analysis.noise.margin:.2f} times its usual size and its spread "
            f"{analysis.noise.spread:.2f}, so right and reversed labels form one heap."
        )
    return words + _consistency_words(analysis) + _voice_words(analysis)


def _alpha_words(alpha: float | None) -> str:
    if alpha is None:
        return ""
    return (
        f" For the objective poly_dpo that suggests alpha = {alpha:g}, the value ViPO (arXiv "
        "2604.24953) reports for such data; the thresholds are this project's."
    )


def _consistency_words(analysis: Analysis) -> list[str]:
    repeated, against = contradictions(analysis.tables)
    cyclic = numbers(analysis.tables["consistency"]["cyclic"])
    words = []
    if repeated:
        words.append(
            f"{repeated:,} pairs show two images that were judged more than once under the same "
            f"prompt; {against:,} of these are contradicted by another label."
        )
    if (~np.isnan(cyclic)).any():
        words.append(
            f"{int((cyclic > 0).sum()):,} of {int((~np.isnan(cyclic)).sum()):,} pairs that share "
            "a third image lie on a circle (A beats B, B beats C, C beats A)."
        )
    if (table := analysis.tables.get("agreement")) is not None:
        pattern = table["pattern"].to_pylist()
        heard = sum(word is not None for word in pattern)
        if heard:
            shares = {w: pattern.count(w) / heard for w in ("all with", "mixed", "all against")}
            words.append(
                f"Of {heard:,} pairs with further voices, {shares['all with']:.1%} have all of "
                f"them with the label, {shares['all against']:.1%} all against it, and "
                f"{shares['mixed']:.1%} are mixed."
            )
    return words


def _voice_words(analysis: Analysis) -> list[str]:
    shared = analysis.found.overlap
    if shared is None:
        return []
    return [
        f"{shared.comparisons:,} comparisons have votes of several annotators: Krippendorff's "
        f"alpha is {shared.alpha:.2f} (1: agreement, 0: chance)."
    ]


def kinds_words(analysis: Analysis) -> str:
    """What the reading of slips and tastes says, and how little."""
    table = analysis.tables["kinds"]
    away, unsteady = numbers(table["disagreement"]), numbers(table["instability"])
    strong = away > 0.9
    steady = int((strong & (unsteady < 0.5)).sum())
    loose = int((strong & (unsteady >= 0.5)).sum())
    return (
        f"Of the tenth of pairs the model rejects most, {steady:,} are rejected steadily (more "
        f"like a slip) and {loose:,} are fought over (more like a matter of taste). This is a "
        "reading, not a measurement: on simulated annotators, where both kinds are known, it "
        "ranked slips above tastes little better than chance, and a taste that few share looks "
        "like a slip."
    )


def picture_words(analysis: Analysis) -> str:
    """Defects of pictures that were found; empty where none was looked for."""
    table = analysis.tables.get("pictures")
    if table is None:
        return ""
    flat = sum((value or 0) > 0 for value in table["flat"].to_pylist())
    same = sum(bool(value) for value in table["identical"].to_pylist())
    elsewhere = sum((value or 0) > 0 for value in table["elsewhere"].to_pylist())
    unread = table["flat"].null_count
    return (
        f"Pictures: {flat:,} pairs hold a flat one, {same:,} the same picture twice, and "
        f"{elsewhere:,} a picture that also stands under another prompt"
        + (f"; {unread:,} pairs have one that could not be read." if unread else ".")
    )
