"""The trajectory as arrays: ell under any label set, and which part of the run a row lies in.

Errors lie on disk by image slot, so ell under another label set is a sign:

    difference = (err_ref_0 - err_ref_1) - (err_0 - err_1)      float32, per model
    ell        = +difference where the label is 1, -difference where it is 0   (Eq. 10)

A `Trajectory` holds some rows of a run: all of them for a few pairs (`load`), or the next million
of a run that does not fit into memory (`analysis.stream`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analysis import arrays
from analysis.arrays import Floats, Ints, Mask
from toolkit.errors import StoreError
from toolkit.minority import timestep_bin

COLUMNS = (
    "pair_id", "visit", "draw", "step", "rank", "micro", "kind", "timestep",
    "err_ref_0", "err_ref_1", "err_0", "err_1",
)  # fmt: skip
"""What a row must hold, beside the label it falls under."""

LOGGED = ("label", "confidence", "stability", "minority", "weight")
"""What training logged beside the errors; compared or drawn, never needed."""

EDGES = (0.3, 0.7)
"""Shares of the run's steps at which a new part begins."""

PARTS = len(EDGES) + 2
"""Sums are kept apart for the parts of a run between EDGES, and for its probes (the last part)."""

WINDOWS: dict[str, tuple[int, ...]] = {
    "all": (0, 1, 2),
    "early": (0,),
    "late": (1, 2),
    "last": (2,),
    "probe": (3,),
    "both": (1, 2, 3),
}
"""The parts that a mean is taken over; `both`: late visits, and probes whenever they were made."""

WITH_PROBES = ("probe", "both")
"""The windows that only a run with probes has."""

SPANS = {
    "all": (0.0, 1.0),
    "early": (0.0, 0.3),
    "late": (0.3, 1.0),
    "last": (0.7, 1.0),
    "both": (0.3, 1.0),
}
"""The share of the run's steps that a window covers; probes lie anywhere, and `both` is `late`
with them."""

DEFAULT_WINDOW = "late"
"""The last 70 % of the steps: before them the policy has hardly left the reference, ell is noise
around 0 and the footprints coincide."""


def window_words(window: str) -> str:
    """Which rows a window takes its means over."""
    if window == "probe":
        return "over probes (fixed draws)"
    start, end = SPANS[window]
    probes = ", and over probes" if window in WITH_PROBES else ""
    return f"over visits between {start:.0%} and {end:.0%} of the run's steps{probes}"


@dataclass(frozen=True)
class Groups:
    """The rows of a chunk by (pair, part): K groups over N rows."""

    order: Ints
    """(N,) rows, group by group."""
    starts: Ints
    """(K,) where each group begins in `order`."""
    places: Ints
    """(K,) ascending pair * PARTS + part."""
    sizes: Ints
    """(K,)."""


@dataclass(frozen=True)
class Trajectory:
    """Usable rows of one run, N of them, in order of step; M models, P pairs."""

    models: tuple[str, ...]
    pair_ids: npt.NDArray[np.str_]
    """(P,) sorted; not every one needs to have a row."""
    pair: Ints
    """(N,) position in pair_ids."""
    visit: Ints
    step: Ints
    rank: Ints
    micro: Ints
    timestep: Ints
    """(N,); -1 where the run left none."""
    train: Mask
    """(N,) False for a probe."""
    difference: Floats
    """(M, N) float32 by image slot, before the label's sign."""
    sign: Floats
    """(N,) float32: 1, -1, or NaN where the label set states no preference."""
    steps: int
    """Optimiser steps of the whole run."""
    logged: dict[str, Floats] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    train_timesteps: int = 1000

    @property
    def ell(self) -> Floats:
        """(M, N) float32 under the label set; NaN for a pair without a preference in it."""
        return self.difference * self.sign

    @cached_property
    def part(self) -> Ints:
        """(N,) which of the PARTS a row lies in."""
        share = self.step / self.steps
        place = np.zeros(len(share), np.int8)
        for edge in EDGES:
            place += share >= edge
        return np.where(self.train, place, PARTS - 1)

    @cached_property
    def groups(self) -> "Groups":
        """Rows sorted by pair and part, in order of step within."""
        rows = len(self.pair)
        key = (self.pair.astype(np.int64) * PARTS + self.part) * rows + np.arange(rows)
        place, order = np.divmod(np.sort(key), rows)
        new = np.ones(rows, bool)
        new[1:] = place[1:] != place[:-1]
        starts = np.flatnonzero(new)
        return Groups(order, starts, place[starts], np.diff(np.append(starts, rows)))

    def within(self, window: str) -> Mask:
        """(N,) rows of one of `WINDOWS`."""
        return np.isin(self.part, WINDOWS[window])

    def bins(self, bins: int) -> Ints:
        """(N,) bin of the noise schedule; a row without its timestep lies in bin 0."""
        known = np.maximum(self.timestep, 0)
        found: Ints = timestep_bin(known, bins, self.train_timesteps)
        return np.minimum(found, bins - 1)


def load(
    table: pa.Table, models: Sequence[str], *, train_timesteps: int = 1000, steps: int | None = None
) -> Trajectory:
    """Rows of `read_trajectory` (COLUMNS, set_label, known) as arrays, all in memory.

    `steps` of the whole run where the table is a piece of it. Left out and counted: what
    `arrays.usable` leaves out, and rows met before (a run that was resumed writes some twice, to
    the same bits). StoreError where nothing is left.
    """
    total = table.num_rows
    table, difference, out = arrays.usable(table, len(models))
    if not table.num_rows:
        raise StoreError(nothing_left(total, out))
    pair_ids, pair = arrays.coded(table, "pair_id")
    label = arrays.floats(table, "set_label")
    sign = np.select([label == 1, label == 0], [1, -1], np.nan).astype(np.float32)
    draw, visit = arrays.ints(table, "draw"), arrays.ints(table, "visit")
    train = arrays.is_train(table)
    step = arrays.ints(table, "step")
    kept = arrays.unrepeated([draw, visit, pair, train, np.where(train, 0, step)], step)
    out["repeated"] = table.num_rows - len(kept)
    return chunk(
        table.take(pa.array(kept)),
        difference[:, kept],
        tuple(models),
        pair_ids,
        pair[kept],
        sign[kept],
        steps=steps,
        excluded=out,
        train_timesteps=train_timesteps,
    )


def chunk(
    table: pa.Table,
    difference: Floats,
    models: tuple[str, ...],
    pair_ids: npt.NDArray[np.str_],
    pair: Ints,
    sign: Floats,
    *,
    steps: int | None,
    excluded: dict[str, int],
    train_timesteps: int,
) -> Trajectory:
    """Usable rows as a Trajectory, in order of (step, rank, micro-batch, pair)."""
    step, rank = arrays.ints(table, "step"), arrays.ints(table, "rank", 0)
    micro = arrays.ints(table, "micro")
    micro = np.where(micro < 0, step, micro)
    found = Trajectory(
        models=models,
        pair_ids=pair_ids,
        pair=pair,
        visit=arrays.ints(table, "visit"),
        step=step,
        rank=rank,
        micro=micro,
        timestep=arrays.ints(table, "timestep"),
        train=arrays.is_train(table),
        difference=difference,
        sign=sign,
        steps=int(step.max()) + 1 if steps is None else steps,
        logged={n: arrays.floats(table, n) for n in LOGGED if n in table.column_names},
        excluded={reason: rows for reason, rows in excluded.items() if rows},
        train_timesteps=train_timesteps,
    )
    return found if _in_order(found) else _ordered(found)


def _in_order(found: Trajectory) -> bool:
    """By step, rank and micro-batch, as a recorder leaves the rows; then nothing is sorted."""
    falls = np.zeros(max(0, len(found.step) - 1), bool)
    tied = ~falls
    for key in (found.step, found.rank, found.micro):
        change = np.diff(key)
        falls |= tied & (change < 0)
        tied &= change == 0
    return not falls.any()


def _ordered(found: Trajectory) -> Trajectory:
    keys = (found.pair, found.train, found.micro, found.rank, found.step)
    order = np.lexsort(keys)
    rows = ("pair", "visit", "step", "rank", "micro", "timestep", "train", "sign")
    return Trajectory(
        **{
            **vars(found),
            **{name: getattr(found, name)[order] for name in rows},
            "difference": found.difference[:, order],
            "logged": {name: values[order] for name, values in found.logged.items()},
        }
    )


def nothing_left(total: int, excluded: dict[str, int]) -> str:
    """The sentence for a run none of whose rows can be used."""
    words = {
        "unknown_pair": "of pairs the store does not know",
        "wrong_models": "with another number of errors than run.json names models",
        "not_finite": "with an error that is not finite",
    }
    why = ", ".join(f"{excluded[key]} {text}" for key, text in words.items() if excluded.get(key))
    return (
        f"None of the run's {total} trajectory rows can be used ({why}); check that the run "
        "belongs to this store, or train it again at a lower learning rate or in float32."
    )
