"""What is kept of a run's rows: sums by pair and part of the run, from which all scores follow.

Means over any window need no more, however long the run. Memory grows with the pairs, not with the
visits: some 0.8 kB a pair with one metric, 1.3 kB with all presets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis.recompute_metric import MetricReplay
from analysis.trajectory import PARTS, WINDOWS, Floats, Groups, Ints, Mask, Trajectory
from toolkit.minority import PRESETS, Metric, Scores, sigmoid


@dataclass(frozen=True)
class Tally:
    """Sums and numbers of one row value, (PARTS, P) each."""

    total: Floats
    count: Ints

    def mean(self, window: str) -> Floats:
        """(P,) mean over a window; NaN without a value.

        It is not filled from another window: early and late values are not on one scale.
        """
        with np.errstate(invalid="ignore"):
            return self.total[list(WINDOWS[window])].sum(axis=0) / self.counted(window)

    def counted(self, window: str) -> Ints:
        """(P,) how many values went into the mean."""
        return self.count[list(WINDOWS[window])].sum(axis=0)


@dataclass(frozen=True)
class Tallies:
    """The tallies of K row values."""

    names: tuple[str, ...]
    totals: Floats
    """(K, PARTS, P) float64: a chunk is in one or two parts, so few of them are touched."""
    counts: Ints
    """(K, PARTS, P) uint16."""

    @classmethod
    def zeros(cls, pairs: int, names: Sequence[str]) -> "Tallies":
        """Nothing added yet."""
        shape = (len(names), PARTS, pairs)
        return cls(tuple(names), np.zeros(shape), np.zeros(shape, np.uint16))

    def add(self, chunk: Trajectory, values: Mapping[str, npt.NDArray]) -> None:
        """Add (N,) values of a chunk's rows under every name; NaN values are left out.

        Groups ascend by pair, so sums are walked through in order and only a chunk's own rows, a
        few megabytes, are reached at random.
        """
        pair, part = np.divmod(chunk.groups.places, PARTS)
        spots = part * self.totals.shape[2] + pair
        turns = _turns(chunk.groups, spots)
        sizes, everywhere = chunk.groups.sizes.astype(np.uint16), _run(spots)
        for place, name in enumerate(self.names):
            total, count = self.totals[place].reshape(-1), self.counts[place].reshape(-1)
            mine = values[name]
            known = ~np.isnan(mine)
            whole = bool(known.all())
            if whole:
                count[everywhere] += sizes
            elif known.any():
                mine = np.where(known, mine, mine.dtype.type(0))
            else:
                continue
            for here, rows in turns:
                total[here] += mine[rows]
                if not whole:
                    count[here] += known[rows]

    def __getitem__(self, name: str) -> Tally:
        place = self.names.index(name)
        return Tally(self.totals[place], self.counts[place])


def _turns(groups: Groups, spots: Ints) -> list[tuple[Ints | slice, Ints]]:
    """The first row of every group, then the second of those that have one ...: spots, rows."""
    turns: list[tuple[Ints | slice, Ints]] = []
    starts, sizes = groups.starts, groups.sizes
    nth = 0
    while len(spots):
        turns.append((_run(spots), groups.order[starts + nth]))
        nth += 1
        more = sizes > nth
        spots, starts, sizes = spots[more], starts[more], sizes[more]
    return turns


def _run(spots: Ints) -> Ints | slice:
    """Spots that follow each other as a slice, which is added to several times faster."""
    first, last = int(spots[0]), int(spots[-1]) + 1
    if last - first != len(spots) or (np.diff(spots) != 1).any():
        return spots
    return slice(first, last)


@dataclass
class BinSums:
    """Sums of the policy's ell by pair, part and timestep bin, and the bins' own moments.

    What lets ell be standardised within its bin although a bin's mean is known only at the end:
    mean over visits of (ell - mean_b) / sd_b = sum over b of (S_b - n_b mean_b) / sd_b, over n.
    """

    sums: Floats
    """(PARTS, P, bins) float32."""
    counts: Ints
    """(PARTS, P, bins) uint16."""
    moments: Floats
    """(3, PARTS, bins) float64: number, sum, sum of squares."""

    @classmethod
    def zeros(cls, pairs: int, bins: int) -> "BinSums":
        """Nothing added yet."""
        shape = (PARTS, pairs, bins)
        return cls(
            np.zeros(shape, np.float32), np.zeros(shape, np.uint16), np.zeros((3, PARTS, bins))
        )

    def add(self, chunk: Trajectory, ell: Floats) -> None:
        """Add (N,) ell of a chunk's rows; NaN is left out."""
        _, pairs, bins = self.sums.shape
        known = np.flatnonzero(~np.isnan(ell))
        if not len(known):
            return
        which, part, ell = chunk.bins(bins)[known], chunk.part[known].astype(np.int64), ell[known]
        place = (part * pairs + chunk.pair[known]) * bins + which
        np.add.at(self.sums.reshape(-1), place, ell)
        np.add.at(self.counts.reshape(-1), place, np.uint16(1))
        small = part * bins + which
        values = ell.astype(np.float64)
        for row, weights in enumerate((None, values, values * values)):
            sums = np.bincount(small, weights, PARTS * bins)
            self.moments[row] += sums.reshape(PARTS, bins)

    def standardised(self, window: str) -> tuple[Floats, Ints]:
        """(P,) mean of ell less its bin's mean over the bin's sd in a window, and how many visits.

        A bin of fewer than two values or without spread gives none.
        """
        mean, sd = self.mean_and_sd(window)
        return self._weighted(window, mean, sd)

    def scaled(self, window: str) -> tuple[Floats, Ints]:
        """(P,) mean of ell over its bin's root mean square: the sign stays ell's own."""
        count, _, squares = self._moments(window)
        with np.errstate(invalid="ignore", divide="ignore"):
            rms = np.sqrt(squares / count)
        rms[~(rms > 0)] = np.nan
        return self._weighted(window, np.zeros(len(rms)), rms)

    def mean_and_sd(self, window: str) -> tuple[Floats, Floats]:
        """(bins,) of the policy's ell over a window's rows; sd NaN where it does not exist."""
        count, total, squares = self._moments(window)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
            spread = np.maximum(squares - count * mean**2, 0) / (count - 1)
        # What rounding leaves of equal values is no spread.
        spread[~((count >= 2) & (spread > 1e-12 * mean**2))] = np.nan
        return mean, np.sqrt(spread)

    def _moments(self, window: str) -> Floats:
        sums: Floats = self.moments[:, list(WINDOWS[window])].sum(axis=1)
        return sums

    def _weighted(self, window: str, mean: Floats, by: Floats) -> tuple[Floats, Ints]:
        known = np.isfinite(by)
        # float32 like the sums: a product of other types would copy them first.
        factor = np.where(known, 1 / np.where(known, by, 1), 0).astype(np.float32)
        shift = np.where(known, mean * factor, 0).astype(np.float32)
        total = np.zeros(self.sums.shape[1])
        count = np.zeros(self.sums.shape[1], np.int64)
        for part in WINDOWS[window]:
            seen = self.counts[part].astype(np.float32)
            total += self.sums[part] @ factor - seen @ shift
            count += (seen @ known.astype(np.float32)).astype(np.int64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / np.where(count > 0, count, np.nan), count


GAP_BINS = 5
"""Parts of the noise schedule by which the reference's own preference is summed."""

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

    @classmethod
    def zeros(cls, pairs: int) -> "Memory":
        """Before the first visit."""
        return cls(
            forgotten=np.zeros(pairs, np.int32),
            learned=np.zeros(pairs, bool),
            last=np.full(pairs, -1, np.int8),
            trained=np.zeros(pairs, bool),
        )

    def add(self, chunk: Trajectory, z: Floats) -> None:
        """Count transitions from correct to incorrect between a pair's successive visits.

        `z`: (N,) the label's logit at each row of the chunk, NaN where there is none.
        """
        order = chunk.groups.order
        use = order[(chunk.train & ~np.isnan(z))[order]]
        if not len(use):
            return
        pair, correct = chunk.pair[use], (z[use] > 0).astype(np.int8)
        first = np.ones(len(pair), bool)
        first[1:] = pair[1:] != pair[:-1]
        before = np.where(first, self.last[pair], np.roll(correct, 1))
        lost = (before == 1) & (correct == 0)
        self.forgotten += np.bincount(pair[lost], minlength=len(self.last)).astype(np.int32)
        self.learned[pair[correct == 1]] = True
        last = np.append(first[1:], True)
        self.last[pair[last]] = correct[last]


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
    gaps: Floats
    """(P, GAP_BINS) float32: sums over visits, by timestep, of the reference's error on the
    rejected image less that on the chosen one."""
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
    def visited(self) -> Ints:
        """Positions of the pairs with a row of any kind."""
        return np.flatnonzero(self.visits.any(axis=1))

    @cached_property
    def visited_ids(self) -> pa.Array:
        """The ids of the pairs with a row, as Arrow strings."""
        return pa.array(self.pair_ids[self.visited], pa.string())

    def counted(self, window: str) -> Ints:
        """(P,) rows in a window."""
        sums: Ints = self.visits[:, WINDOWS[window]].sum(axis=1)
        return sums

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

    `own`: the name of the metric the run was trained with, whose scores are compared with the
    logged ones. `beta`: effective beta of the run's objective. ValueError without a row.
    """
    sums: Digest | None = None
    for chunk in chunks:
        if sums is None:
            sums = _empty(chunk, metrics, beta, bins)
            size = len(chunk.pair_ids)
            scorers = {
                name: MetricReplay(metric, len(chunk.models), size)
                for name, metric in metrics.items()
            }
            running = None if beta else MetricReplay(PRESETS["running"], 1, size)
        recomputed = {name: scorer.scores(chunk) for name, scorer in scorers.items()}
        if own is not None:
            sums.differs = max(sums.differs, _difference(chunk, recomputed[own]))
        z = _logits(chunk, beta, running)
        _add(sums, chunk, recomputed, z)
        sums.memory.add(chunk, z)
    if sums is None:
        raise ValueError("a run without usable rows has no digest")
    return sums


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
        gaps=np.zeros((pairs, GAP_BINS), np.float32),
        memory=Memory.zeros(pairs),
        progress=np.zeros((4, STEP_BINS)),
        beta=beta,
    )


def _add(sums: Digest, chunk: Trajectory, recomputed: dict[str, Scores], z: Floats) -> None:
    sums.sign[chunk.pair] = chunk.sign
    sums.visits.reshape(-1)[chunk.groups.places] += chunk.groups.sizes.astype(np.int32)
    sums.has_timesteps &= not (chunk.timestep < 0).any()
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
    sums.tallies.add(chunk, values)
    ell = chunk.ell[0]
    sums.ell.add(chunk, ell)
    if chunk.reference is not None:
        add_gaps(sums.gaps, chunk, -chunk.reference * chunk.sign)
    sums.unseen.add(chunk, np.where(_unseen(sums, chunk), ell, np.float32(np.nan)))
    use = chunk.train & ~np.isnan(z)
    place, mine = chunk.step[use] * STEP_BINS // sums.steps, p[use]
    for row, weights in enumerate((None, mine, mine > SURE, mine < 0.5)):
        sums.progress[row] += np.bincount(place, weights, STEP_BINS)


def add_gaps(gaps: Floats, chunk: Trajectory, values: Floats) -> None:
    """Add (N,) values of a chunk's visits to (P, GAP_BINS) sums; NaN is left out."""
    use = np.flatnonzero(chunk.train & ~np.isnan(values))
    place = chunk.pair[use] * GAP_BINS + chunk.bins(GAP_BINS)[use]
    np.add.at(gaps.reshape(-1), place, values[use].astype(np.float32))


def _unseen(sums: Digest, chunk: Trajectory) -> Mask:
    """(N,) rows of pairs without a visit before them. Within a step nothing is learned yet."""
    trained = sums.memory.trained
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
    """How far logged scores are from recomputed ones, over rows whose label is as it was."""
    if not {"label", "confidence", "minority"} <= set(chunk.logged):
        return 0.0
    same = chunk.logged["label"] == (chunk.sign + 1) / 2
    worst = 0.0
    for name in ("confidence", "minority"):
        gap = np.abs(chunk.logged[name] - getattr(scores, name))[same]
        worst = max(worst, float(np.nanmax(np.append(gap, 0.0))))
    return worst


def _logits(chunk: Trajectory, beta: float | None, running: MetricReplay | None) -> Floats:
    """(N,) float32 z = beta * ell of the policy; on the running scale where no beta is known."""
    ell = chunk.ell[0]
    if running is None:
        return ell * np.float32(beta or 1.0)
    return ell * running.factor(chunk)[0]
