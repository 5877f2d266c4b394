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
    behind = "true"
    if after is not None and after.score is None:
        behind, values = f"{score} IS NULL AND pair_id > ?", [*values, after.pair_id]
    elif after is not None:
        behind = f"({score} < ? OR {score} IS NULL OR ({score} = ? AND pair_id > ?))"
        values = [*values, after.score, after.score, after.pair_id]
    return fetch(
        con,
        f"SELECT * FROM queue WHERE {sql} AND {behind} ORDER BY {score} DESC NULLS LAST, pair_id"
        f" LIMIT {size}",
        *values,
    )


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
