"""Two kinds of pairs: the loss mixture, and a posterior of being flipped with its noise rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.detectors.detector import Computed, Detector, Evidence, Score
from analysis.pair_stats import Digest
from analysis.ranking_metrics import Groups, Interval, coded, interval, resample
from analysis.trajectory import Floats, Ints, as_table
from toolkit.minority import sigmoid
from toolkit.schema import column

LOSS_MIXTURE = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column("loss", pa.float64(), "mean -log p over the visits in the window"),
        column(
            "loss_mixture",
            pa.float64(),
            "probability of the component with the higher loss, 0 to 1, high = suspicious",
        ),
    ]
)

POSTERIOR = pa.schema(
    [
        column("pair_id", pa.string(), "the pair", nullable=False),
        column(
            "flip_posterior",
            pa.float64(),
            "probability that the label is the reverse of the typical one, 0 to 1",
        ),
        column(
            "annotator_posterior",
            pa.float64(),
            "the same with the annotator's own rate as prior; null where the annotator is unknown",
        ),
    ]
)

_FITTED = 100_000
"""Pairs the loss mixture is fitted on at most; all are scored."""
_GRID, _REACH = 256, 6.0
"""Bins and end of the histogram of margins, in root mean squares."""
_RATES = np.linspace(0.005, 0.495, 50)
_MARGINS = np.linspace(0.02, 0.98, 49)
_ROUNDS = 100
_CLEAR = 0.5
"""Margin over spread from which on a rate is reported: below it the likelihood is flat in the rate,
and it only fits the shape of the tails."""
_PRIOR = 20.0
"""Labels that an annotator's prior counts for: the rate of one with few labels stays near the
common one."""


def loss_mixture(digest: Digest, window: str, *, seed: int = 0) -> pa.Table:
    """Two Gaussians over the pairs' mean loss; schema LOSS_MIXTURE.

    Null where a pair has no loss, and everywhere if fewer than ten losses differ.
    """
    visited = digest.visited
    loss = digest.tallies["loss"].mean(window)[visited]
    return as_table(LOSS_MIXTURE, [digest.visited_ids, loss, high_loss(loss, seed=seed)])


def high_loss(loss: Floats, *, seed: int = 0) -> Floats:
    """(P,) probability of the component with the higher mean; NaN as in `loss_mixture`."""
    from sklearn.mixture import GaussianMixture

    known = np.flatnonzero(~np.isnan(loss))
    score = np.full(len(loss), np.nan)
    if len(np.unique(loss[known])) >= 10:
        some = np.random.default_rng(seed).permutation(known)[:_FITTED]
        values = (loss - loss[some].mean()) / loss[some].std()
        model = GaussianMixture(2, random_state=seed, n_init=2).fit(values[some, None])
        high = int(np.argmax(model.means_[:, 0]))
        score[known] = model.predict_proba(values[known, None])[:, high]
    return score


@dataclass(frozen=True)
class NoiseRate:
    """What the EM says of the labels as a whole."""

    rate: Interval
    """Estimated share of reversed labels, prompts resampled; None where the margins are unclear."""
    margin: float
    """Mean of an unreversed pair's margin, in root mean squares of ell."""
    spread: float
    """Standard deviation around it."""
    annotators: dict[str, tuple[float, int]]
    """Annotator -> (estimated share of reversed labels, shrunk to the common one; labels)."""


def flip_posterior(
    digest: Digest,
    window: str,
    prompts: Sequence[str],
    annotators: Sequence[str | None] | None = None,
    *,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[pa.Table, NoiseRate | None]:
    """EM of x ~ (1 - e) N(m, v) + e N(-m, v), x a pair's mean of ell over its timestep's RMS.

    Schema POSTERIOR, and the noise rate e < .5 with an interval; None below ten pairs. `prompts`
    and `annotators` go with `digest.visited`.
    """
    x = digest.ell.scaled(window)[0][digest.visited]
    posterior, personal, rate = reversed_labels(
        x, prompts, annotators, resamples=resamples, seed=seed
    )
    return as_table(POSTERIOR, [digest.visited_ids, posterior, personal]), rate


def reversed_labels(
    x: Floats,
    prompts: Groups,
    annotators: Sequence[str | None] | None = None,
    *,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[Floats, Floats, NoiseRate | None]:
    """`flip_posterior` of margins x, (P,): the two posteriors, (P,) each, and the noise rate."""
    known = np.flatnonzero(~np.isnan(x))
    posterior, personal = np.full(len(x), np.nan), np.full(len(x), np.nan)
    result = None
    if len(known) >= 10 and np.ptp(x[known]) > 0:
        rate, margin, spread = _fitted(x[known], np.asarray(prompts)[known], resamples, seed)
        common = float(rate.value or 0.0)
        slope = -2 * margin * x[known] / spread**2
        posterior[known] = sigmoid(_logit(common) + slope)
        own: dict[str, tuple[float, int]] = {}
        if annotators is not None:
            names = np.asarray([name or "" for name in annotators], np.str_)[known]
            rates, which, labels = _per_annotator(names, slope, common)
            personal[known] = np.where(names == "", np.nan, sigmoid(_logit(rates)[which] + slope))
            listed = zip(np.unique(names).tolist(), rates, labels, strict=True)
            own = {name: (float(e), int(n)) for name, e, n in listed if name}
        clear = margin >= _CLEAR * spread
        result = NoiseRate(rate if clear else Interval(None, None, None), margin, spread, own)
    return posterior, personal, result


def _fitted(
    x: Floats, prompts: npt.NDArray, resamples: int, seed: int
) -> tuple[Interval, float, float]:
    """Noise rate with interval, margin and spread, in the units of x."""
    which, groups = coded(prompts)
    size = float(np.sqrt(np.mean(x * x)))
    rate, margin = _em(x / size, *_likeliest(_histogram(x, np.ones(len(x)))[None]))
    drawn = [
        _likeliest(np.stack([_histogram(x, row[which]) for row in draws]))[0]
        for draws in resample(groups, resamples, seed, _GRID)
    ]
    found_rate = interval(rate, np.concatenate([np.zeros(0), *drawn]))
    return found_rate, margin * size, float(np.sqrt(1 - margin**2)) * size


def _histogram(x: Floats, weight: Floats) -> Floats:
    """(_GRID,) weights of x over its own root mean square, between -_REACH and _REACH."""
    size = np.sqrt((weight * x * x).sum() / weight.sum())
    place = ((x / size + _REACH) * (_GRID / (2 * _REACH))).astype(np.int64)
    counts: Floats = np.bincount(np.clip(place, 0, _GRID - 1), weight, _GRID).astype(np.float64)
    return counts


def _likeliest(count: Floats) -> tuple[Floats, Floats]:
    """Rates and margins, (R,) each, of highest likelihood on a grid for (R, _GRID) histograms.

    With x over its root mean square the mixture's second moment is 1, so v = 1 - m^2 and two
    parameters are left: the whole grid is looked at, where EM alone stops wherever it began once
    the margin is small.
    """
    centre = (np.arange(_GRID) + 0.5) * (2 * _REACH / _GRID) - _REACH
    rates, margins = (axis.ravel() for axis in np.meshgrid(_RATES, _MARGINS))
    variance = 1 - margins**2
    near = -((centre[:, None] - margins) ** 2) / (2 * variance)
    far = -((centre[:, None] + margins) ** 2) / (2 * variance)
    density = np.logaddexp(np.log1p(-rates) + near, np.log(rates) + far) - 0.5 * np.log(variance)
    best = np.argmax(count @ density, axis=1)
    return rates[best], margins[best]


def _em(x: Floats, rate: npt.NDArray, margin: npt.NDArray) -> tuple[float, float]:
    """Rate and margin refined by EM from where the grid found them; x has mean square 1."""
    e, m = float(rate[0]), float(margin[0])
    for _ in range(_ROUNDS):
        flipped = sigmoid(_logit(e) - 2 * m / (1 - m * m) * x)
        new = float(np.clip(flipped.mean(), 1e-4, 0.4999))
        m = float(np.clip(np.mean((1 - 2 * flipped) * x), 1e-3, 0.999))
        if abs(new - e) < 1e-5:
            break
        e = new
    return e, m


def _per_annotator(
    names: npt.NDArray[np.str_], slope: Floats, common: float
) -> tuple[Floats, Ints, Ints]:
    """Each annotator's rate (A,), each pair's annotator (P,) and the labels of each (A,)."""
    which, people = coded(names)
    labels = np.bincount(which, minlength=people)
    rates = np.full(people, common)
    for _ in range(_ROUNDS):
        flipped = sigmoid(_logit(rates)[which] + slope)
        reversed_labels = np.bincount(which, flipped, people)
        new = np.clip((reversed_labels + _PRIOR * common) / (labels + _PRIOR), 1e-4, 0.9999)
        done = np.abs(new - rates).max() < 1e-6
        rates = new
        if done:
            break
    return rates, which, labels


def _logit(share: float | Floats) -> Floats:
    value = np.asarray(share, np.float64)
    return np.log(value) - np.log1p(-value)


def _flip_posterior(evidence: Evidence, window: str) -> Computed:
    prompts = evidence.pairs["prompt"].to_pylist()
    return flip_posterior(evidence.digest, window, prompts, evidence.annotators)


DETECTORS = (
    Detector(
        finding="loss_mixture",
        compute=lambda evidence, window: loss_mixture(evidence.digest, window),
        needs=("trajectory", "labels"),
        scores=(
            Score(
                name="loss_mixture",
                column="loss_mixture",
                direction="high",
                formula="P(component of the higher mean | mean loss), two Gaussians by EM",
                assumption="losses of right and wrong labels form two clusters; with one cluster "
                "the split is arbitrary and the order is that of the loss",
                source="Arazo et al. 2019, arXiv 1904.11238; Gaussian form as Li et al. 2020, "
                "DivideMix",
            ),
        ),
    ),
    Detector(
        finding="flip_posterior",
        compute=_flip_posterior,
        needs=("trajectory", "labels", "prompts"),
        scores=(
            Score(
                name="flip_posterior",
                column="flip_posterior",
                direction="high",
                formula="P(reversed | x) under x ~ (1 - e) N(m, v) + e N(-m, v), e, m and v by EM",
                assumption="a reversed label reverses the margin (true of planted flips, until the "
                "model memorises them), margins are Gaussian, pairs are met about equally often",
                source="mixture of two Gaussians; this project",
            ),
            Score(
                name="annotator_posterior",
                column="annotator_posterior",
                direction="high",
                formula="flip_posterior with each annotator's own e, shrunk to the common one",
                assumption="as flip_posterior, and annotators differ in how often they err, not in "
                "which pairs",
                source="mixture of two Gaussians; this project",
            ),
        ),
    ),
)
