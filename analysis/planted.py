"""Planted flips: known truth inside anybody's data."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toolkit.errors import InputError, StoreError
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.label_sets import ORIGINAL, planted_flips, write_label_set

_DECIDED = pa.array([0, 1], pa.float32())


def plant(labels: pa.Table, *, rate: float, seed: int) -> pa.Table:
    """The overlay (pair_id, label) that flips exactly round(rate * n) of n labels of 0 or 1.

    Which ones depends on (seed, pair_id) alone: not on the order of rows, so a store that was
    ingested anew gets the same flips. InputError for a rate outside 0..1.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"A share of flips lies between 0 and 1, not {rate}; try --rate 0.2.")
    ids = labels["pair_id"].to_pylist()
    values = np.asarray(labels["label"].to_pylist(), dtype=float)
    decided = np.flatnonzero((values == 0) | (values == 1))
    order = sorted(decided, key=lambda row: _rank(seed, ids[row]))
    chosen = sorted(order[: round(rate * len(decided))], key=lambda row: ids[row])
    return pa.table(
        {
            "pair_id": pa.array([ids[row] for row in chosen], pa.string()),
            "label": pa.array([1 - values[row] for row in chosen], pa.float32()),
        }
    )


def _rank(seed: int, pair_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{pair_id}".encode(), digest_size=16).digest()


def plant_in_store(
    store: Store, *, rate: float, seed: int, name: str, base: str = ORIGINAL
) -> tuple[int, int]:
    """Add a label set of planted flips; (flipped, labelled) pairs.

    The set is an overlay on the original labels, so one planted over another set carries that
    set's changes too; its recipe lists what was flipped.
    """
    labels = effective_labels(store, base)
    decided = int(pc.sum(pc.is_in(labels["label"], _DECIDED)).as_py() or 0)
    if not decided:
        raise InputError(
            f"{store.root} has no pair with a label of 0 or 1 to flip; ingest some first."
        )
    flips = plant(labels, rate=rate, seed=seed)
    carried = labels.filter(
        pc.and_(
            pc.invert(pc.is_in(labels["pair_id"], flips["pair_id"].combine_chunks())),
            pc.fill_null(pc.not_equal(labels["label"], labels["original_label"]), False),
        )
    ).select(["pair_id", "label"])
    overlay = pa.concat_tables([flips, carried.cast(flips.schema)]).sort_by("pair_id")
    recipe = {
        "kind": "planted",
        "rate": rate,
        "seed": seed,
        "base": base,
        "labelled": decided,
        "flipped": flips["pair_id"].to_pylist(),
    }
    write_label_set(store, name, overlay, recipe)
    return flips.num_rows, decided


def planted_count(store: Store, name: str) -> tuple[int, int]:
    """(flipped, labelled) pairs of a planted set: of all labels of 0 or 1 in the store.

    The recipe's own `rate` and `labelled` speak of the pairs the flips were drawn from, which by
    gap are only those with a gap. StoreError where the set planted none.
    """
    flips = planted_flips(store, name)
    if flips is None:
        raise StoreError(
            f"Label set {name!r} planted no flips; name one that `outvoted flip` made."
        )
    labels = effective_labels(store, name)
    counted = (
        pc.is_in(labels["pair_id"], pa.array(flips, pa.string())),
        pc.is_in(labels["label"], _DECIDED),
    )
    flipped, labelled = (int(pc.sum(one).as_py() or 0) for one in counted)
    return flipped, labelled
