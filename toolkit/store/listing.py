"""Views of the queue in SQL: what they can name, their pairs numbered, and a page of them by key.

A view's pairs are numbered once (position 1, 2, ...), so that a page, a place or a neighbour is
found by key, without an OFFSET and without more than a page of rows in memory. The state of the
verdicts moves under a view; it is asked of the table `judged` each time.

Over the tables that `toolkit.store.desk.make_queue` fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import InputError
from toolkit.filters import Kind, names, parse
from toolkit.pairs import SOURCE_PREFIX
from toolkit.store.filters import kinds_of, to_sql
from toolkit.store.layout import Store
from toolkit.store.query import Connection, fetch, literal, quoted
from toolkit.store.runs import findings, findings_about
from toolkit.store.view import STATES, View

MOVING = ("verdict", "curators", "differ")
"""Columns that change while curators work."""


@dataclass(frozen=True)
class Column:
    """Something a view can name: a condition's word, an order or a range."""

    name: str
    kind: Kind
    source: str
    """The table it is a column of: queue, facts, pairs, judged, tally, or `finding NAME`."""
    field: pa.Field
    """Name and type in the source."""
    path: Path | None = None
    """Where a finding lies."""


def columns_of(con: Connection, store: Store, run: str, label_set: str) -> dict[str, Column]:
    """Everything that a view of the run can name, by name.

    The finding minority's own columns and the pairs' own (also without src_) stand under their
    names, those of every finding of the run under FINDING.COLUMN; findings that were computed
    under other labels are left out.
    """
    found: dict[str, Column] = {}
    for source in ("queue", "facts", "judged", "tally", "pairs"):
        schema = fetch(con, f"SELECT * FROM {source} LIMIT 0").schema
        for name, kind in kinds_of(schema).items():
            found.setdefault(name, Column(name, kind, source, schema.field(name)))
    for name, column in list(found.items()):
        bare = name.removeprefix(SOURCE_PREFIX)
        found.setdefault(bare, Column(bare, column.kind, column.source, column.field))
    for hidden in ("pair_id", "choice", "comparison_id"):
        found.pop(hidden, None)
    for finding in findings(store, run) if run else []:
        if findings_about(store, run, finding).get("labels", label_set) == label_set:
            found |= _finding_columns(store, run, finding)
    return found


def _finding_columns(store: Store, run: str, finding: str) -> dict[str, Column]:
    path = store.findings(run) / f"{finding}.parquet"
    schema = pq.read_schema(path)
    if "pair_id" not in schema.names:
        return {}
    named = {f"{finding}.{name}": (name, kind) for name, kind in kinds_of(schema).items()}
    return {
        full: Column(full, kind, f"finding {full}", schema.field(name), path)
        for full, (name, kind) in named.items()
        if name != "pair_id"
    }


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


def make_view(con: Connection, columns: dict[str, Column], view: View) -> None:
    """Number the view's pairs unless that was done before. InputError as of `check_view`."""
    check_view(columns, view)
    sql, values = chosen(con, columns, view)
    way = "DESC" if view.descending else "ASC"
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {quoted(view.table)} AS SELECT row_number() OVER (ORDER BY "
        f"{quoted(view.order)} {way} NULLS LAST, pair_id) AS position, pair_id FROM ({sql})",
        values,
    )


def drop_view(con: Connection, view: View) -> None:
    """Forget a view's numbers."""
    con.execute(f"DROP TABLE IF EXISTS {quoted(view.table)}")


def chosen(
    con: Connection, columns: dict[str, Column], view: View, *more: str
) -> tuple[str, list[Any]]:
    """A SELECT of the view's pairs, whatever their verdict: pair_id, its order, and `more`."""
    conditions: list[str] = ["true"]
    values: list[Any] = []
    wanted = dict.fromkeys([view.order, *more])
    if view.where.strip():
        wanted |= dict.fromkeys(names(view.where, "The condition"))
    if view.text:
        wanted["prompt"] = None
        conditions.append("contains(lower(prompt), lower(?))")
        values.append(view.text)
    for one in view.ranges:
        wanted[one.column] = None
        for sign, bound in ((">=", one.lowest), ("<", one.highest)):
            if bound is not None:
                conditions.append(f"{quoted(one.column)} {sign} ?")
                values.append(bound)
    if view.where.strip():
        kinds = {name: column.kind for name, column in columns.items()}
        schema = pa.schema([c.field.with_name(name) for name, c in columns.items()])
        sql, given = to_sql(parse(view.where, kinds, "The condition"), schema)
        conditions.append(f"({sql})")
        values += given
    if view.model:
        made = [name for name in ("model_0", "model_1") if name in columns]
        wanted |= dict.fromkeys(made)
        conditions.append(f"? IN ({', '.join(map(quoted, made)) or 'NULL'})")
        values.append(view.model)
    if view.annotator:
        conditions.append("pair_id IN (SELECT pair_id FROM ballots WHERE annotator = ?)")
        values.append(view.annotator)
    source = relation(con, [columns[name] for name in wanted])
    return f"SELECT * FROM ({source}) WHERE {' AND '.join(conditions)}", values


def values_of(
    con: Connection, columns: dict[str, Column], wanted: Sequence[str], pair_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """These columns of a few pairs, with their pair_id, in no order."""
    among = f"SELECT * FROM ({relation(con, [columns[name] for name in wanted])})"
    rows = fetch(con, f"{among} WHERE pair_id IN (SELECT unnest(?))", list(pair_ids))
    return list(rows.to_pylist())


def relation(con: Connection, wanted: list[Column]) -> str:
    """A SELECT of pair_id and these columns under their own names, a row a pair of the queue."""
    shown, joined = ["q.pair_id"], dict.fromkeys(c.source for c in wanted if c.source != "queue")
    alias = {"queue": "q"} | {source: f"t{k}" for k, source in enumerate(joined)}
    for column in wanted:
        shown.append(f"{alias[column.source]}.{quoted(column.field.name)} AS {quoted(column.name)}")
    for column in wanted:
        if column.path:
            _read_finding(con, column)
    joins = "".join(f" LEFT JOIN {quoted(name)} {alias[name]} USING (pair_id)" for name in joined)
    return f"SELECT {', '.join(shown)} FROM queue q{joins}"


def _read_finding(con: Connection, column: Column) -> None:
    """A finding's column as a table in memory, read when it is first named; a NaN is a null."""
    name, score = quoted(column.source), quoted(column.field.name)
    if con.execute(
        "SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [column.source]
    ).fetchall():
        return
    # Not through DuckDB's own reader: it takes isnan() for false where a part's smallest and
    # largest values, which leave NaN out, are no NaN.
    con.register("__finding", pq.read_table(column.path, columns=["pair_id", column.field.name]))
    shown = f"CASE WHEN NOT isnan({score}) THEN {score} END AS {score}"
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {name} AS SELECT pair_id, "
        f"{shown if pa.types.is_floating(column.field.type) else score} FROM __finding"
    )
    con.unregister("__finding")


def _narrowed(state: str) -> str:
    """The join that leaves the pairs in a state of verdict."""
    if state == "any":
        return ""
    if state in ("open", "judged"):
        return f" {'ANTI' if state == 'open' else 'SEMI'} JOIN judged USING (pair_id)"
    test = "differ" if state == "differ" else f"verdict = {literal(state)}"
    return f" SEMI JOIN (SELECT pair_id FROM judged WHERE {test}) USING (pair_id)"


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
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)} SEMI JOIN judged USING (pair_id)")


def position(con: Connection, view: View, pair_id: str) -> int | None:
    """The pair's number in the view's table, or None where the view leaves it out."""
    sql = f"SELECT position FROM {quoted(view.table)} WHERE pair_id = ?"
    return _first(con, sql, [pair_id])


def place(con: Connection, view: View, pair_id: str) -> int | None:
    """Which pair of the view it is, counted from 1; None where the view leaves it out."""
    at = position(con, view, pair_id)
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
        among = f"(SELECT * FROM {among}) ANTI JOIN judged USING (pair_id)"
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = f"SELECT pair_id FROM {among} WHERE position {sign} ? ORDER BY position {way} LIMIT 1"
    return _first(con, sql, [after])


def rows_of_page(
    con: Connection, view: View, after: int, size: int, *, back: bool = False
) -> list[tuple[int, str]]:
    """(position, pair_id) of the next `size` pairs past a position (or before it), in order."""
    sign, way = ("<", "DESC") if back else (">", "ASC")
    rows = con.execute(
        f"SELECT position, pair_id FROM {_numbers(view)} WHERE position {sign} ?"
        f" ORDER BY position {way} LIMIT ?",
        [after, size],
    ).fetchall()
    return sorted((int(at), str(pair_id)) for at, pair_id in rows)


def ids(con: Connection, view: View) -> list[str]:
    """Every pair_id of the view, in order; for verdicts on the whole view."""
    rows = fetch(con, f"SELECT pair_id FROM {_numbers(view)} ORDER BY position")
    return list(rows[0].to_pylist())


def _one(con: Connection, sql: str) -> int:
    return int(_first(con, sql) or 0)


def _first(con: Connection, sql: str, values: list[Any] | None = None) -> Any:
    """The first value of the first row, or None. Reads to the end: DuckDB asks for it."""
    rows = con.execute(sql, values or []).fetchall()
    return rows[0][0] if rows else None
