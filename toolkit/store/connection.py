"""DuckDB over the parts: every process opens its own in-memory database.

A DuckDB file that is open for writing locks every other process out, so there is none: `connect`
makes views over the Parquet parts of this moment. Parts that appear later are in the next one's.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit import schema as records
from toolkit.errors import Unreachable
from toolkit.files.atomic import parts
from toolkit.files.remote import filesystem_of, is_local, readable
from toolkit.preference import lean_sql
from toolkit.recorder import TRAJECTORY
from toolkit.store.label_sets import ORIGINAL, axis_of, label_set_path
from toolkit.store.layout import Store
from toolkit.store.runs import finding_file, findings, run_about
from toolkit.store.verdicts import resolve

Connection: TypeAlias = duckdb.DuckDBPyConnection

_TABLES: dict[str, pa.Schema] = {
    "pairs": records.PAIRS,
    "images": records.IMAGES,
    "thumbnails": records.THUMBNAILS,
    "votes": records.VOTES,
    "axes": records.AXES,
    "quarantine": records.QUARANTINE,
}


def connect(store: Store) -> Connection:
    """A connection with views pairs, images, thumbnails, votes and quarantine over the store.

    A table without parts is an empty view with the right columns. More is added by name:
    `add_labels`, `add_verdicts`, `add_run`.
    """
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    con.execute("SET TimeZone = 'UTC'")
    if not is_local(store.root):
        con.register_filesystem(filesystem_of(store.root))
        con = cast(Connection, _Far(con))
    for name, schema in _TABLES.items():
        files = parts(store.folder(name))
        add_view(con, name, files, schema)
        sql = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?"
        if files and (changes := _as_today(con.execute(sql, [name]).fetchall(), schema)):
            sql = f"CREATE OR REPLACE VIEW {name} AS SELECT *{changes} FROM {parquet(files)}"
            con.execute(sql)
    return con


class _Far:
    """A connection, or a query of it, over an object store.

    DuckDB wraps what its readers raise into an error of its own; here a lost connection is raised
    as the `Unreachable` that it was.
    """

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._wrapped, name)

        def call(*given: Any, **options: Any) -> Any:
            try:
                result = attribute(*given, **options)
            except duckdb.Error as problem:
                if lost := re.search(rf"{Unreachable.__name__}: (.+)", str(problem)):
                    raise Unreachable(lost.group(1)) from problem
                raise
            wraps = isinstance(result, duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation)
            return _Far(result) if wraps else result

        return call if callable(attribute) else attribute

    def __enter__(self) -> "_Far":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._wrapped.close()


def _as_today(columns: Sequence[Sequence[str]], schema: pa.Schema) -> str:
    """What SELECT * needs over parts of earlier versions with these columns (name, type): what they
    lack, as null; labels and choices in double precision; and null for a NaN in a source's own
    number (no value, not the largest).
    """
    kinds = {name: kind for name, kind, *_ in columns}
    numbers = [name for name, kind in kinds.items() if kind in ("FLOAT", "DOUBLE")]
    replaced = [
        f"{no_nan(quoted(name))} AS {quoted(name)}"
        for name in numbers
        if name.startswith(records.SOURCE_PREFIX)
    ]
    absent = []
    for field in schema:
        if field.name in numbers and kinds[field.name] == "FLOAT":
            replaced.append(f"CAST({field.name} AS DOUBLE) AS {field.name}")
        elif field.name not in kinds:
            kind = "DOUBLE" if pa.types.is_floating(field.type) else "VARCHAR"
            absent.append(f", CAST(NULL AS {kind}) AS {field.name}")
    return (f" REPLACE ({', '.join(replaced)})" if replaced else "") + "".join(absent)


def add_view(con: Connection, name: str, files: list[Path], schema: pa.Schema) -> None:
    """Make (or replace) view `name` over Parquet files, or an empty one of `schema`."""
    if files:
        con.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * FROM {parquet(files)}")
    else:
        # A registered table is seen by its own connection only, a real one by its cursors too.
        empty = quoted(f"{name}__empty")
        con.register("__empty", schema.empty_table())
        con.execute(f"CREATE OR REPLACE TABLE {empty} AS SELECT * FROM __empty")
        con.unregister("__empty")
        con.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * FROM {empty}")


def add_labels(
    con: Connection,
    store: Store,
    label_set: str = ORIGINAL,
    pair_files: list[Path] | None = None,
) -> None:
    """Make view `labelled`: every pair with its columns, and its label under the set.

    Columns of the pairs, of which `label` and `label_weight` are the set's, original_label,
    is_flipped (the label prefers another side than the source's), and part and part_row, the
    store's order. `pair_files`: the parts of the pairs where they were listed before; what was
    added since is left out.
    """
    files = parts(store.folder("pairs")) if pair_files is None else pair_files
    pairs = "(SELECT *, '' AS part, 0 AS part_row FROM pairs)"
    if files:
        placed = parquet(files).removesuffix(")") + ", filename = 'part', file_row_number = true)"
        columns = con.execute(f"DESCRIBE SELECT * FROM {parquet(files)}").fetchall()
        changes = _as_today(columns, records.PAIRS)
        rows = f"SELECT * RENAME (file_row_number AS part_row) FROM {placed}"
        pairs = f"(SELECT *{changes} FROM ({rows}))"
    label, weight, overlay = "p.label", "p.label_weight", ""
    if label_set != ORIGINAL:
        overlay, whole = overlay_sql(store, label_set)
        label, weight = "o.label", "o.label_weight"
        if not whole:
            label, weight = (
                f"CASE WHEN o.pair_id IS NULL THEN p.{name} ELSE o.{name} END"
                for name in ("label", "label_weight")
            )
        overlay = f" LEFT JOIN {overlay} o USING (pair_id)"
    con.execute(
        f"CREATE OR REPLACE VIEW labelled AS SELECT p.*"
        f" REPLACE ({label} AS label, {weight} AS label_weight), p.label AS original_label,"
        f" {lean_sql(f'({label})')} IS DISTINCT FROM {lean_sql('p.label')} AS is_flipped"
        f" FROM {pairs} p{overlay}"
    )


def overlay_sql(store: Store, label_set: str) -> tuple[str, bool]:
    """A table of pair_id, label and label_weight of a set other than the original, and whether
    pairs that are not in it have no label (an axis) or the source's."""
    axis = axis_of(store, label_set)
    if axis is not None:
        return f"(SELECT pair_id, label, label_weight FROM axes WHERE axis = {literal(axis)})", True
    path = label_set_path(store, label_set)
    weight = "label_weight" if "label_weight" in pq.read_schema(readable(path)).names else "NULL"
    table = f"(SELECT pair_id, CAST(label AS DOUBLE) AS label, CAST({weight} AS DOUBLE)"
    return f"{table} AS label_weight FROM {parquet([path])})", False


def labels_in(con: Connection, pair_ids: list[str]) -> dict[str, float | None]:
    """Labels of some pairs under the view `labelled`."""
    sql = "SELECT pair_id, label FROM labelled WHERE pair_id IN (SELECT unnest(?))"
    return dict(con.execute(sql, [pair_ids]).fetchall()) if pair_ids else {}


def add_run(con: Connection, store: Store, run: str) -> None:
    """Make views `trajectory`, the run's rows, and `finding_NAME` for each of its findings.

    StoreError where the store has no such run.
    """
    add_trajectory(con, store, run)
    for name in findings(store, run):
        files = parquet([finding_file(store, run, name)])
        con.execute(f"CREATE OR REPLACE VIEW {quoted(f'finding_{name}')} AS SELECT * FROM {files}")


def add_trajectory(con: Connection, store: Store, run: str) -> None:
    """Make view `trajectory` over a run's rows. StoreError where the store has no such run."""
    run_about(store, run)
    files = store.trajectory(run)
    add_view(con, "trajectory", files, TRAJECTORY)
    sql = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'trajectory'"
    if ("captioned",) not in con.execute(sql).fetchall():  # of an earlier version
        rows = f"SELECT *, NULL::BOOLEAN AS captioned FROM {parquet(files)}"
        con.execute(f"CREATE OR REPLACE VIEW trajectory AS {rows}")


def add_verdicts(con: Connection, store: Store) -> None:
    """Make table `verdicts`: the published verdicts, one a pair (schema RESOLVED)."""
    con.register("__resolved", resolve(store))
    con.execute("CREATE OR REPLACE TABLE verdicts AS SELECT * FROM __resolved")
    con.unregister("__resolved")


def fetch(con: Connection, sql: str, *parameters: object) -> pa.Table:
    """The rows of a query as an Arrow table."""
    relation = con.sql(sql, params=list(parameters) or None)
    return relation.to_arrow_table()


def first_value(con: Connection, sql: str, *parameters: object) -> Any:
    """The first value of a query's first row, or None. Reads to the end, as DuckDB asks for."""
    rows = con.execute(sql, list(parameters)).fetchall()
    return rows[0][0] if rows else None


def effective_labels(store: Store, label_set: str = ORIGINAL) -> pa.Table:
    """pair_id, label and label_weight under the set, original_label; every pair, sorted by
    pair_id."""
    with connect(store) as con:
        add_labels(con, store, label_set)
        columns = "pair_id, label, label_weight, original_label"
        return fetch(con, f"SELECT {columns} FROM labelled ORDER BY pair_id")


def read_pairs(store: Store, columns: list[str]) -> pa.Table:
    """These columns of every pair, in the order of the parts."""
    names = ", ".join(quoted(name) for name in columns)
    with connect(store) as con:
        return fetch(con, f"SELECT {names} FROM pairs")


def no_nan(value: str) -> str:
    """The SQL of a number with null for NaN, over Parquet too.

    A bare isnan() is decided there by a part's smallest and largest values, which leave NaN out;
    they do not reach into a list.
    """
    return f"CASE WHEN NOT isnan([{value}][1]) THEN {value} END"


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def parquet(files: list[Path]) -> str:
    """A table function over exactly these files, whatever signs their paths hold."""
    names = ", ".join(literal(_not_a_glob(str(path))) for path in files)
    return f"read_parquet([{names}], union_by_name = true)"


def _not_a_glob(path: str) -> str:
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in path)
