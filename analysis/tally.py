"""Sums by pair and part of the run: all that means over any window need, however long the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.arrays import Floats, Ints
from analysis.trajectories import PARTS, WINDOWS, Groups, Trajectory


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
    """(K, PARTS, P) float64: a chunk lies in one or two parts, so few of them are touched."""
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
            found = np.bincount(small, weights, PARTS * bins)
            self.moments[row] += found.reshape(PARTS, bins)

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
        found: Floats = self.moments[:, list(WINDOWS[window])].sum(axis=1)
        return found

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
