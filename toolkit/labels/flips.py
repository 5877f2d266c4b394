"""Planted flips: known wrong labels, to measure what finds them.

Uniformly at random, or where people err most: by the gap of two scores.
"""

import hashlib
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from toolkit.errors import InputError, StoreError
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.preference import Floats, is_decided, reverse, values_of
from toolkit.schema import SOURCE_PREFIX
from toolkit.store import Store
from toolkit.store.connection import connect, effective_labels, fetch, quoted
from toolkit.store.label_sets import ORIGINAL, planted_flips
from toolkit.store.runs import finding_columns, read_findings


def plant_flips(
    store: Store,
    name: str,
    base: str = ORIGINAL,
    *,
    rate: Annotated[float, "Share of the labels to flip.", (0, 1)] = 0.2,
    seed: Annotated[int, "Which pairs: the same seed flips the same pairs.", (0, 2**63 - 1)] = 0,
    by_gap: Annotated[
        str | None,
        "Flip more often where the gap is small: a column NAME, or NAME for NAME_0 - NAME_1.",
    ] = None,
    gap_scale: Annotated[
        float | None,
        "Gap at which flips are e times rarer; else the median gap.",
        (0, 1e12),
    ] = None,
    run: Annotated[str | None, "Read the gap's column from a finding of this run."] = None,
    finding: Annotated[str, "The finding to read it from."] = "minority",
) -> Made:
    """Reverse round(rate * n) of the n labels that are no ties (with `by_gap`: and have a gap).

    A graded label y becomes 1 - y.

    Which pairs are flipped depends on (seed, pair_id) only, not on the order of rows. By gap, a
    pair's chance falls as exp(-|gap| / gap_scale): drawn without replacement with these weights by
    keys u^(1/w) (Efraimidis and Spirakis 2006). The recipe lists the flipped pairs. InputError
    without a label to flip, or where a column or a number is wrong.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"The share of flips must be from 0 to 1, not {rate}; try --rate 0.2.")
    labels = effective_labels(store, base)
    ids, label = labels["pair_id"].to_pylist(), values_of(labels["label"])
    recipe: dict[str, Any] = {"kind": "planted", "rate": rate, "seed": seed}
    note = f"seed {seed}"
    if by_gap is None:
        order = _uniform(store, ids, label, seed)
    else:
        gap = _gaps(store, ids, by_gap, run, finding)
        order, scale = _by_gap(store, ids, label, seed, gap, by_gap, gap_scale)
        recipe["gap"] = {"column": by_gap, "scale": scale, "run": run}
        recipe["gap"]["finding"] = finding if run else None
        note = f"most where {by_gap} is small, {note}"
    flips = sorted(order[: round(rate * len(order))], key=lambda row: ids[row])
    flipped = [ids[row] for row in flips]
    recipe |= {"labelled": len(order), "flipped": flipped}
    weight = values_of(labels["label_weight"])  # as many votes are behind the wrong label
    changes = changes_of(flipped, reverse(label[flips]), weight[flips])
    return write_changes(store, name, base, changes, recipe, pairs=len(order), note=note)


def _uniform(store: Store, ids: list[str], label: Floats, seed: int) -> list[int]:
    """The rows whose label prefers an image, in the order in which they are flipped."""
    rows = np.flatnonzero(is_decided(label)).tolist()
    if not rows:
        raise InputError(
            f"{store.root} has no label that prefers an image, so none to flip; ingest some first."
        )
    return sorted(rows, key=lambda row: _digest(seed, ids[row], 16))


def _by_gap(
    store: Store,
    ids: list[str],
    label: Floats,
    seed: int,
    gap: Floats,
    column: str,
    scale: float | None,
) -> tuple[list[int], float]:
    """The rows with a preference and a gap, in the order in which they are flipped; the scale that
    was used."""
    rows = np.flatnonzero(is_decided(label) & np.isfinite(gap))
    if not len(rows):
        raise InputError(
            f"No pair of {store.root} has both a preference and a number in {column!r}; "
            "name another --by-gap."
        )
    scale = scale if scale is not None else float(np.median(gap[rows])) or 1.0
    if not 0 < scale <= 1e12:
        raise InputError(f"--gap-scale is {scale}; it must be more than 0, and 1e12 at most.")
    chance = np.exp(-gap[rows] / scale)
    draws = [(int.from_bytes(_digest(seed, ids[row], 8), "big") + 0.5) / 2**64 for row in rows]
    # The logarithm of the key, so that weights far below 1 do not underflow.
    keys = np.log(draws) / np.maximum(chance, 1e-300)
    return rows[np.argsort(keys)[::-1]].tolist(), scale


def planted_count(store: Store, name: str) -> tuple[int, int]:
    """(flipped, labelled) pairs of a planted set: of all labels that prefer an image.

    The recipe's own `rate` and `labelled` are about the pairs that could be flipped, which by gap
    are only those with a gap. StoreError where the set planted none.
    """
    flips = planted_flips(store, name)
    if flips is None:
        raise StoreError(
            f"Label set {name!r} has no planted flips; name one that `outvoted flip` made."
        )
    labels = effective_labels(store, name)
    there = set(labels["pair_id"].to_pylist())
    return sum(k in there for k in flips), int(is_decided(values_of(labels["label"])).sum())


def _digest(seed: int, pair_id: str, size: int) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{pair_id}".encode(), digest_size=size).digest()


def _gaps(store: Store, ids: list[str], column: str, run: str | None, finding: str) -> Floats:
    """|gap| of every pair, NaN where it is unknown."""
    with connect(store) as con:
        if run is not None:
            columns = ["pair_id", *finding_columns(store, run, finding)]
            con.register("finding", read_findings(store, run, finding, columns))
        table = "finding" if run is not None else "pairs"
        columns = fetch(con, f"SELECT * FROM {table} LIMIT 0").column_names
        expression = _gap_expression(column, columns)
        if expression is None:
            raise InputError(
                f"{'Finding ' + repr(finding) if run else 'The pairs'} have no column {column!r} "
                f"(columns: {', '.join(columns)}); name one of them with --by-gap."
            )
        con.register("wanted", pa.table({"nth": range(len(ids)), "pair_id": ids}))
        rows = fetch(
            con,
            f"SELECT gap FROM wanted LEFT JOIN (SELECT pair_id, abs({expression}) AS gap "
            f"FROM {table}) USING (pair_id) ORDER BY nth",
        )
    return values_of(rows["gap"])


def _gap_expression(column: str, columns: list[str]) -> str | None:
    for name in (column, SOURCE_PREFIX + column):
        if name in columns:
            return f"TRY_CAST({quoted(name)} AS DOUBLE)"
        sides = [f"{name}_0", f"{name}_1"]
        if all(side in columns for side in sides):
            first, second = (f"TRY_CAST({quoted(side)} AS DOUBLE)" for side in sides)
            return f"{first} - {second}"
    return None


FLIP = LabelMaker(
    "flip", "Plant known flips: reverse a share of the labels.", plant_flips, "flip20"
)
