"""Can this run be trusted, and what does it say of the dataset as a whole?

The profile reads the dataset as ViPO does: "ViPO: Visual Preference Optimization at Scale" (arXiv
2604.24953), whose Poly-DPO takes a positive alpha on conflicting data, about 0 on clean data and a
negative one on over-simple pairs. It gives no thresholds; those below are this project's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors import scores
from analysis.detectors.mixture import NoiseRate
from analysis.pair_stats import STEP_BINS, Digest
from analysis.ranking_metrics import Groups, Interval, mean_interval
from analysis.trajectory import Floats, numbers

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Fact:
    """One figure in words."""

    name: str
    value: str
    interval: str
    """Its 95 % interval in words, or nothing."""
    meaning: str


def health(
    digest: Digest,
    tables: Mapping[str, pa.Table],
    flipped: npt.NDArray[np.bool_] | None,
    prompts: Sequence[str],
    window: str,
    noise: NoiseRate | None,
) -> list[Fact]:
    """Coverage, agreement with the labels, the means of c, s and u, and the noise rate.

    `flipped` and `prompts` are aligned with the pairs the run visited.
    """
    visited = digest.visited
    count, whole = digest.counted(window)[visited], digest.counted("all")[visited]
    facts = [
        Fact(
            "Pairs visited",
            f"{len(visited):,}",
            f"of {len(digest.pair_ids):,} in the store",
            "Only these have scores by this run.",
        ),
        Fact(
            "Visits a pair",
            f"{count.mean():.1f}",
            f"{whole.mean():.1f} over the whole run",
            "In the window; the more visits, the less noise in every score.",
        ),
    ]
    agrees = _agreement(digest, window)
    if flipped is None:
        facts.append(_share("Agrees with the labels", agrees, prompts))
    else:
        for name, which in (("kept", ~flipped), ("flipped", flipped)):
            values = np.where(which, agrees, np.nan)
            facts.append(_share(f"Agrees with {name} labels", values, prompts))
    words = {
        "confidence": ("Mean confidence c", ".5: the model has no opinion; high = suspicious."),
        "stability": ("Mean stability s", "Spread of ell over the models; high = unstable."),
        "minority": ("Mean minority score u", "s times c; high = likely a minority label."),
    }
    for column, (name, meaning) in words.items():
        mean = mean_interval(numbers(tables["minority"][column]), prompts)
        if mean.value is not None:
            facts.append(Fact(name, f"{mean.value:.3g}", _words(mean, ".3g"), meaning))
    if noise is not None and noise.rate.value is not None:
        meaning = (
            "Share of labels that look reversed, by a mixture of two Gaussians (planted ones "
            "included); wide where the model has learned little."
        )
        value = f"{noise.rate.value:.1%}"
        facts.append(Fact("Estimated noise rate", value, _words(noise.rate, ".1%"), meaning))
    return facts


def notes_on(
    digest: Digest, tables: Mapping[str, pa.Table], about: Mapping[str, Any], labels: str,
    window: str,
) -> list[str]:  # fmt: skip
    """Sentences on what is missing or odd; empty where nothing is."""
    words = {
        "unknown_pair": "belong to pairs this store does not know",
        "wrong_models": "have another number of errors than run.json names models",
        "no_caption": "are of visits whose caption was dropped, which say nothing about the label",
        "not_finite": "have an error that is not finite",
        "repeated": "repeat a visit (the run was resumed) and counted once",
    }
    notes = [
        f"{count:,} trajectory rows {words[reason]}; they were left out."
        for reason, count in digest.excluded.items()
        if count
    ]
    trained = about.get("labels", labels)
    if trained != labels:
        notes.append(
            f"The run was trained under label set {trained}; here it is compared with {labels}."
        )
    if not about.get("finished", True):
        notes.append("The run is not marked as finished; these are the figures so far.")
    if len(digest.models) == 1:
        notes.append(
            "The run recorded one model, so s and u do not exist under the presets that compare "
            "models (paper, released, running); c does, and history compares a pair's visits."
        )
    if digest.beta is None:
        notes.append(
            "run.json names no objective.beta, so the probability of a label is taken on the "
            "running scale (cartography, area under the margin, loss mixture)."
        )
    notes += _visit_notes(digest, window)
    notes += _constant_notes(tables)
    return notes + _logged_notes(digest)


def _visit_notes(digest: Digest, window: str) -> list[str]:
    visited = digest.visited
    notes = []
    undecided = int(np.isnan(digest.sign[visited]).sum())
    if undecided:
        notes.append(
            f"{undecided:,} pairs have no label of 0 or 1 in this label set and so no score."
        )
    absent = int((digest.counted(window)[visited] == 0).sum())
    if absent:
        notes.append(
            f"{absent:,} pairs were met only outside the window that counts; their scores are null."
        )
    once = int((digest.counted("all")[visited] == 1).sum())
    if once:
        notes.append(
            f"{once:,} pairs were met once; one draw of timestep and noise says little about a "
            "pair, and history has nothing to compare it with."
        )
    return notes


def _constant_notes(tables: Mapping[str, pa.Table]) -> list[str]:
    """A sentence for every score by which a page ranks that is the same for all pairs."""
    notes = []
    for name, (detector, score) in scores().items():
        table = tables.get(detector.finding)
        if table is None or "trajectory" not in detector.needs:
            continue
        values = numbers(table[score.column])
        known = values[~np.isnan(values)]
        if len(known) > 1 and known.min() == known.max():
            notes.append(f"{name} gives every pair the same score, so it ranks nothing.")
    return notes


def _logged_notes(digest: Digest) -> list[str]:
    if digest.differs <= _TOLERANCE:
        return []
    return [
        "Scores recomputed from the errors differ from those the run logged by up to "
        f"{digest.differs:.2g}: it was trained with another metric than its run.json names, or "
        "rows are missing."
    ]


def _agreement(digest: Digest, window: str) -> Floats:
    """(P,) of the pairs met: 1 where the policy's mean z is above 0, else 0; NaN without one."""
    mean = digest.tallies["z"].mean(window)[digest.visited]
    return np.where(np.isnan(mean), np.nan, mean > 0)


def _share(name: str, values: Floats, prompts: Sequence[str]) -> Fact:
    mean = mean_interval(values, prompts)
    value = "not known" if mean.value is None else f"{mean.value:.1%}"
    meaning = "Share of pairs on which the trained model agrees with the label (mean ell above 0)."
    return Fact(name, value, _words(mean, ".1%"), meaning)


def _words(figure: Interval, form: str) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:{form}} to {figure.high:{form}}"


Kind = Literal["conflicting", "balanced", "over-simple", "not trained enough"]

ALPHA: dict[Kind, float | None] = {
    "conflicting": 8.0,
    "balanced": 0.0,
    "over-simple": -1.0,
    "not trained enough": None,
}
"""8 and -1 are the values ViPO reports on such data; a value of your own is worth a try."""

CONFLICTING = 0.25
"""Share of pairs that end against their label, or of votes that contradict it, from which on."""
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
    """Share of repeated comparisons or extra votes that contradict the label; None: unknown."""

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
