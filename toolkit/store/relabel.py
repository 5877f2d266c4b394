"""Label sets made from what the store holds: votes, verdicts, a scorer's gaps, or an array by row.

Every set is an overlay on the original labels; one made over another set (`base`) carries that
set's changes too.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from toolkit.errors import InputError
from toolkit.pairs import SOURCE_PREFIX
from toolkit.store.connection import (
    add_labels,
    connect,
    effective_labels,
    fetch,
    quoted,
    read_pairs,
)
from toolkit.store.label_sets import ORIGINAL, write_label_set
from toolkit.store.layout import Store
from toolkit.store.runs import read_findings
from toolkit.store.verdicts import PREFERENCE, resolve

_CHANGE = pa.schema([("pair_id", pa.string()), ("label", pa.float32())])


@dataclass(frozen=True)
class Made:
    """A new set: how many pairs it speaks about, and how many labels differ from the base's."""

    name: str
    spoken: int
    changed: int


def majority_set(store: Store, name: str, *, base: str = ORIGINAL, min_votes: int = 2) -> Made:
    """What most votes on a comparison say, whichever way round its pairs show the two images.

    A tie vote counts half to either side; even votes give .5. Comparisons with fewer than
    `min_votes` votes keep the base's label. InputError where none has as many.
    """
    if min_votes < 1:
        raise InputError(f"--min-votes is {min_votes}; it must be 1 or more.")
    with connect(store) as con:
        changes = fetch(
            con,
            """
            WITH turned AS (
                SELECT p.comparison_id,
                    CASE WHEN p.image_0 <= p.image_1 THEN v.choice ELSE 1 - v.choice END AS choice
                FROM votes v JOIN pairs p USING (pair_id)
                WHERE v.choice IS NOT NULL
            ), tally AS (
                SELECT comparison_id, sum(choice - 0.5) AS lean
                FROM turned GROUP BY comparison_id HAVING count(*) >= ?
            )
            SELECT p.pair_id, CAST(CASE
                WHEN t.lean = 0 THEN 0.5
                WHEN (t.lean > 0) = (p.image_0 <= p.image_1) THEN 1 ELSE 0 END AS FLOAT) AS label
            FROM pairs p JOIN tally t USING (comparison_id)
            """,
            min_votes,
        )
    if not changes.num_rows:
        raise InputError(
            f"No pair of {store.root} has {min_votes} votes; add some with `outvoted ingest votes`,"
            " or lower --min-votes."
        )
    return _written(store, name, base, changes, {"kind": "majority", "min_votes": min_votes})


def curated_set(store: Store, name: str, *, base: str = ORIGINAL) -> Made:
    """The published verdicts as labels: a preference or tie as such, drop as no label.

    Unsure, and curators who are split, leave the base's label. The recipe names the verdicts that
    were there, so that a set made later, of more verdicts, needs another name.
    """
    outcomes = [row for row in resolve(store).to_pylist() if row["choice"] != "unsure"]
    if not outcomes:
        raise InputError(
            f"{store.root} has no published verdict that decides; give some: `outvoted app "
            f"{store.root}`."
        )
    changes = pa.Table.from_pylist(
        [{"pair_id": row["pair_id"], "label": PREFERENCE.get(row["choice"])} for row in outcomes],
        schema=_CHANGE,
    )
    told = "\n".join(sorted(row["verdict_id"] for row in outcomes))
    verdicts = {"count": len(outcomes), "sha256": hashlib.sha256(told.encode()).hexdigest()}
    return _written(store, name, base, changes, {"kind": "curated", "verdicts": verdicts})


def imported_set(store: Store, name: str, array: str | Path, *, base: str = ORIGINAL) -> Made:
    """Labels from a .npy, one a pair in the store's order: 1, 0, .5, or NaN for no label."""
    path = Path(array)
    try:
        data = path.read_bytes()
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise InputError(
            f"{path} cannot be read as a .npy array ({str(problem).splitlines()[0]}); name one."
        ) from problem
    ids = read_pairs(store, ["pair_id"])
    if labels.shape != (ids.num_rows,) or labels.dtype.kind not in "iufb":
        raise InputError(
            f"{path} holds {labels.dtype} of shape {labels.shape}, and the store has "
            f"{ids.num_rows:,} pairs; give one number a pair, in the store's order."
        )
    labels = labels.astype(np.float32)
    wrong = np.flatnonzero(~(np.isnan(labels) | np.isin(labels, (0, 0.5, 1))))
    if len(wrong):
        raise InputError(
            f"{path} holds {labels[wrong[0]]:g} in row {wrong[0]:,}; a label is 1, 0, .5, or NaN "
            "for none."
        )
    values = pa.array(labels, from_pandas=True)
    changes = pa.table({"pair_id": ids[0].combine_chunks(), "label": values})
    recipe = {"kind": "imported", "sha256": hashlib.sha256(data).hexdigest()}
    return _written(store, name, base, changes, recipe)


def plant_by_gap(
    store: Store,
    name: str,
    *,
    rate: float,
    seed: int,
    column: str,
    scale: float | None = None,
    run: str | None = None,
    finding: str = "minority",
    base: str = ORIGINAL,
) -> Made:
    """Flips where people err most: a pair's chance falls as exp(-|gap| / scale).

    Exactly round(rate * n) of the n pairs with a label of 0 or 1 and a gap are flipped, drawn
    without replacement with those weights by keys u^(1/w) (Efraimidis and Spirakis 2006); u is a
    hash of (seed, pair_id), so the order of rows says nothing. `column` is one of the pairs' (or,
    with `run`, of its finding), or a NAME for NAME_0 - NAME_1. `scale`: the median |gap| if None.
    """
    if not 0 <= rate <= 1:
        raise InputError(f"A share of flips lies between 0 and 1, not {rate}; try --rate 0.2.")
    labels = effective_labels(store, base)
    gaps = _gaps(store, column, run, finding)
    ids = labels["pair_id"].to_pylist()
    gap = np.array([gaps.get(pair_id, math.nan) for pair_id in ids])
    label = np.asarray(labels["label"].to_pylist(), float)
    able = np.flatnonzero(np.isin(label, (0, 1)) & np.isfinite(gap))
    if not len(able):
        raise InputError(
            f"No pair of {store.root} has both a label of 0 or 1 and a number in {column!r}; name "
            "another --by-gap."
        )
    width = scale if scale is not None else float(np.median(gap[able])) or 1.0
    if not width > 0:
        raise InputError(f"--gap-scale is {width}; it must be more than 0.")
    chance = np.exp(-gap[able] / width)
    draws = np.array([_uniform(seed, ids[row]) for row in able])
    # log of the key, for weights far below 1
    order = able[np.argsort(np.log(draws) / np.maximum(chance, 1e-300))[::-1]]
    flips = sorted(order[: round(rate * len(able))].tolist(), key=lambda row: ids[row])
    changes = pa.table(
        {"pair_id": [ids[row] for row in flips], "label": 1 - label[flips]}, schema=_CHANGE
    )
    recipe = {
        "kind": "planted",
        "rate": rate,
        "seed": seed,
        "base": base,
        "labelled": len(able),
        "gap": {"column": column, "scale": width, "run": run, "finding": finding if run else None},
        "flipped": [ids[row] for row in flips],
    }
    return _written(store, name, base, changes, recipe)


def _uniform(seed: int, pair_id: str) -> float:
    digest = hashlib.blake2b(f"{seed}\x1f{pair_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def _gaps(store: Store, column: str, run: str | None, finding: str) -> dict[str, float]:
    """|gap| by pair_id."""
    with connect(store) as con:
        if run is not None:
            con.register("told", read_findings(store, run, finding))
        table = "told" if run is not None else "pairs"
        found = fetch(con, f"SELECT * FROM {table} LIMIT 0").column_names
        expression = _gap_expression(column, found)
        if expression is None:
            raise InputError(
                f"{'Finding ' + repr(finding) if run else 'The pairs'} have no column {column!r} "
                f"(columns: {', '.join(found)}); name one of them with --by-gap."
            )
        rows = fetch(con, f"SELECT pair_id, abs({expression}) AS gap FROM {table}")
    return {
        pair_id: gap
        for pair_id, gap in zip(*(c.to_pylist() for c in rows.columns), strict=True)
        if gap is not None
    }


def _gap_expression(column: str, found: list[str]) -> str | None:
    for name in (column, SOURCE_PREFIX + column):
        if name in found:
            return f"TRY_CAST({quoted(name)} AS DOUBLE)"
        sides = [f"{name}_0", f"{name}_1"]
        if all(side in found for side in sides):
            first, second = (f"TRY_CAST({quoted(side)} AS DOUBLE)" for side in sides)
            return f"{first} - {second}"
    return None


def _written(store: Store, name: str, base: str, changes: pa.Table, recipe: dict[str, Any]) -> Made:
    """The overlay of `changes` over `base`: what differs from the original, by pair_id."""
    with connect(store) as con:
        add_labels(con, store, base)
        con.register("changes", changes)
        told = fetch(
            con,
            """
            SELECT l.pair_id, CAST(CASE WHEN c.pair_id IS NULL THEN l.label ELSE c.label END
                AS FLOAT) AS label, l.original_label, l.label AS base_label
            FROM labelled l LEFT JOIN changes c USING (pair_id)
            ORDER BY l.pair_id
            """,
        )
        con.register("told", told)
        overlay = fetch(
            con,
            "SELECT pair_id, label FROM told WHERE label IS DISTINCT FROM original_label"
            " ORDER BY pair_id",
        )
        changed = con.execute(
            "SELECT count(*) FROM told WHERE label IS DISTINCT FROM base_label"
        ).fetchall()[0][0]
    write_label_set(store, name, overlay, {"base": base, **recipe})
    return Made(name, changes.num_rows, int(changed))
