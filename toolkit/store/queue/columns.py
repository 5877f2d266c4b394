"""What a view of the queue can name, and which pairs pass its conditions.

Over the tables that `toolkit.store.queue.tables.make_queue` fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.conditions import Kind, kinds_of, names, parse, to_sql
from toolkit.files.remote import readable
from toolkit.pairs import SOURCE_PREFIX, short_hash
from toolkit.store.connection import Connection, fetch, quoted
from toolkit.store.layout import Store
from toolkit.store.queue.view import MINORITY, View
from toolkit.store.runs import finding_columns, findings, findings_about, window_groups
from toolkit.store.scores import scorers_in, voices

VOICES = "agreement.against_share"
_HIDDEN = ("pair_id", "nth", "row", "choice", "comparison_id")
_ALWAYS = (MINORITY, "confidence", "stability")
"""Columns of every pool: those whose histograms stand beside the view."""


@dataclass(frozen=True)
class Column:
    """Something a view can name: a condition's word, an order or a range."""

    name: str
    kind: Kind
    source: str
    """Its table: queue, facts, pairs, judged, tally, `finding FINDING.NAME` or `gap SCORER`."""
    field: pa.Field
    """Name and type in the source."""
    path: Path | None = None
    """A finding's file."""
    groups: tuple[int, ...] = ()
    """The file's row groups that hold the column's window."""
    scores: Store | None = None
    """Where a scorer's scores lie."""


def columns_of(con: Connection, store: Store, run: str, label_set: str) -> dict[str, Column]:
    """Everything that a view of the run can name, by name.

    The finding minority's own columns and the pairs' own (also without src_) stand under their
    names, those of every finding of the run under FINDING.COLUMN; findings that were computed
    under other labels are left out. SCORER.gap is by how much a scorer in the store puts image_0
    above image_1.
    """
    found: dict[str, Column] = {}
    for source in ("queue", "facts", "judged", "tally", "pairs"):
        schema = fetch(con, f"SELECT * FROM {source} LIMIT 0").schema
        for name, kind in kinds_of(schema).items():
            found.setdefault(name, Column(name, kind, source, schema.field(name)))
    for name, column in list(found.items()):
        bare = name.removeprefix(SOURCE_PREFIX)
        found.setdefault(bare, Column(bare, column.kind, column.source, column.field))
    for hidden in _HIDDEN:  # a source's own is there as src_NAME
        found.pop(hidden, None)
    for finding in findings(store, run) if run else []:
        if findings_about(store, run, finding).get("labels", label_set) == label_set:
            found |= _finding_columns(store, run, finding)
    for scorer in scorers_in(store):
        name, field = f"{scorer}.gap", pa.field("gap", pa.float64())
        found.setdefault(name, Column(name, "number", f"gap {scorer}", field, scores=store))
    return found


def _finding_columns(store: Store, run: str, finding: str) -> dict[str, Column]:
    path = store.findings(run) / f"{finding}.parquet"
    if "pair_id" not in pq.read_schema(readable(path)).names:
        return {}
    found = {}
    for name, at in finding_columns(store, run, finding).items():
        kinds = kinds_of(pa.schema([at.field]))
        if kinds:
            full, kind = f"{finding}.{name}", kinds[at.field.name]
            found[full] = Column(full, kind, f"finding {full}", at.field, path, at.row_groups)
    return found


def made_as(*, anew: bool) -> str:
    """How a table's making begins: over the one that is there, or only where none is."""
    return "CREATE OR REPLACE TABLE" if anew else "CREATE TABLE IF NOT EXISTS"


def pool(con: Connection, columns: dict[str, Column], view: View, *, anew: bool = False) -> str:
    """A table of the pairs that pass the view's conditions, whatever its ranges and verdicts.

    With nth, the scores, the order and the columns of the ranges; made once, so that a dragged
    range asks no text again, unless it is to be made anew.
    """
    name = pool_of(columns, view)
    if name != "queue":
        sql, values = _passing(con, columns, view, _held(columns, view))
        con.execute(f"{made_as(anew=anew)} {quoted(name)} AS {sql}", values)
    return name


def pool_of(columns: dict[str, Column], view: View) -> str:
    """The name of the view's pool; the queue itself where that says it all."""
    held = _held(columns, view)
    asked = (view.where.strip(), view.text, view.model, view.annotator)
    if not any(asked) and all(columns[name].source == "queue" for name in held):
        return "queue"
    return "pool_" + short_hash(repr((asked, sorted(held))))


def _held(columns: dict[str, Column], view: View) -> list[str]:
    ranged = (one.column for one in view.ranges)
    voices = [VOICES] if VOICES in columns else []
    return list(dict.fromkeys([*_ALWAYS, *voices, view.order, *ranged]))


def within(view: View) -> tuple[str, list[Any]]:
    """The view's ranges as a WHERE clause and its parameters."""
    conditions: list[str] = ["true"]
    values: list[Any] = []
    for one in view.ranges:
        for sign, bound in ((">=", one.lowest), ("<", one.highest)):
            if bound is not None:
                conditions.append(f"{quoted(one.column)} {sign} ?")
                values.append(bound)
    return " AND ".join(conditions), values


def chosen(
    con: Connection, columns: dict[str, Column], view: View, *more: str
) -> tuple[str, list[Any]]:
    """A SELECT of the view's pairs, whatever their verdict: nth, its order, and `more`."""
    if set(more) <= set(_held(columns, view)):
        bounds, values = within(view)
        return f"SELECT * FROM {quoted(pool(con, columns, view))} WHERE {bounds}", values
    sql, values = _passing(con, columns, view, [*_held(columns, view), *more])
    bounds, ends = within(view)
    return f"SELECT * FROM ({sql}) WHERE {bounds}", [*values, *ends]


def _passing(
    con: Connection, columns: dict[str, Column], view: View, held: Sequence[str]
) -> tuple[str, list[Any]]:
    conditions: list[str] = ["true"]
    values: list[Any] = []
    wanted = dict.fromkeys(held)
    if view.text:
        wanted["prompt"] = None
        conditions.append("contains(lower(prompt), lower(?))")
        values.append(view.text)
    if view.where.strip():
        wanted |= dict.fromkeys(names(view.where, "The condition"))
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
        voted = "SELECT pair_id FROM ballots WHERE annotator = ?"
        conditions.append(f"nth IN (SELECT nth FROM queue WHERE pair_id IN ({voted}))")
        values.append(view.annotator)
    source = relation(con, [columns[name] for name in wanted])
    shown = ", ".join(map(quoted, dict.fromkeys(["nth", *held])))
    return f"SELECT {shown} FROM ({source}) WHERE {' AND '.join(conditions)}", values


def values_of(
    con: Connection, columns: dict[str, Column], wanted: Sequence[str], pair_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """These columns of a few pairs, with their pair_id, in no order."""
    sql = "SELECT nth, pair_id FROM queue WHERE pair_id IN (SELECT unnest(?))"
    ids = dict(con.execute(sql, [list(pair_ids)]).fetchall())
    among = f"SELECT * FROM ({relation(con, [columns[name] for name in wanted])})"
    rows = fetch(con, f"{among} WHERE nth IN (SELECT unnest(?))", list(ids)).to_pylist()
    return [{"pair_id": ids[row.pop("nth")], **row} for row in rows]


def relation(con: Connection, wanted: list[Column]) -> str:
    """A SELECT of nth and these columns under their own names, a row a pair of the queue."""
    shown, joined = ["q.nth"], dict.fromkeys(c.source for c in wanted if c.source != "queue")
    alias = {"queue": "q"} | {source: f"t{k}" for k, source in enumerate(joined)}
    for column in wanted:
        shown.append(f"{alias[column.source]}.{quoted(column.field.name)} AS {quoted(column.name)}")
    for column in wanted:
        if column.path:
            _read_finding(con, column, column.path)
        if column.scores:
            _read_gap(con, column, column.scores)
    by_row = {column.source for column in wanted if column.path}
    joins = ""
    for name in joined:
        key = "row" if name in by_row else "pair_id" if name == "pairs" else "nth"
        joins += f" LEFT JOIN {quoted(name)} {alias[name]} ON {alias[name]}.{key} = q.{key}"
    return f"SELECT {', '.join(shown)} FROM queue q{joins}"


def _read_gap(con: Connection, column: Column, store: Store) -> None:
    """A scorer's gaps as a table in memory, read when they are first named."""
    if _is_there(con, column.source):
        return
    con.register("__gap", voices(store, [column.name.removesuffix(".gap")]))
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {quoted(column.source)} AS SELECT q.nth,"
        " g.score_0 - g.score_1 AS gap FROM __gap g JOIN queue q USING (pair_id)"
    )
    con.unregister("__gap")


def _is_there(con: Connection, table: str) -> bool:
    sql = "SELECT 1 FROM duckdb_tables() WHERE table_name = ?"
    return bool(con.execute(sql, [table]).fetchall())


def _read_finding(con: Connection, column: Column, path: Path) -> None:
    """A finding's column as a table in memory, read when it is first named; a NaN is a null."""
    name, score = quoted(column.source), quoted(column.field.name)
    if _is_there(con, column.source):
        return
    # Not through DuckDB's own reader: it takes isnan() for false where a part's smallest and
    # largest values, which leave NaN out, are no NaN.
    own, groups = [column.field.name], list(column.groups)
    with pq.ParquetFile(readable(path.with_name(f"{MINORITY}.parquet"))) as file:
        first = next(iter(window_groups(file.metadata).values()))
    if _stored(path, groups) == _stored(path.with_name(f"{MINORITY}.parquet"), list(first)):
        # As analyze writes them: row by row the same pairs, which numbers join far faster.
        read = _read_groups(path, groups, own)
        place = pa.array(np.arange(read.num_rows, dtype=np.int32))
        read = read.append_column("row", place)
        row, source = "f.row", "__finding f"
    else:
        read = _read_groups(path, groups, ["pair_id", *own])
        row, source = "q.row", "__finding f JOIN queue q USING (pair_id)"
    con.register("__finding", read)
    shown = f"CASE WHEN NOT isnan(f.{score}) THEN f.{score} END AS {score}"
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {name} AS SELECT {row} AS row, "
        f"{shown if pa.types.is_floating(column.field.type) else f'f.{score}'} FROM {source}"
    )
    con.unregister("__finding")


def _read_groups(path: Path, groups: list[int], columns: list[str]) -> pa.Table:
    with pq.ParquetFile(readable(path)) as file:
        return file.read_row_groups(groups, columns=columns)


def _stored(path: Path, groups: list[int]) -> list[bytes]:
    """pair_id as the file stores it, one piece per row group: equal bytes are equal values, and are
    compared far faster than a million texts are read."""
    about = pq.read_metadata(readable(path))
    found = []
    with path.open("rb") as file:
        for number in groups:
            group = about.row_group(number)
            chunks = map(group.column, range(group.num_columns))
            chunk = next(one for one in chunks if one.path_in_schema == "pair_id")
            start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
            file.seek(start)
            found.append(file.read(chunk.total_compressed_size))
    return found
