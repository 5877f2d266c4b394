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

from analysis.detectors.agreement import against_label
from analysis.detectors.annotators import overlap, shrunken_mean
from analysis.detectors.cartography import forgetting_events, spread
from analysis.detectors.consistency import conflicts
from analysis.detectors.image_defects import Look, defects, look
from analysis.detectors.mixture import NoiseRate, high_loss, reversed_labels
from analysis.detectors.noise_type import noise_axes
from analysis.pair_stats import BinSums, Memory, Tallies
from analysis.trajectory import Floats, Ints, Trajectory
from toolkit.errors import InputError
from toolkit.image_files import decode
from toolkit.minority import PRESETS, Scores, batch_scale, score

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


def contradicted(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """Share of the other labels on the same two images that are opposite, high = suspicious.

    `winner`, `loser`: (E,) the chosen and the rejected image of each label; `prompt`: (E,) an image
    under another prompt is another image. Returns (E,), aligned with the labels; NaN where no other
    label has the same two images.

        >>> contradicted(["x", "y", "x"], ["y", "x", "z"])
        array([ 1.,  1., nan])
    """
    counts, _ = _conflicts(winner, loser, prompt)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts[1] / counts[0])


def cyclic(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """Share of third images with which a label forms a cycle (A > B > C > A), high = suspicious.

    Arguments and alignment as of `contradicted`; NaN without a third image that was compared with
    both. Source: Kendall and Babington Smith 1940.

        >>> cyclic(["a", "b", "c"], ["b", "c", "a"])
        array([1., 1., 1.])
    """
    counts, _ = _conflicts(winner, loser, prompt)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(counts[3] / counts[2])


def ranking_residual(winner: Values, loser: Values, prompt: Values | None = None) -> Floats:
    """1 - probability of a label under the Bradley-Terry ranking of all, high = suspicious.

    Arguments and alignment as of `contradicted`; 0 to 1, NaN where no other label says anything
    about the two images. Source: Bradley and Terry 1952.

        >>> ranking_residual(["a", "a", "b", "c"], ["b", "c", "c", "a"]).argmax()
        np.int64(3)
    """
    return _conflicts(winner, loser, prompt)[1]


def _conflicts(winner: Values, loser: Values, prompt: Values | None) -> tuple[Ints, Floats]:
    images = np.concatenate([np.asarray(winner, np.str_), np.asarray(loser, np.str_)])
    _, codes = np.unique(images, return_inverse=True)
    if prompt is not None:
        _, which = np.unique(np.tile(np.asarray(prompt, np.str_), 2), return_inverse=True)
        _, codes = np.unique(which * (codes.max(initial=0) + 1) + codes, return_inverse=True)
    first, second = codes.reshape(2, -1)
    return conflicts(first, second, int(codes.max(initial=-1)) + 1)


def agreement(label: Values, votes: Values) -> Floats:
    """Share of votes that go against each label, 0 to 1, high = suspicious.

    `label`: (P,) 1 for image_0, 0 for image_1; others have no score. `votes`: (P, V) the choices of
    V further voters, as labels; .5 is a tie, NaN no vote. Returns (P,); NaN without a label or a
    vote for an image. Source: arXiv 2503.16921, section 5; arXiv 2604.24953.

        >>> agreement([1, 0], [[1, 0, 0], [0, 0, np.nan]]).round(2)
        array([0.67, 0.  ])
    """
    cast = np.atleast_2d(_floats(votes))
    first, second = (cast == 1).sum(axis=1), (cast == 0).sum(axis=1)
    return against_label(_floats(label), first, second)[1]


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


def annotator_mean(annotator: Sequence[str], score: Values, *, prior: float = 20.0) -> Floats:
    """The mean score of each row's annotator, shrunk to the common mean, high = suspicious.

    `annotator`: (P,) who gave each label; `score`: (P,) of each label, such as u, NaN left out;
    `prior`: average labels that are added to an annotator's own. Returns (P,), aligned with the
    labels.

        >>> annotator_mean(["x", "x", "y"], [1.0, 1.0, 0.0], prior=1.0).round(2)
        array([0.89, 0.89, 0.33])
    """
    names, who = np.unique(np.asarray(annotator, np.str_), return_inverse=True)
    values = _floats(score)
    shrunk = shrunken_mean(who, len(names), values, ~np.isnan(values), prior)[1]
    return np.asarray(shrunk[who])


def dawid_skene(pair: Values, annotator: Values, choice: Values, label: Values) -> Floats:
    """1 - Dawid-Skene's probability of each label, 0 to 1, high = suspicious.

    `pair`, `annotator`, `choice`: (V,) of each vote; 1 is image_0, 0 image_1, .5 a tie. `label`:
    (P,) the label of each pair. Label and result are aligned with np.unique(pair); NaN below two
    voters. Source: Dawid and Skene 1979, by crowd-kit.

        >>> dawid_skene(list("aabb"), list("xyxy"), [1, 1, 0, 0], [1, 1]).round(2)
        array([0., 1.])
    """
    return _voted("dawid_skene", pair, annotator, choice, label)


def glad(pair: Values, annotator: Values, choice: Values, label: Values) -> Floats:
    """1 - GLAD's probability of each label, 0 to 1, high = suspicious.

    Arguments as of `dawid_skene`. Source: Whitehill et al. 2009, by crowd-kit.

        >>> glad(list("aabb"), list("xyxy"), [1, 1, 0, 0], [1, 1]).argmax()
        np.int64(1)
    """
    return _voted("glad", pair, annotator, choice, label)


def _voted(name: str, pair: Values, annotator: Values, choice: Values, label: Values) -> Floats:
    ids, where = np.unique(np.asarray(pair, np.str_), return_inverse=True)
    names = ids.tolist()
    zero = ["0"] * len(ids)
    pairs = pa.table(
        {
            "pair_id": names, "comparison_id": names, "prompt": zero, "label": _floats(label),
            "image_0": [f"{text} 0" for text in names], "image_1": [f"{text} 1" for text in names],
        }
    )  # fmt: skip
    people = np.asarray(annotator, np.str_).tolist()
    votes = pa.table(
        {"pair_id": ids[where].tolist(), "annotator": people, "choice": _floats(choice)}
    )
    models = overlap(pairs, votes)
    scores = np.full(len(ids), np.nan)
    if models is not None:
        place = np.searchsorted(ids, np.asarray(models.pairs["pair_id"].to_pylist(), np.str_))
        scores[place] = models.pairs[name].to_numpy()
    return scores


def image_defects(
    image_0: Sequence[bytes], image_1: Sequence[bytes], prompt: Sequence[str]
) -> Floats:
    """1 where an image is flat, twice in the pair, or under another prompt too; else 0.

    `image_0`, `image_1`: (P,) image files as bytes; `prompt`: (P,) texts. Returns (P,). A defect of
    an image is no error of the label. Source: perceptual hash by imagehash; this project.
    """
    seen = [[look(decode(data)) for data in side] for side in (image_0, image_1)]
    ids = [[each.content for each in side] for side in seen]
    looks: dict[str, Look] = {each.content: each for side in seen for each in side}
    names = [f"{place:09d}" for place in range(len(prompt))]
    columns = [names, list(prompt), *ids]
    pairs = pa.table(columns, names=["pair_id", "prompt", "image_0", "image_1"])
    return np.asarray(defects(pairs, looks)[-1].to_pylist(), float)


def _floats(values: Values) -> Floats:
    return np.asarray(values, np.float64)


def _visits(pair: Values, timestep: Values | None = None, timesteps: int = 1000) -> Trajectory:
    """Rows of a run of one step, in the given order."""
    names, codes = np.unique(np.asarray(pair), return_inverse=True)
    size = len(codes)
    zero = np.zeros(size, np.int64)
    return Trajectory(
        models=("policy",),
        pair_ids=names.astype(np.str_),
        pair=codes,
        visit=zero,
        step=zero,
        rank=zero,
        micro=zero,
        timestep=zero if timestep is None else np.asarray(timestep, np.int64),
        train=np.ones(size, bool),
        difference=np.zeros((1, size), np.float32),
        sign=np.ones(size, np.float32),
        steps=1,
        train_timesteps=timesteps,
    )


def _mean(values: Values, pair: Values) -> Floats:
    """(P,) mean over the visits of a pair, NaN left out."""
    rows = _visits(pair)
    tallies = Tallies.zeros(len(rows.pair_ids), ["value"])
    if len(rows.pair):
        tallies.add(rows, {"value": _floats(values)})
    return tallies["value"].mean("all")
