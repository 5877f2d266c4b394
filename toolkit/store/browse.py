"""A run's queue under a condition: how many pairs, their histogram, and page after page by key.

Over the table `queue` that `toolkit.store.desk.make_queue` fills; conditions are those of
`toolkit.filters` over its columns (visits, confidence, stability, minority). A page begins where
the last one ended, so the thousandth costs what the first does.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from toolkit.filters import parse
from toolkit.store.desk import Bins, Order
from toolkit.store.filters import kinds_of, to_sql
from toolkit.store.query import Connection, fetch, quoted


@dataclass(frozen=True)
class Key:
    """Where a page ended: the score and pair_id of its last row."""

    score: float | None
    pair_id: str


def filtered_histogram(
    con: Connection, where: str | None = None, *, order: Order = "minority", number: int = 40
) -> Bins:
    """The score of the pairs that pass, in `number` equal bins over the whole queue's range."""
    sql, values = _condition(con, where)
    score = quoted(order)
    low, high = con.execute(f"SELECT min({score}), max({score}) FROM queue").fetchall()[0]
    low, high = (0.0, 1.0) if low is None else (float(low), float(high))
    width = (high - low) or 1.0
    rows = con.execute(
        f"SELECT CASE WHEN {score} IS NOT NULL THEN"  # least() passes over a null
        f" least(floor(({score} - ?) / ? * {number})::INTEGER, {number - 1}) END AS bin,"
        f" count(*) FROM queue WHERE {sql} GROUP BY bin",
        [low, width, *values],
    ).fetchall()
    counts, unknown = [0] * number, 0
    for place, pairs in rows:
        if place is None:
            unknown = int(pairs)
        else:
            counts[place] = int(pairs)
    return Bins(low, low + width, tuple(counts), unknown)


def page(
    con: Connection,
    where: str | None = None,
    *,
    after: Key | None = None,
    order: Order = "minority",
    size: int = 50,
) -> pa.Table:
    """The next `size` rows of the queue behind `after`: highest score first, unknown ones last."""
    sql, values = _condition(con, where)
    score = quoted(order)
    known, unknown = f"{score} IS NOT NULL", f"{score} IS NULL"
    if after is not None and after.score is not None:
        # The first comparison lets whole blocks of the ordered queue be passed over.
        known = f"{score} <= ? AND ({score} < ? OR pair_id > ?)"
    if after is not None and after.score is None:
        unknown = f"{score} IS NULL AND pair_id > ?"
    found = []
    if after is None or after.score is not None:
        key = [] if after is None else [after.score, after.score, after.pair_id]
        order_by = f"{score} DESC, pair_id"
        found.append(_rows(con, f"{sql} AND {known}", [*values, *key], order_by, size))
    if not found or found[0].num_rows < size:
        key = [after.pair_id] if after is not None and after.score is None else []
        left = size - sum(part.num_rows for part in found)
        found.append(_rows(con, f"{sql} AND {unknown}", [*values, *key], "pair_id", left))
    return pa.concat_tables(found)


def _rows(con: Connection, where: str, values: list[Any], order_by: str, size: int) -> pa.Table:
    sql = f"SELECT * FROM queue WHERE {where} ORDER BY {order_by} LIMIT {size}"
    return fetch(con, sql, *values)


def end_of(rows: pa.Table, order: Order = "minority") -> Key | None:
    """The key to hand to the next `page`; None after an empty one."""
    if not rows.num_rows:
        return None
    last: dict[str, Any] = rows.slice(rows.num_rows - 1).to_pylist()[0]
    return Key(last[order], last["pair_id"])


def _condition(con: Connection, where: str | None) -> tuple[str, list[Any]]:
    if where is None or not where.strip():
        return "true", []
    schema = fetch(con, "SELECT * FROM queue LIMIT 0").schema
    sql, values = to_sql(parse(where, kinds_of(schema)), schema)
    return f"({sql})", values
