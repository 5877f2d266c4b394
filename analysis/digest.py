"""What is kept of a run's rows: sums by pair, from which every diagnostic follows.

Memory grows with the pairs, not with the visits: some 0.8 kB a pair with one metric, 1.3 kB with
all presets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analysis.arrays import Floats, Ints, Mask
from analysis.recompute import Scorer
from analysis.tally import BinSums, Tallies, Tally
from analysis.trajectories import PARTS, WINDOWS, Trajectory
from toolkit.minority import PRESETS, Metric, Scores, sigmoid

STEP_BINS = 20
"""Parts of the run, of equal length, by which it is seen how p grows."""

SURE = 0.9
"""A probability of the label above this counts as sure."""

SCORES = ("confidence", "stability", "minority")
PROBABILITIES = ("p", "square", "correct", "z", "loss")
"""p = sigmoid(z), z = beta ell of the policy: the probability it gives the label; its square; 1
where p > .5; the logit; -log p."""


@dataclass
class Memory:
    """How a pair fared from visit to visit, (P,) each."""

    forgotten: Ints
    """Visits found incorrect (p < .5) right after one found correct."""
    learned: Mask
    """Found correct at least once."""
    last: npt.NDArray[np.int8]
    """1 or 0 as the latest visit was found, -1 before the first."""
    trained: Mask
    """Has a visit."""


@dataclass
class Digest:
    """The sums of one run, P pairs of which some may have no row."""

    models: tuple[str, ...]
    pair_ids: npt.NDArray[np.str_]
    sign: Floats
    """(P,) 1, -1 or NaN: the label set's preference."""
    steps: int
    metrics: dict[str, Metric]
    visits: Ints
    """(P, PARTS) usable rows."""
    tallies: Tallies
    """"NAME.confidence" ... of every metric, then PROBABILITIES, then "weight"."""
    ell: BinSums
    unseen: BinSums
    """Of rows met before the run had trained on the pair: first visits, and probes before them."""
    memory: Memory
    progress: Floats
    """(4, STEP_BINS): visits, sum of p, visits with p > SURE, visits with p < .5, by step."""
    beta: float | None
    """None: the run names none, so z is ell on the running scale."""
    differs: float = 0.0
    """Largest difference between logged scores and those of `own` recomputed; 0 without any."""
    has_timesteps: bool = True
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def met(self) -> Ints:
        """Positions of the pairs with a row of any kind."""
        return np.flatnonzero(self.visits.any(axis=1))

    def counted(self, window: str) -> Ints:
        """(P,) rows in a window."""
        found: Ints = self.visits[:, WINDOWS[window]].sum(axis=1)
        return found

    def scores(self, metric: str) -> tuple[Tally, Tally, Tally]:
        """The tallies of c, s and u under a metric."""
        c, s, u = (self.tallies[f"{metric}.{name}"] for name in SCORES)
        return c, s, u


def digest(
    chunks: Iterable[Trajectory],
    metrics: Mapping[str, Metric],
    *,
    own: str | None = None,
    beta: float | None = None,
    bins: int = 10,
) -> Digest:
    """Walk a run once. `metrics`: what c, s and u are computed under, by name.

    `own`: the name of the metric the run was trained with, whose scores are held against the
    logged ones. `beta`: effective beta of the run's objective. ValueError without a row.
    """
    found: Digest | None = None
    for chunk in chunks:
        if found is None:
            found = _empty(chunk, metrics, beta, bins)
            size = len(chunk.pair_ids)
            scorers = {
                name: Scorer(metric, len(chunk.models), size) for name, metric in metrics.items()
            }
            running = None if beta else Scorer(PRESETS["running"], 1, size)
        recomputed = {name: scorer.scores(chunk) for name, scorer in scorers.items()}
        if own is not None:
            found.differs = max(found.differs, _difference(chunk, recomputed[own]))
        z = _logits(chunk, beta, running)
        _add(found, chunk, recomputed, z)
        _remember(found, chunk, z)
    if found is None:
        raise ValueError("a run without usable rows has no digest")
    return found


def _empty(
    chunk: Trajectory, metrics: Mapping[str, Metric], beta: float | None, bins: int
) -> Digest:
    pairs = len(chunk.pair_ids)
    names = [f"{metric}.{name}" for metric in metrics for name in SCORES]
    return Digest(
        models=chunk.models,
        pair_ids=chunk.pair_ids,
        sign=np.full(pairs, np.nan, np.float32),
        steps=chunk.steps,
        metrics=dict(metrics),
        visits=np.zeros((pairs, PARTS), np.int32),
        tallies=Tallies.zeros(pairs, [*names, *PROBABILITIES, "weight"]),
        ell=BinSums.zeros(pairs, bins),
        unseen=BinSums.zeros(pairs, bins),
        memory=Memory(
            forgotten=np.zeros(pairs, np.int32),
            learned=np.zeros(pairs, bool),
            last=np.full(pairs, -1, np.int8),
            trained=np.zeros(pairs, bool),
        ),
        progress=np.zeros((4, STEP_BINS)),
        beta=beta,
    )


def _add(found: Digest, chunk: Trajectory, recomputed: dict[str, Scores], z: Floats) -> None:
    found.sign[chunk.pair] = chunk.sign
    found.visits.reshape(-1)[chunk.groups.places] += chunk.groups.sizes.astype(np.int32)
    found.has_timesteps &= not (chunk.timestep < 0).any()
    p = sigmoid(z)
    none = np.full(len(p), np.nan, np.float32)
    values = {
        f"{metric}.{name}": values
        for metric, scores in recomputed.items()
        for name, values in zip(SCORES, scores, strict=True)
    }
    values |= {
        "p": p,
        "square": p * p,
        "correct": np.where(np.isnan(z), np.float32(np.nan), z > 0),
        "z": z,
        # -log p = log(1 + exp(-z)), from the stable side of zero.
        "loss": np.maximum(-z, 0) - np.log(np.maximum(p, 1 - p)),
        "weight": chunk.logged.get("weight", none),
    }
    found.tallies.add(chunk, values)
    ell = chunk.ell[0]
    found.ell.add(chunk, ell)
    found.unseen.add(chunk, np.where(_unseen(found, chunk), ell, np.float32(np.nan)))
    use = chunk.train & ~np.isnan(z)
    place, mine = chunk.step[use] * STEP_BINS // found.steps, p[use]
    for row, weights in enumerate((None, mine, mine > SURE, mine < 0.5)):
        found.progress[row] += np.bincount(place, weights, STEP_BINS)


def _unseen(found: Digest, chunk: Trajectory) -> Mask:
    """(N,) rows of pairs without a visit before them. Within a step nothing is learned yet."""
    trained = found.memory.trained
    new = np.flatnonzero(~trained[chunk.pair])
    mask = np.zeros(len(chunk.pair), bool)
    if len(new):
        visits = new[chunk.train[new]]
        first = np.full(len(trained), np.iinfo(np.int64).max)
        np.minimum.at(first, chunk.pair[visits], chunk.step[visits])
        mask[new] = chunk.step[new] <= first[chunk.pair[new]]
    trained[chunk.pair[chunk.train]] = True
    return mask


def _difference(chunk: Trajectory, scores: Scores) -> float:
    """How far logged scores lie from recomputed ones, over rows whose label is as it was."""
    if not {"label", "confidence", "minority"} <= set(chunk.logged):
        return 0.0
    same = chunk.logged["label"] == (chunk.sign + 1) / 2
    worst = 0.0
    for name in ("confidence", "minority"):
        gap = np.abs(chunk.logged[name] - getattr(scores, name))[same]
        worst = max(worst, float(np.nanmax(np.append(gap, 0.0))))
    return worst


def _logits(chunk: Trajectory, beta: float | None, running: Scorer | None) -> Floats:
    """(N,) float32 z = beta * ell of the policy; on the running scale where no beta is known."""
    ell = chunk.ell[0]
    if running is None:
        return ell * np.float32(beta or 1.0)
    return ell * running.factor(chunk)[0]


def _remember(found: Digest, chunk: Trajectory, z: Floats) -> None:
    """Transitions from correct to incorrect between a pair's successive visits."""
    kept, order = found.memory, chunk.groups.order
    use = order[(chunk.train & ~np.isnan(z))[order]]
    if not len(use):
        return
    pair, correct = chunk.pair[use], (z[use] > 0).astype(np.int8)
    first = np.ones(len(pair), bool)
    first[1:] = pair[1:] != pair[:-1]
    before = np.where(first, kept.last[pair], np.roll(correct, 1))
    lost = (before == 1) & (correct == 0)
    kept.forgotten += np.bincount(pair[lost], minlength=len(kept.last)).astype(np.int32)
    kept.learned[pair[correct == 1]] = True
    last = np.append(first[1:], True)
    kept.last[pair[last]] = correct[last]
