"""The detectors on plain arrays: no store, no run, no training of ours.

Arrays in, array out, by the code that analyses a run of a store. Rows are visits: `ell`, `prob` or
`logit` is (N,), and `pair` names the pair of each row. A score per pair is (P,), aligned with
`np.unique(pair)`; a score per label is aligned with its input. NaN is no value, in and out.

    >>> import numpy as np
    >>> pair = np.array(["a", "b", "c", "a", "b", "c"])
    >>> ell = np.array([0.2, 0.1, -0.4, 0.4, 0.2, -0.2])
    >>> scores = trajectory_ell(ell, pair)
    >>> str(np.unique(pair)[np.argmax(scores)])
    'c'
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors.cartography import forgetting_events, spread
from analysis.detectors.data_defects import defects, look, looks_table
from analysis.detectors.label_arrays import (
    agreement,
    annotator_mean,
    contradicted,
    cyclic,
    dawid_skene,
    glad,
    noisy_bradley_terry,
    ranking_residual,
)
from analysis.detectors.mixture import NoiseRate, high_loss, reversed_labels
from analysis.detectors.noise_type import noise_axes
from analysis.detectors.trajectory_ell import filtered, phases
from analysis.pair_stats import GAP_BINS, BinSums, Memory, Tallies, add_gaps
from analysis.trajectory import Floats, Ints, Trajectory
from toolkit.errors import InputError
from toolkit.image_files import decode
from toolkit.minority import PRESETS, Scores, batch_scale, score

__all__ = [
    "agreement",
    "aleatoric",
    "annotator_mean",
    "area_under_margin",
    "cartography_confidence",
    "confidence",
    "contradicted",
    "correctness",
    "cyclic",
    "dawid_skene",
    "flip_posterior",
    "forgetting",
    "glad",
    "image_defects",
    "loss_mixture",
    "matched_filter",
    "minority",
    "noise_rate",
    "noise_type",
    "noisy_bradley_terry",
    "out_of_fold_ell",
    "ranking_residual",
    "stability",
    "trajectory_ell",
    "variability",
]

Values = npt.ArrayLike


def minority(ell: Values, *, preset: Literal["released", "paper"] = "released") -> Floats:
    """The minority score u = s c of a batch, high = suspicious.

    `ell`: (M, B) of M models (the policy first, then its EMA copies) on B pairs. `preset`:
    `released` scales each model's ell by its L2 norm over the batch, `paper` does not. Returns
    (B,); NaN below two models. Source: arXiv 2503.16921, Eq. 13.

        >>> minority([[0.3, -0.2], [0.1, -0.6]]).argmax()
        np.int64(1)
    """
    return _scores(ell, preset).minority


def confidence(ell: Values, *, preset: Literal["released", "paper"] = "released") -> Floats:
    """c = 1 - mean over models of sigmoid(rho ell), (M, B) -> (B,), 0 to 1, high = suspicious.

    Arguments as of `minority`. Source: arXiv 2503.16921, Eq. 11.

        >>> confidence([[0.3, -0.2], [0.1, -0.6]]).argmax()
        np.int64(1)
    """
    return _scores(ell, preset).confidence


def stability(ell: Values, *, preset: Literal["released", "paper"] = "released") -> Floats:
    """s, the spread of ell over models, (M, B) -> (B,), high = unstable; NaN below two models.

    Arguments as of `minority`. Source: arXiv 2503.16921, Eq. 12.

        >>> stability([[0.3, -0.2], [0.1, -0.6]]).shape
        (2,)
    """
    return _scores(ell, preset).stability


def _scores(ell: Values, preset: str) -> Scores:
    if preset not in ("released", "paper"):
        raise InputError(
            f"The preset {preset!r} needs a run's history; on a single batch choose released or "
            "paper."
        )
    values = np.atleast_2d(np.asarray(ell, np.float64))
    metric = PRESETS[preset]  # type: ignore[index]
    return score(values * batch_scale(values, metric), metric)


def trajectory_ell(
    ell: Values, pair: Values, timestep: Values | None = None, *, timesteps: int = 1000,
    bins: int = 10,
) -> Floats:  # fmt: skip
    """How much less the model agrees with a label than with others, high = suspicious.

    Args:
        ell: (N,) the policy's ell at each visit (above 0: it agrees with the label).
        pair: (N,) the pair of each visit.
        timestep: (N,) of the noise schedule; without it all visits are compared with each other.
        timesteps: Length of the noise schedule.
        bins: Parts of the schedule within which ell is standardised.

    Returns:
        (P,) minus the mean of standardised ell, in standard deviations; NaN for a pair without a
        value. Aligned with np.unique(pair).

    Source: this project, after arXiv 2503.16921, Eq. 10.

        >>> trajectory_ell([0.5, -0.5, 0.3, -0.1], ["a", "b", "a", "b"]).round(2)
        array([-0.79,  0.79])
    """
    rows = _visits(pair, timestep, timesteps)
    sums = BinSums.zeros(len(rows.pair_ids), bins)
    sums.add(rows, np.asarray(ell, np.float32))
    return -sums.standardised("all")[0]


def matched_filter(
    ell: Values, pair: Values, step: Values, timestep: Values, reference: Values | None = None,
    *, timesteps: int = 1000,
) -> Floats:  # fmt: skip
    """How much less a pair's ell is where all labels' ell is steadily above 0, high = suspicious.

    Args:
        ell: (N,) the policy's ell at each visit (above 0: it agrees with the label).
        pair: (N,) the pair of each visit.
        step: (N,) the optimiser step; the run ends at the last one.
        timestep: (N,) of the noise schedule.
        reference: (N,) the reference's error on the rejected image less that on the chosen one.
        timesteps: Length of the noise schedule.

    Returns:
        (P,) - sum F mean(F) / var(F), over sums F of ell by 3 phases of the run (to 30 %, 70 %, the
        end) and 5 parts of the schedule, and of the reference by 5. Aligned with np.unique(pair).

    Source: this project, after the matched filter (North 1943).

        >>> ell = [0.9, 1.1, -0.2, 1.0, 0.8, -0.3]
        >>> matched_filter(ell, list("abcabc"), [0, 0, 0, 9, 9, 9], [100] * 6).argmax()
        np.int64(2)
    """
    rows = _visits(pair, timestep, timesteps, np.asarray(step, np.int64))
    sums = BinSums.zeros(len(rows.pair_ids), GAP_BINS)
    sums.add(rows, np.asarray(ell, np.float32))
    features = phases(sums)
    if reference is not None:
        gaps = np.zeros((len(rows.pair_ids), GAP_BINS), np.float32)
        add_gaps(gaps, rows, np.asarray(reference, np.float32))
        features = np.hstack([features, gaps])
    return filtered(features, np.asarray(sums.counts.any(axis=(0, 2))))


def out_of_fold_ell(
    ell: Values, pair: Values, run: Values, timestep: Values | None = None, *,
    timesteps: int = 1000, bins: int = 10,
) -> Floats:  # fmt: skip
    """trajectory_ell by runs that never trained on the pair, high = suspicious.

    `ell`, `pair`, `timestep` as of `trajectory_ell`, of probes; `run`: (N,) the run that made each
    one, which held the pair out. Within a run and a part of the schedule ell is standardised.
    Returns (P,), the mean over all probes of a pair; aligned with np.unique(pair).

        >>> out_of_fold_ell([0.5, -0.5, 0.3, -0.1], ["a", "b", "a", "b"], [1, 1, 2, 2]).argmax()
        np.int64(1)
    """
    names = np.unique(np.asarray(pair, np.str_))
    values, which, of = _floats(ell), np.asarray(run), np.asarray(pair, np.str_)
    total, count = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for each in np.unique(which):
        mine = which == each
        times = None if timestep is None else np.asarray(timestep)[mine]
        rows = _visits(of[mine], times, timesteps)
        sums = BinSums.zeros(len(rows.pair_ids), bins)
        sums.add(rows, values[mine].astype(np.float32))
        mean, visits = sums.standardised("all")
        here = np.searchsorted(names, rows.pair_ids)
        total[here] += np.where(visits > 0, np.nan_to_num(mean) * visits, 0)
        count[here] += visits
    return np.where(count > 0, -total / np.maximum(count, 1), np.nan)


def cartography_confidence(prob: Values, pair: Values) -> Floats:
    """Mean probability of the label over visits, 0 to 1, LOW = suspicious.

    `prob`: (N,) probability that the model gives the label at each visit: sigmoid(beta ell), or
    that of any classifier. `pair`: (N,) its pair. Returns (P,), aligned with np.unique(pair).
    Source: Swayamdipta et al. 2020, arXiv 2009.10795, Eq. 1.

        >>> cartography_confidence([0.9, 0.2, 0.7, 0.4], ["a", "b", "a", "b"]).round(2)
        array([0.8, 0.3])
    """
    return _mean(prob, pair)


def variability(prob: Values, pair: Values) -> Floats:
    """Standard deviation of the label's probability over visits, 0 to .5, high = ambiguous.

    Arguments as of `cartography_confidence`. Source: arXiv 2009.10795, Eq. 2.

        >>> variability([0.9, 0.2, 0.7, 0.4], ["a", "b", "a", "b"]).round(2)
        array([0.1, 0.1])
    """
    return spread(_mean(prob, pair), _mean(np.square(_floats(prob)), pair))


def correctness(prob: Values, pair: Values) -> Floats:
    """Share of visits with a probability above .5, 0 to 1, LOW = suspicious.

    Arguments as of `cartography_confidence`. Source: arXiv 2009.10795, section 2.

        >>> correctness([0.9, 0.2, 0.7, 0.6], ["a", "b", "a", "b"])
        array([1. , 0.5])
    """
    p = _floats(prob)
    return _mean(np.where(np.isnan(p), np.nan, p > 0.5), pair)


def aleatoric(prob: Values, pair: Values) -> Floats:
    """Mean of p (1 - p) over visits, 0 to .25, high = ambiguous to the model.

    Arguments as of `cartography_confidence`. Source: Seedat et al. 2022, Data-IQ, arXiv
    2210.13043, Eq. 2.

        >>> aleatoric([0.9, 0.5], ["a", "b"]).round(2)
        array([0.09, 0.25])
    """
    p = _floats(prob)
    return _mean(p, pair) - _mean(p * p, pair)


def forgetting(prob: Values, pair: Values) -> Floats:
    """Forgetting events: visits with p < .5 right after one with p > .5, high = suspicious.

    Arguments as of `cartography_confidence`, the visits of a pair in order. A pair that was never
    learned counts one at every visit; NaN below two visits. Source: Toneva et al. 2019, arXiv
    1812.05159.

        >>> forgetting([0.9, 0.2, 0.4, 0.1, 0.8, 0.3], ["a", "b", "a", "b", "a", "b"])
        array([1., 3.])
    """
    rows = _visits(pair)
    p = _floats(prob)
    memory = Memory.zeros(len(rows.pair_ids))
    memory.add(rows, p - 0.5)
    visits = np.bincount(rows.pair[~np.isnan(p)], minlength=len(rows.pair_ids))
    return forgetting_events(memory, visits, np.ones(len(visits)))


def area_under_margin(logit: Values, pair: Values) -> Floats:
    """Mean over visits of the logit by which the label leads, LOW = suspicious.

    `logit`: (N,) the label's logit less the largest other one; for DPO z = beta ell. `pair`: (N,)
    its pair. Returns (P,), aligned with np.unique(pair). Source: Pleiss et al. 2020, arXiv
    2001.10528, Eq. 2.

        >>> area_under_margin([1.0, -2.0, 3.0, 0.0], ["a", "b", "a", "b"])
        array([ 2., -1.])
    """
    return _mean(logit, pair)


def loss_mixture(loss: Values, *, seed: int = 0) -> Floats:
    """Probability of the component with the higher loss, 0 to 1, high = suspicious.

    `loss`: (P,) mean loss of each pair; `seed`: of the fit of two Gaussians. Returns (P,), all NaN
    if fewer than ten losses differ. Source: Arazo et al. 2019, arXiv 1904.11238; Li et al. 2020,
    DivideMix.

        >>> loss_mixture(np.r_[np.linspace(0, 1, 20), 5.0]).argmax()
        np.int64(20)
    """
    return high_loss(_floats(loss), seed=seed)


def flip_posterior(
    margin: Values, *, group: Sequence[Any] | npt.NDArray | None = None,
    annotator: Sequence[str | None] | None = None,
) -> Floats:  # fmt: skip
    """Probability that a label is reversed, 0 to 1, high = suspicious.

    Fits x ~ (1 - e) N(m, v) + e N(-m, v) by EM. `noise_rate` gives e.

    `margin`: (P,) how far the model agrees with each label: mean ell on one scale, or a logit.
    `group`: (P,) the prompts. `annotator`: (P,) with it each annotator has a rate of their own.
    Returns (P,); NaN where the margin is or the annotator is unknown, or below ten pairs. Source:
    this project.

        >>> flip_posterior(np.r_[np.linspace(0.5, 1.5, 30), -1.0]).argmax()
        np.int64(30)
    """
    common, personal, _ = _reversed_labels(margin, group, annotator)
    return common if annotator is None else personal


def noise_rate(
    margin: Values, *, group: Sequence[Any] | npt.NDArray | None = None,
    annotator: Sequence[str | None] | None = None,
) -> NoiseRate | None:  # fmt: skip
    """The share of reversed labels with its 95 % interval; None below ten pairs.

    Arguments as of `flip_posterior`. The interval resamples groups.

        >>> margins = np.r_[np.linspace(0.8, 1.2, 90), np.linspace(-1.2, -0.8, 10)]
        >>> round(noise_rate(margins).rate.value, 2)
        0.1
    """
    return _reversed_labels(margin, group, annotator)[2]


def _reversed_labels(
    margin: Values, group: Any, annotator: Sequence[str | None] | None
) -> tuple[Floats, Floats, NoiseRate | None]:
    x = _floats(margin)
    return reversed_labels(x, np.arange(len(x)) if group is None else group, annotator)


def noise_type(
    ell: Values, prob: Values, pair: Values, timestep: Values | None = None
) -> tuple[Floats, Floats]:
    """Erroneous and subjective, (P,) each, 0 to 1: rejected steadily, or rejected and unsteady.

    `ell`, `pair`, `timestep` as of `trajectory_ell`, `prob` as of `cartography_confidence`. Both
    are aligned with np.unique(pair); NaN below two visits. Source: this project. A reading, not a
    measurement.

        >>> erroneous, subjective = noise_type(
        ...     [-1.0, -1.1, 1.0, 1.2, 0.9, -0.8], [0.1, 0.1, 0.9, 0.9, 0.9, 0.2], list("aabbcc")
        ... )
        >>> erroneous.argmax()
        np.int64(0)
    """
    p = _floats(prob)
    mean, square = _mean(p, pair), _mean(p * p, pair)
    rows = _visits(pair)
    several = np.bincount(rows.pair[~np.isnan(p)], minlength=len(mean)) > 1
    rejected = trajectory_ell(ell, pair, timestep)
    sd = spread(mean, square)
    away, unsteady = noise_axes(rejected, mean, sd, several)
    return away * (1 - unsteady), away * unsteady


def image_defects(
    image_0: Sequence[bytes], image_1: Sequence[bytes], prompt: Sequence[str]
) -> Floats:
    """1 where an image is flat, twice in the pair, or under another prompt too; else 0.

    `image_0`, `image_1`: (P,) image files as bytes; `prompt`: (P,) texts. Returns (P,). A defect of
    an image is no error of the label. Source: perceptual hash by imagehash; this project.
    """
    seen = [[look(decode(data)) for data in side] for side in (image_0, image_1)]
    ids = [[each.content for each in side] for side in seen]
    looks = looks_table({each.content: each for side in seen for each in side})
    names = [f"{place:09d}" for place in range(len(prompt))]
    columns = [names, list(prompt), *ids]
    pairs = pa.table(columns, names=["pair_id", "prompt", "image_0", "image_1"])
    return np.asarray(defects(pairs, looks)[-1].to_pylist(), float)


def _floats(values: Values) -> Floats:
    return np.asarray(values, np.float64)


def _visits(
    pair: Values, timestep: Values | None = None, timesteps: int = 1000, step: Ints | None = None
) -> Trajectory:
    """Rows of a run in the given order; without `step` it has one."""
    names, codes = np.unique(np.asarray(pair), return_inverse=True)
    size = len(codes)
    zero = np.zeros(size, np.int64)
    return Trajectory(
        models=("policy",),
        pair_ids=names.astype(np.str_),
        pair=codes,
        visit=zero,
        step=zero if step is None else step,
        rank=zero,
        micro=zero,
        timestep=zero if timestep is None else np.asarray(timestep, np.int64),
        train=np.ones(size, bool),
        difference=np.zeros((1, size), np.float32),
        sign=np.ones(size, np.float32),
        steps=1 if step is None else int(step.max(initial=0)) + 1,
        train_timesteps=timesteps,
    )


def _mean(values: Values, pair: Values) -> Floats:
    """(P,) mean over the visits of a pair, NaN left out."""
    rows = _visits(pair)
    tallies = Tallies.zeros(len(rows.pair_ids), ["value"])
    if len(rows.pair):
        tallies.add(rows, {"value": _floats(values)})
    return tallies["value"].mean("all")
