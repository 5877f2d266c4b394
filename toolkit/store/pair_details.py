"""Everything a store knows about one pair, looked up by its id.

Each function reads only the parts it needs; with a million pairs a look-up scans a column of ids
once. Functions that take a connection take one of `toolkit.store.connect`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toolkit.files.atomic import parts
from toolkit.files.remote import readable
from toolkit.store.connection import (
    Connection,
    connect,
    fetch,
    first_value,
    overlay_sql,
    parquet,
)
from toolkit.store.label_sets import ORIGINAL, label_sets
from toolkit.store.layout import Store
from toolkit.store.runs import finding_columns, finding_file, findings, window_groups
from toolkit.store.scores import scorers_in


@dataclass(frozen=True)
class Value:
    """One number, text or flag that a finding has on a pair."""

    run: str
    finding: str
    column: str
    value: Any
    lower: float | None
    """Share of the finding's pairs whose value is smaller; None for a text, a flag or a null."""


def pair_row(con: Connection, pair_id: str) -> dict[str, Any] | None:
    """Every column of the pair as its source gave it; None where the store has no such pair."""
    rows = fetch(con, "SELECT * FROM pairs WHERE pair_id = ? LIMIT 1", pair_id).to_pylist()
    return dict(rows[0]) if rows else None


def first_pair(con: Connection) -> str | None:
    """The smallest pair_id; None in an empty store."""
    return first_value(con, "SELECT min(pair_id) FROM pairs")


def labels_of_pair(store: Store, pair: dict[str, Any]) -> dict[str, float | None]:
    """The pair's label in every label set, `original` first. `pair`: of `pair_row`."""
    labels: dict[str, float | None] = {}
    with connect(store) as con:
        for name in label_sets(store):
            labels[name] = pair["label"]
            if name == ORIGINAL:
                continue
            overlay, whole = overlay_sql(store, name)
            labels[name] = None if whole else pair["label"]
            sql = f"SELECT label FROM {overlay} WHERE pair_id = ?"
            for (label,) in con.execute(sql, [pair["pair_id"]]).fetchall():
                labels[name] = label
    return labels


def votes_on(con: Connection, pair: dict[str, Any]) -> list[dict[str, Any]]:
    """Votes on the pair, and on others of the same prompt and images, turned to its order.

    The columns of VOTES, `choice` for this pair's image_0. At most 200.
    """
    sql = (
        "SELECT v.* REPLACE (CASE WHEN p.image_0 = ? THEN v.choice ELSE 1 - v.choice END AS choice)"
        " FROM votes v JOIN pairs p USING (pair_id) WHERE p.comparison_id = ?"
        " ORDER BY v.pair_id <> ?, v.axis NULLS FIRST, v.time NULLS LAST, v.annotator LIMIT 200"
    )
    keys = (pair["image_0"], pair["comparison_id"], pair["pair_id"])
    return list(fetch(con, sql, *keys).to_pylist())


def siblings(con: Connection, pair: dict[str, Any], limit: int = 12) -> list[dict[str, Any]]:
    """Other pairs of the same prompt: pair_id, label, same_images."""
    sql = (
        "SELECT pair_id, label, comparison_id = ? AS same_images FROM pairs"
        f" WHERE prompt = ? AND pair_id <> ? ORDER BY same_images DESC, pair_id LIMIT {limit}"
    )
    keys = (pair["comparison_id"], pair["prompt"], pair["pair_id"])
    return list(fetch(con, sql, *keys).to_pylist())


@dataclass(frozen=True)
class Scores:
    """A scorer's two scores on a pair; None where there is none, and why."""

    scorer: str
    score_0: float | None
    score_1: float | None
    reason: str


def scores_on(store: Store, pair: dict[str, Any]) -> list[Scores]:
    """The pair's scores by every scorer with rows in the store, by scorer."""
    scores = []
    with connect(store) as con:
        for scorer in scorers_in(store):
            files = parquet(parts(store.folder("scores", scorer)))
            sql = (
                f"SELECT image_id, score, reason FROM {files} WHERE image_id IN (?, ?)"
                " AND (prompt IS NULL OR prompt = ?) ORDER BY score IS NOT NULL, score DESC"
            )
            keys = (pair["image_0"], pair["image_1"], pair["prompt"])
            rows = {row["image_id"]: row for row in fetch(con, sql, *keys).to_pylist()}
            sides = [rows.get(pair[slot], {}) for slot in ("image_0", "image_1")]
            reasons = dict.fromkeys(side["reason"] for side in sides if side.get("reason"))
            first, second = (side.get("score") for side in sides)
            scores.append(Scores(scorer, first, second, "; ".join(reasons)))
    return scores


def findings_on(store: Store, run: str, pair_id: str) -> list[Value]:
    """What every finding of a run says about the pair, in the order of findings and columns.

    Of each only the pair's own row group is read whole, and of the rest the columns that rank it.
    Columns of other windows than the finding's own are named COLUMN_WINDOW.
    """
    values: list[Value] = []
    row: int | None = None
    for name in findings(store, run):
        with pq.ParquetFile(readable(finding_file(store, run, name))) as file:
            if "pair_id" not in file.schema_arrow.names:
                continue
            groups = list(window_groups(file.metadata).values())
            row, there = _row_of(file, groups[0], pair_id, row)
            if not there or row is None:
                continue
            named: dict[tuple[int, ...], dict[str, str]] = {}
            for alias, at in finding_columns(store, run, name).items():
                named.setdefault(at.row_groups, {}).setdefault(alias, at.field.name)
            for rows, columns in named.items():
                values += _values(file, rows, row, (run, name), columns)
    return values


def _row_of(
    file: pq.ParquetFile, groups: tuple[int, ...], pair_id: str, guess: int | None
) -> tuple[int | None, bool]:
    """The pair's row in a window, and True; the guess and False where the finding has no such pair.

    analyze writes the same pairs in the same order, so the last finding's row is the first guess.
    """
    if guess is not None and _row_at(file, groups, guess).get("pair_id") == pair_id:
        return guess, True
    ids = file.read_row_groups(list(groups), columns=["pair_id"])[0]
    place = pc.index(ids, pa.scalar(pair_id, pa.string())).as_py()
    return (guess, False) if place < 0 else (place, True)


def _row_at(file: pq.ParquetFile, groups: tuple[int, ...], row: int) -> dict[str, Any]:
    for group in groups:
        size = file.metadata.row_group(group).num_rows
        if row < size:
            return dict(file.read_row_group(group).slice(row, 1).to_pylist()[0])
        row -= size
    return {}


def _values(
    file: pq.ParquetFile,
    groups: tuple[int, ...],
    row: int,
    origin: tuple[str, str],
    columns: Mapping[str, str],
) -> list[Value]:
    """The pair's values in one window. `columns`: the name of each -> its name in the file."""
    values = _row_at(file, groups, row)
    ranked = sorted(
        name for name in set(columns.values()) if _is_score(file, name) and _known(values[name])
    )
    lower: dict[str, float] = {}
    read = file.read_row_groups(list(groups), columns=ranked)
    for column in ranked:
        scores = read[column].to_numpy()  # null as NaN, which is neither smaller nor known
        known = len(scores) - int(np.isnan(scores).sum())
        lower[column] = int((scores < values[column]).sum()) / known
    return [
        Value(*origin, name, values[own] if _known(values[own]) else None, lower.get(own))
        for name, own in columns.items()
    ]


def _is_score(file: pq.ParquetFile, column: str) -> bool:
    return bool(pa.types.is_floating(file.schema_arrow.field(column).type))


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and value != value)


def trajectory_bytes(store: Store, run: str) -> int:
    """Size of a run's trajectory on disk."""
    return sum(file.stat().st_size for file in store.trajectory(run))
