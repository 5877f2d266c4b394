"""Views of the queue in SQL: their pairs numbered, and a page of them by key.

A view's pairs are numbered once (position 1, 2, ...), so that a page, a place or a neighbour is
found by key, without an OFFSET and without more than a page of rows in memory. The state of the
verdicts moves under a view; it is asked of the table `judged` each time.

Over the tables that `toolkit.store.queue.tables.make_queue` fills.
"""

from typing import Any

from toolkit.conditions import names, parse
from toolkit.errors import InputError
from toolkit.store.connection import Connection, fetch, literal, quoted
from toolkit.store.queue.columns import Column, made_as, pool, pool_of, within
from toolkit.store.queue.view import MINORITY, STATES, View

MOVING = ("verdict", "curators", "differ")
"""Columns that change while curators work."""


def check_view(columns: dict[str, Column], view: View) -> None:
    """InputError (one sentence) where a view names what is not there, or no condition."""
    for name in dict.fromkeys((view.order, *(one.column for one in view.ranges))):
        if name not in columns or columns[name].kind != "number":
            numbers = [c.name for c in columns.values() if c.kind == "number"]
            raise InputError(
                f"There is no column of numbers {name!r} here (columns: {', '.join(numbers[:40])});"
                " name one of them."
            )
    if view.state not in STATES:
        raise InputError(f"{view.state!r} is no state; name one of {', '.join(STATES)}.")
    if view.where.strip():
        parse(view.where, {name: c.kind for name, c in columns.items()}, "The condition")


def moves(view: View) -> bool:
    """Whether the view's numbers change with every verdict: its condition names one."""
    named = names(view.where, "The condition") if view.where.strip() else []
    return any(name in MOVING for name in [*named, view.order, *(r.column for r in view.ranges)])


def make_view(
    con: Connection, columns: dict[str, Column], view: View, *, anew: bool = False
) -> None:
    """Number the view's pairs, unless that was done before and is not to be done anew.

    Other cursors see the old numbers or the new ones, never none. InputError as of `check_view`.
    """
    check_view(columns, view)
    source = pool(con, columns, view, anew=anew)
    made = made_as(anew=anew)
    bounds, values = within(view)
    order = f"{quoted(view.order)} {'DESC' if view.descending else 'ASC'} NULLS LAST, nth"
    if view.descending and view.order == MINORITY:
        order = "nth"  # which is what it numbers
    numbered = (
        f"SELECT row_number() OVER () AS position, nth FROM (SELECT nth FROM {quoted(source)}"
    )
    con.execute(
        f"{made} {quoted(view.table)} AS {numbered} WHERE {bounds} ORDER BY {order})", values
    )


def drop_view(con: Connection, view: View) -> None:
    """Forget a view's numbers."""
    con.execute(f"DROP TABLE IF EXISTS {quoted(view.table)}")


def drop_pool(con: Connection, columns: dict[str, Column], view: View) -> None:
    """Forget which pairs passed the view's conditions."""
    if (name := pool_of(columns, view)) != "queue":
        con.execute(f"DROP TABLE IF EXISTS {quoted(name)}")


def _narrowed(state: str) -> str:
    """The join that leaves the pairs in a state of verdict."""
    if state == "any":
        return ""
    if state in ("open", "judged"):
        return f" {'ANTI' if state == 'open' else 'SEMI'} JOIN judged USING (nth)"
    test = "differ" if state == "differ" else f"verdict = {literal(state)}"
    return f" SEMI JOIN (SELECT nth FROM judged WHERE {test}) USING (nth)"


def _numbers(view: View) -> str:
    return quoted(view.table) + _narrowed(view.state)


def count(con: Connection, view: View) -> int:
    """Pairs in the view."""
    return _one(con, f"SELECT count(*) FROM {_numbers(view)}")


def count_all(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table, whatever their verdict."""
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)}")


def count_judged(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table that have a verdict."""
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)} SEMI JOIN judged USING (nth)")


def position(con: Connection, view: View, pair_id: str) -> int | None:
    """The pair's number in the view's table, or None where the view leaves it out."""
    nth = _first(con, "SELECT nth FROM queue WHERE pair_id = ?", [pair_id])
    return _first(con, f"SELECT position FROM {quoted(view.table)} WHERE nth = ?", [nth])


def place(con: Connection, view: View, pair_id: str, at: int | None = None) -> int | None:
    """Which pair of the view it is, counted from 1; None where the view leaves it out.

    `at`: its position, where that is known.
    """
    at = position(con, view, pair_id) if at is None else at
    if at is None or view.state == "any":
        return at
    if not _one(con, f"SELECT count(*) FROM {_numbers(view)} WHERE position = {at}"):
        return None
    return 1 + _one(con, f"SELECT count(*) FROM {_numbers(view)} WHERE position < {at}")


def neighbour(
    con: Connection, view: View, after: int, *, back: bool = False, open_only: bool = False
) -> str | None:
    """The nearest pair of the view past (or before) a position; None at the end.

    `open_only`: the nearest without a verdict, even where the view shows judged pairs too.
    """
    among = _numbers(view)
    if open_only and view.state != "open":
        among = f"(SELECT * FROM {among}) ANTI JOIN judged USING (nth)"
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = f"SELECT nth FROM {among} WHERE position {sign} ? ORDER BY position {way} LIMIT 1"
    return _first(con, "SELECT pair_id FROM queue WHERE nth = ?", [_first(con, sql, [after])])


def rows_of_page(
    con: Connection, view: View, after: int, size: int, *, back: bool = False
) -> list[tuple[int, str]]:
    """(position, pair_id) of the next `size` pairs past a position (or before it), in order."""
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = f"SELECT nth, position FROM {_numbers(view)} WHERE position {sign} ?"
    at = dict(con.execute(f"{sql} ORDER BY position {way} LIMIT ?", [after, size]).fetchall())
    sql = "SELECT nth, pair_id FROM queue WHERE nth IN (SELECT unnest(?))"
    rows = con.execute(sql, [list(at)]).fetchall()
    return sorted((int(at[nth]), str(pair_id)) for nth, pair_id in rows)


def ids(con: Connection, view: View) -> list[str]:
    """Every pair_id of the view, in order; for verdicts on the whole view."""
    sql = f"SELECT q.pair_id FROM (SELECT * FROM {_numbers(view)}) v JOIN queue q USING (nth)"
    return list(fetch(con, f"{sql} ORDER BY v.position")[0].to_pylist())


def _one(con: Connection, sql: str) -> int:
    return int(_first(con, sql) or 0)


def _first(con: Connection, sql: str, values: list[Any] | None = None) -> Any:
    """The first value of the first row, or None. Reads to the end: DuckDB asks for it."""
    rows = con.execute(sql, values or []).fetchall()
    return rows[0][0] if rows else None
