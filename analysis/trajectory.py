"""The trajectory as arrays: ell under any label set, and the part of the run of each row.

Errors are stored by image slot, so another label set only changes the sign of ell:

    difference = (err_ref_0 - err_ref_1) - (err_0 - err_1)      float32, per model
    ell        = +difference where the label is 1, -difference where it is 0   (Eq. 10)

A `Trajectory` holds some rows of a run: all of them for a few pairs (`load`), or the next million
of a run that does not fit into memory (`analysis.trajectory_stream`).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from toolkit import minority, preference
from toolkit.errors import StoreError
from toolkit.minority import timestep_bin

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


def usable(table: pa.Table, models: int) -> tuple[pa.Table, Floats, dict[str, int]]:
    """The rows that can be used, their `difference`, and how many are left out, by reason.

    Left out are rows of pairs the store does not know (`known`), visits whose caption was dropped
    (they say nothing about the label), rows with another number of errors than models, and rows
    with an error that is not finite.
    """
    out: dict[str, int] = {}
    table = keep(table, table["known"], "unknown_pair", out)
    if "captioned" in table.column_names:
        table = keep(table, pc.fill_null(table["captioned"], True), "no_caption", out)
    table = keep(table, whole(table, models), "wrong_models", out)
    by_slot = difference(table, models)
    finite = np.isfinite(by_slot).all(axis=0)
    table = keep(table, finite, "not_finite", out)
    return table, by_slot[:, finite] if out["not_finite"] else by_slot, out


def keep(table: pa.Table, mask: pa.ChunkedArray | Mask, why: str, out: dict[str, int]) -> pa.Table:
    """The rows of the mask; how many are left out goes into `out[why]`."""
    chosen = np.asarray(mask)
    out[why] = int(len(chosen) - chosen.sum())
    return table.filter(pa.array(chosen)) if out[why] else table


def whole(table: pa.Table, models: int) -> pa.ChunkedArray:
    """Which rows have one error per model, for both images."""
    lengths = [pc.equal(pc.list_value_length(table[n]), models) for n in ("err_0", "err_1")]
    return pc.fill_null(pc.and_(*lengths), False)


def difference(table: pa.Table, models: int) -> Floats:
    """(M, N) float32 by image slot, in the order of operations of `toolkit.minority.ell`."""
    slots = [_flat(table, name).reshape(-1, models).T for name in ("err_0", "err_1")]
    references = [floats(table, name) for name in ("err_ref_0", "err_ref_1")]
    by_slot: Floats = minority.ell(references[0], references[1], slots[0], slots[1])
    return np.ascontiguousarray(by_slot)


def _flat(table: pa.Table, name: str) -> Floats:
    flat = pc.list_flatten(table[name]).cast(pa.float32())
    return np.asarray(flat.to_numpy(), np.float32)


def floats(table: pa.Table, name: str) -> Floats:
    """(N,) float32, null as NaN."""
    return np.asarray(table[name].cast(pa.float32()).to_numpy(), np.float32)


def ints(table: pa.Table, name: str, missing: int = -1) -> Ints:
    """(N,) int64, null as `missing`."""
    return np.asarray(pc.fill_null(table[name].cast(pa.int64()), missing).to_numpy(), np.int64)


def is_train(table: pa.Table) -> Mask:
    """(N,) True for a visit, False for a probe; all True where the table does not say."""
    if "kind" not in table.column_names:
        return np.ones(table.num_rows, bool)
    return np.asarray(pc.equal(table["kind"], "train").to_numpy(), bool)


def numbers(values: pa.ChunkedArray) -> Floats:
    """A column as float64, null as NaN."""
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def coded(table: pa.Table, name: str) -> tuple[npt.NDArray[np.str_], Ints]:
    """The distinct strings of a column, sorted, and each row's position among them."""
    encoded = table[name].combine_chunks().dictionary_encode()
    names = np.asarray(encoded.dictionary.to_pylist(), dtype=np.str_)
    by_name = np.argsort(names)
    place = np.empty(len(names), np.int64)
    place[by_name] = np.arange(len(names))
    return names[by_name], place[np.asarray(encoded.indices.to_numpy(), np.int64)]


def unrepeated(keys: Sequence[npt.NDArray], step: Ints) -> Ints:
    """Rows to keep, ascending: of those alike in every key the one of the latest step."""
    order = np.lexsort((-step, *keys))
    same = np.ones(len(order), bool)
    same[:1] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    return np.sort(order[~same])


def as_table(schema: pa.Schema, columns: Sequence[npt.NDArray | pa.Array]) -> pa.Table:
    """Arrays as a table of the schema, NaN as null; two columns at a time."""

    def made(values: npt.NDArray | pa.Array, kind: pa.Field) -> pa.Array:
        if isinstance(values, pa.Array):
            return values
        return pa.array(values, kind.type, from_pandas=values.dtype.kind == "f")

    with ThreadPoolExecutor(2) as pool:
        arrays = list(pool.map(made, columns, schema))
    if len(columns) != len(schema):
        raise ValueError(f"{len(columns)} columns for a schema of {len(schema)}")
    return pa.Table.from_arrays(arrays, schema=schema)


COLUMNS = (
    "pair_id", "visit", "draw", "step", "rank", "micro", "kind", "timestep",
    "captioned",
    "err_ref_0", "err_ref_1", "err_0", "err_1",
)  # fmt: skip
"""The columns of a row, next to its label."""

LOGGED = ("label", "confidence", "stability", "minority", "weight")
"""What training logged next to the errors; compared or drawn, never needed."""

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
"""The share of the run's steps that a window covers; probes are anywhere, and `both` is `late`
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
    reference: Floats | None = None
    """(N,) float32 err_ref_0 - err_ref_1; None: not known."""

    @property
    def ell(self) -> Floats:
        """(M, N) float32 under the label set; NaN for a pair without a preference in it."""
        return self.difference * self.sign

    @cached_property
    def part(self) -> Ints:
        """(N,) the part of each row, 0 to PARTS - 1."""
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
        """(N,) bin of the noise schedule; a row without its timestep is in bin 0."""
        known = np.maximum(self.timestep, 0)
        return timestep_bin(known, bins, self.train_timesteps)  # type: ignore[no-any-return]


def load(
    table: pa.Table, models: Sequence[str], *, train_timesteps: int = 1000, steps: int | None = None
) -> Trajectory:
    """Rows of `read_trajectory` (COLUMNS, set_label, known) as arrays, all in memory.

    `steps` of the whole run where the table is a piece of it. Left out and counted: what
    `usable` leaves out, and rows met before (a run that was resumed writes some twice, to
    the same bits). StoreError where nothing is left.
    """
    total = table.num_rows
    table, difference, out = usable(table, len(models))
    if not table.num_rows:
        raise StoreError(nothing_left(total, out))
    pair_ids, pair = coded(table, "pair_id")
    label = floats(table, "set_label")
    sign = preference.sign(label).astype(np.float32)
    draw, visit = ints(table, "draw"), ints(table, "visit")
    train = is_train(table)
    step = ints(table, "step")
    kept = unrepeated([draw, visit, pair, train, np.where(train, 0, step)], step)
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
    step, rank = ints(table, "step"), ints(table, "rank", 0)
    micro = ints(table, "micro")
    micro = np.where(micro < 0, step, micro)
    rows = Trajectory(
        models=models,
        pair_ids=pair_ids,
        pair=pair,
        visit=ints(table, "visit"),
        step=step,
        rank=rank,
        micro=micro,
        timestep=ints(table, "timestep"),
        train=is_train(table),
        difference=difference,
        sign=sign,
        steps=int(step.max()) + 1 if steps is None else steps,
        logged={n: floats(table, n) for n in LOGGED if n in table.column_names},
        excluded={reason: rows for reason, rows in excluded.items() if rows},
        train_timesteps=train_timesteps,
        reference=floats(table, "err_ref_0") - floats(table, "err_ref_1"),
    )
    return rows if _in_order(rows) else _ordered(rows)


def _in_order(rows: Trajectory) -> bool:
    """By step, rank and micro-batch, as a recorder leaves the rows; then nothing is sorted."""
    falls = np.zeros(max(0, len(rows.step) - 1), bool)
    tied = ~falls
    for key in (rows.step, rows.rank, rows.micro):
        change = np.diff(key)
        falls |= tied & (change < 0)
        tied &= change == 0
    return not falls.any()


def _ordered(chunk: Trajectory) -> Trajectory:
    keys = (chunk.pair, chunk.train, chunk.micro, chunk.rank, chunk.step)
    order = np.lexsort(keys)
    rows = ("pair", "visit", "step", "rank", "micro", "timestep", "train", "sign", "reference")
    return Trajectory(
        **{
            **vars(chunk),
            **{name: getattr(chunk, name)[order] for name in rows},
            "difference": chunk.difference[:, order],
            "logged": {name: values[order] for name, values in chunk.logged.items()},
        }
    )


def nothing_left(total: int, excluded: dict[str, int]) -> str:
    """The sentence for a run none of whose rows can be used."""
    reasons = {
        "unknown_pair": ("of pairs the store does not know", "name the store it was trained on"),
        "wrong_models": (
            "with another number of errors than run.json names models",
            'correct "models" in run.json: the names in the order of each row\'s errors',
        ),
        "no_caption": ("whose caption was dropped", "lower caption_dropout in the recipe"),
        "not_finite": (
            "with an error that is not finite",
            "train it again at a lower learning rate or in float32",
        ),
    }
    known = [(excluded[key], *reasons[key]) for key in reasons if excluded.get(key)]
    why = ", ".join(f"{count} {words}" for count, words, _ in known)
    advice = "; ".join(remedy for _, _, remedy in sorted(known, reverse=True))
    return f"None of the run's {total} trajectory rows can be used ({why}): {advice}."
