"""How well a detector finds planted flips: rank figures, each with an interval.

A detector is one score per pair, high = suspicious, NaN = no score. Every figure follows from how
many flips and how many other pairs have each score. Intervals are from a bootstrap over prompts,
since pairs of one prompt go together; the counts of all resamples are one matrix product.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from analysis.trajectory import as_table
from toolkit.errors import InputError
from toolkit.intervals import wilson
from toolkit.schema import column

Floats = npt.NDArray[np.floating]
Groups = npt.NDArray | Sequence[str]

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


def coded(groups: Groups) -> tuple[npt.NDArray[np.integer], int]:
    """Each pair's group as a number, (P,), and how many groups there are."""
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    return which, len(names)


def resample(groups: int, resamples: int, seed: int, width: int = 1) -> Iterator[Floats]:
    """How often each group was drawn, in blocks of (R, groups) that leave room for (R, width).

    The same arguments give the same draws. Nothing for fewer than two groups, where there is no
    interval.
    """
    if groups < 2:
        return
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // max(groups, width))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * groups)
        yield counts.reshape(rows, groups).astype(np.float64)


def interval(value: float, drawn: Floats) -> Interval:
    """The figure and the 2.5 and 97.5 percentiles of its resamples, NaN left out."""
    if not np.isfinite(value):
        return Interval(None, None, None)
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(float(value), None, None)
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def mean_interval(
    values: Floats, groups: Groups, *, resamples: int = 500, seed: int = 0
) -> Interval:
    """The mean of (P,) values, NaN left out, with its interval."""
    values = np.asarray(values, np.float64)
    has = ~np.isnan(values)
    if not has.any():
        return Interval(None, None, None)
    which, count = coded(np.asarray(groups)[has])
    total = np.bincount(which, values[has], minlength=count)
    pairs = np.bincount(which, minlength=count)
    drawn = [(draws @ total) / (draws @ pairs) for draws in resample(count, resamples, seed)]
    return interval(float(values[has].mean()), np.concatenate([np.zeros(0), *drawn]))


Flags = npt.NDArray[np.bool_]

FIGURES = ("auroc", "auprc", "precision_at_planted", "recall_at_fpr05")
FALSE_POSITIVES = 0.05
_LEVELS = 4096
"""Distinct scores that intervals tell apart; the figures themselves tell all apart."""

RATIO = pa.schema(
    [
        column("low", pa.float64(), "lowest score of the bin"),
        column("high", pa.float64(), "highest score of the bin; the next bin begins above it"),
        column("count", pa.int64(), "pairs in the bin"),
        column("flipped", pa.int64(), "planted flips among them"),
        column("share", pa.float64(), "flipped / count; null in an empty bin"),
        column("share_low", pa.float64(), "95 % interval, lower end: bootstrap, or Wilson's"),
        column("share_high", pa.float64(), "95 % interval, upper end"),
    ]
)


@dataclass(frozen=True)
class Detection:
    """What one detector reaches on the pairs it scores."""

    name: str
    pairs: int
    """Pairs with a score."""
    missing: int
    """Pairs without one; they are in none of the figures."""
    flipped: int
    base_rate: float | None
    """Share of flips among the scored pairs: the AUPRC and the precision of guessing."""
    auroc: Interval
    """Chance that a flipped pair ranks above one that was not; ties count half."""
    auprc: Interval
    """Average precision over all recalls."""
    precision_at_planted: Interval
    """Share of flips among as many top pairs as there are flips."""
    recall_at_fpr05: Interval
    """Share of the flips found where 5 % of the other pairs are flagged."""
    deciles: list[dict[str, Any]]
    """`flipped_ratio_table` in ten quantile bins, intervals by bootstrap."""
    gain: Interval | None = None
    """AUROC less the baseline's, on the pairs that both score, from the same resamples; None of the
    baseline itself and without one."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(
    name: str,
    scores: Floats,
    flipped: Flags,
    groups: Groups,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Detection:
    """Figures of one detector: (P,) scores against (P,) planted flips; `groups`: the prompts.

    Detectors that score the same pairs meet the same resamples. A figure is None where flips or
    other pairs are absent. InputError for scores that are infinite or misshapen.
    """
    return _measured(name, scores, flipped, groups, resamples, seed)[0]


def _measured(
    name: str, scores: Floats, flipped: Flags, groups: Groups, resamples: int, seed: int
) -> tuple[Detection, Floats]:
    """The detection, and the AUROC of every resample."""
    scores = np.asarray(scores, np.float64)
    if scores.shape != flipped.shape or np.isinf(scores).any():
        raise InputError(
            f"Detector {name!r} gave scores of shape {scores.shape}, {int(np.isinf(scores).sum())} "
            f"of them infinite; it must give {len(flipped)}, high = suspicious, NaN for none."
        )
    has = ~np.isnan(scores)
    kept, hit, prompts = scores[has], np.asarray(flipped)[has], np.asarray(groups)[has]
    point = _point(kept, hit)
    drawn = _drawn(kept, hit, prompts, resamples, seed)
    draws = {
        key: np.concatenate([np.zeros(0), *(block[key] for block in drawn)]) for key in FIGURES
    }
    figures = {key: interval(float(point[key][0]), draws[key]) for key in FIGURES}
    detection = Detection(
        name=name,
        pairs=len(kept),
        missing=int((~has).sum()),
        flipped=int(hit.sum()),
        base_rate=float(hit.mean()) if len(hit) else None,
        deciles=flipped_ratio_table(
            kept, hit, groups=prompts, resamples=resamples, seed=seed
        ).to_pylist(),
        **figures,
    )
    return detection, draws["auroc"]


def measure_all(
    detectors: Mapping[str, Floats],
    flipped: Flags,
    groups: Groups,
    *,
    resamples: int = 500,
    seed: int = 0,
    baseline: str = "",
) -> list[Detection]:
    """`measure` of each detector, in their order, with the gain over the one that is `baseline`."""
    which, _ = coded(groups)
    known = {name: ~np.isnan(scores) for name, scores in detectors.items()}
    made = {
        name: _measured(name, scores, flipped, which, resamples, seed)
        for name, scores in detectors.items()
    }

    def gain(name: str) -> Interval | None:
        if name == baseline or baseline not in detectors:
            return None
        pair = [made[name], made[baseline]]
        both = known[name] & known[baseline]
        if (both != known[name]).any() or (both != known[baseline]).any():
            pair = [
                _measured(n, detectors[n][both], flipped[both], which[both], resamples, seed)
                for n in (name, baseline)
            ]
        values = [detection.auroc.value for detection, _ in pair]
        if None in values:
            return None
        return interval(float(values[0] or 0) - float(values[1] or 0), pair[0][1] - pair[1][1])

    return [replace(detection, gain=gain(name)) for name, (detection, _) in made.items()]


def _point(scores: Floats, hit: Flags) -> dict[str, Floats]:
    """The FIGURES as they are, (1,) each."""
    levels, place = np.unique(-scores, return_inverse=True)
    counts = [np.bincount(place[m], minlength=len(levels))[None] for m in (hit, ~hit)]
    return _figures(counts[0].astype(float), counts[1].astype(float))


def _drawn(
    scores: Floats, hit: Flags, groups: npt.NDArray, resamples: int, seed: int
) -> list[dict[str, Floats]]:
    """The FIGURES of resamples, (R,) each, block by block."""
    which, count = coded(groups)
    levels, place, size = np.unique(-scores, return_inverse=True, return_counts=True)
    width = len(levels)
    if width > _LEVELS:  # equal counts; as if scores tied within 1/_LEVELS of the pairs
        place = ((np.cumsum(size) - 1) * _LEVELS // len(scores))[place]
        width = _LEVELS
    tables = [
        sparse.csr_array((np.ones(m.sum()), (which[m], place[m])), shape=(count, width))
        for m in (hit, ~hit)
    ]
    return [
        _figures(draws @ tables[0], draws @ tables[1])
        for draws in resample(count, resamples, seed, width)
    ]


def _figures(flips: Floats, others: Floats) -> dict[str, Floats]:
    """The FIGURES of flips and other pairs at each score, highest first, (R, K) -> (R,) each."""
    start = np.zeros((len(flips), 1))
    tp = np.hstack([start, np.cumsum(flips, axis=1)])  # equal scores are flagged together
    fp = np.hstack([start, np.cumsum(others, axis=1)])
    positives, negatives = tp[:, -1], fp[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (others * (tp[:, 1:] + tp[:, :-1]) / 2).sum(axis=1)
        precision = tp[:, 1:] / (tp + fp)[:, 1:]
        figures = {
            "auroc": area / (positives * negatives),
            "auprc": np.nansum(flips * precision, axis=1) / positives,
            "precision_at_planted": _reached(tp + fp, tp, positives) / positives,
            "recall_at_fpr05": _reached(fp, tp, FALSE_POSITIVES * negatives) / positives,
        }
    defined = (positives > 0) & (negatives > 0)
    return {key: np.where(defined, values, np.nan) for key, values in figures.items()}


def _reached(x: Floats, y: Floats, target: Floats) -> Floats:
    """y where the never falling x passes target, (R, K), (R, K), (R,) -> (R,).

    Within equal scores the order is chance, so y grows with x in a straight line there.
    """
    last = (x <= target[:, None]).sum(axis=1) - 1
    after = np.minimum(last + 1, x.shape[1] - 1)
    row = np.arange(len(x))
    width = x[row, after] - x[row, last]
    share = np.where(width > 0, (target - x[row, last]) / np.where(width > 0, width, 1), 0)
    reached: Floats = y[row, last] + share * (y[row, after] - y[row, last])
    return reached


def flipped_ratio_table(
    scores: Floats,
    flipped: Flags,
    bins: int = 10,
    kind: Literal["quantile", "width"] = "quantile",
    *,
    groups: Groups | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> pa.Table:
    """Share of flipped pairs by score, lowest bin first; schema RATIO.

    `quantile`: bins of equal count (fewer, where scores tie across an edge); `width`: of equal
    width, as Figure 3 of arXiv 2503.16921 has them. NaN scores are left out. Intervals are
    Wilson's, as if pairs were independent; with `groups` (the prompts) by bootstrap over these.
    """
    scores = np.asarray(scores, np.float64)
    has = ~np.isnan(scores)
    kept, hit = scores[has], np.asarray(flipped)[has]
    if not len(kept):
        return RATIO.empty_table()
    if kind == "quantile":
        edges = np.unique(np.quantile(kept, np.linspace(0, 1, bins + 1)))
    else:
        edges = np.unique(np.linspace(kept.min(), kept.max(), bins + 1))
    which = np.searchsorted(edges[1:-1], kept, side="left")
    size = max(1, len(edges) - 1)
    count = np.bincount(which, minlength=size)
    flips = np.bincount(which[hit], minlength=size)
    low, high = wilson(flips, count)
    if groups is not None:
        drawn = _shares(which, hit, np.asarray(groups)[has], size, resamples, seed)
        if len(drawn):
            low, high = _percentiles(drawn, count > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = flips / count
    return as_table(RATIO, [edges[:size], edges[-size:], count, flips, share, low, high])


def _shares(
    which: npt.NDArray, hit: Flags, groups: npt.NDArray, size: int, resamples: int, seed: int
) -> Floats:
    """(R, size) share flipped in each bin of every resample; empty without two prompts."""
    prompt, count = coded(groups)
    tables = [
        np.bincount(prompt[m] * size + which[m], minlength=count * size).reshape(count, size)
        for m in (hit, np.ones(len(hit), bool))
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [
            (draws @ tables[0]) / (draws @ tables[1])
            for draws in resample(count, resamples, seed, size)
        ]
    return np.concatenate([np.zeros((0, size)), *drawn])


def _percentiles(drawn: Floats, known: Flags) -> tuple[Floats, Floats]:
    ends = np.full((2, drawn.shape[1]), np.nan)
    ends[:, known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return ends[0], ends[1]


def alpha(answers: Mapping[str, Mapping[str, str]]) -> tuple[float, int] | None:
    """(alpha, pairs behind it) of answers by person and pair: 1 agreement, 0 chance.

    `answers`: person -> pair_id -> choice. Pairs that one person alone answered say nothing about
    agreement and are left out. None where no pair has two answers, or all answers are the same:
    chance would then agree as well (Krippendorff 2004, nominal data).
    """
    import pandas as pd
    from crowdkit.metrics.data import alpha_krippendorff

    rows = [
        {"task": pair_id, "worker": person, "label": choice}
        for person, given in answers.items()
        for pair_id, choice in given.items()
    ]
    if not rows:
        return None
    frame = pd.DataFrame.from_records(rows)
    people = frame.groupby("task")["worker"].transform("nunique")
    frame = frame[people > 1]
    if frame.empty or frame["label"].nunique() < 2:
        return None
    return float(alpha_krippendorff(frame)), int(frame["task"].nunique())
