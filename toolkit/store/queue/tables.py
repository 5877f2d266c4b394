"""The desk's queue: a run's pairs numbered by u, in tables of numbers that live in memory.

Every function takes a connection of `toolkit.store.connect` (or a cursor of it). `make_queue` fills
the tables once; inside, a pair is its number in the queue (`nth`, 0 has the highest u): numbers
sort and join several times faster than ids. A view can name what `toolkit.store.pair_table` can; a
column of a finding or a scorer becomes a table by `nth` when it is first named.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from toolkit.conditions import kind_of
from toolkit.minority import ell_sql
from toolkit.preference import is_decided, lean
from toolkit.schema import SOURCE_PREFIX
from toolkit.store.connection import (
    Connection,
    add_labels,
    add_trajectory,
    fetch,
    first_value,
    quoted,
)
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.pair_table import MINORITY, Column, PairColumns, votes_by_pair
from toolkit.store.runs import finding_labels, finding_schema, read_findings, run_about, same_pairs
from toolkit.store.verdicts import RESOLVED, verdict_sql

Order = Literal["minority", "confidence", "stability"]
ORDERS: tuple[Order, ...] = ("minority", "confidence", "stability")
SYMBOLS: dict[Order, str] = {"minority": "u", "confidence": "c", "stability": "s"}

_NO_VERDICTS = (
    "CREATE OR REPLACE TABLE verdicts (nth INTEGER, pair_id VARCHAR, choice VARCHAR,"
    " verdict VARCHAR, curators INTEGER, differ BOOLEAN)"
)
_VOTES = (
    "CREATE OR REPLACE TABLE kept_votes AS SELECT pair_id, annotator, choice, time, axis, both_are"
    " FROM votes"
    " WHERE axis IS NULL",
    "CREATE OR REPLACE VIEW voted AS SELECT q.nth, coalesce(v.votes, 0) AS votes, v.annotator,"
    " coalesce(v.both_good, 0) AS both_good, coalesce(v.both_bad, 0) AS both_bad,"
    f" v.vote_time FROM queue q LEFT JOIN ({votes_by_pair('kept_votes')}) v USING (pair_id)",
)
_TABLES = {"verdict": "verdicts", "votes": "voted"}
"""Sources of `PairColumns` that are tables of the queue."""

_UNSAFE = re.compile(r"nsfw|unsafe", re.IGNORECASE)
"""Names of a source's columns that mark a pair as not fit for every eye."""


def make_queue(con: Connection, store: Store, run: str = "", *, with_series: bool = True) -> int:
    """Fill queue (nth, pair_id, row of the finding, visits, scores), facts, kept_votes and
    ell_series.

    Returns how many pairs the queue holds: those of the finding that the store still has; without
    a run every pair, in the order of their ids, with null scores. What the finding lacks of visits
    and scores is null. `with_series` false leaves `ell_series`, a row a visit, empty until
    `make_ell_series` fills it. StoreError where the run or its finding is absent.
    """
    numbered = "SELECT (row_number() OVER () - 1)::INTEGER AS nth, * FROM"
    missing: dict[str, str] = {"visits": "NULL::INTEGER", **dict.fromkeys(ORDERS, "NULL::DOUBLE")}
    if run:
        there = set(finding_schema(store, run, MINORITY).names)
        finding = read_findings(store, run, MINORITY, ["pair_id", *(there & set(missing))])
        con.register("__finding", _with_rows(finding))
        scores = {name: f"CASE WHEN NOT isnan(f.{name}) THEN f.{name}::DOUBLE END"
                  for name in ORDERS if name in there}  # fmt: skip
        shown = missing | ({"visits": "f.visits"} if "visits" in there else {}) | scores
        source = "__finding f SEMI JOIN pairs USING (pair_id)"
        row, order = "f.row", "minority DESC NULLS LAST, f.row"
    else:
        shown, source, row, order = missing, "pairs f", "NULL::INTEGER AS row", "pair_id"
    values = ", ".join(f"{value} AS {name}" for name, value in shown.items())
    con.execute(
        f"CREATE OR REPLACE TABLE queue AS {numbered} (SELECT f.pair_id, {row}, {values}"
        f" FROM {source} ORDER BY {order})"
    )
    counts = ", ".join(f"count({name}) AS {name}" for name in ORDERS)
    con.execute(f"CREATE OR REPLACE TABLE known AS SELECT {counts} FROM queue")
    con.execute(_NO_VERDICTS)
    add_labels(con, store, finding_labels(store, run, MINORITY) if run else ORIGINAL)
    con.execute(f"CREATE OR REPLACE TABLE facts AS {_facts(con)}")
    for statement in _VOTES:
        con.execute(statement)
    make_ell_series(con, store, run if with_series else "")
    return int(first_value(con, "SELECT count(*) FROM queue"))


def _with_rows(table: pa.Table) -> pa.Table:
    return table.append_column("row", pa.array(np.arange(table.num_rows, dtype=np.int32)))


def _facts(con: Connection) -> str:
    """A SELECT of what one pair's card shows; in memory, a look-up scans ids only.

    Some 250 bytes a pair. Sorting it would make look-ups no faster, and opening far slower.
    """
    own = fetch(con, "SELECT * FROM pairs LIMIT 0").schema
    models = [
        f"{f'p.{SOURCE_PREFIX}{name}' if SOURCE_PREFIX + name in own.names else 'NULL'}::VARCHAR"
        f" AS {name}"
        for name in ("model_0", "model_1")
    ]
    marks = [_unsafe(field) for field in own if _UNSAFE.search(field.name)]
    return (
        "SELECT q.nth, p.pair_id, p.prompt, p.image_0, p.image_1, p.source, p.label,"
        f" p.original_label, p.is_flipped, {', '.join(models)},"
        f" {' OR '.join(filter(None, marks)) or 'false'} AS unsafe"
        " FROM labelled p LEFT JOIN queue q ON q.pair_id = p.pair_id"
    )


def _unsafe(field: pa.Field) -> str:
    """Whether a source's column marks the pair: true, above .5, or any word but a denial."""
    name, test = f"p.{quoted(field.name)}", pa.types
    if test.is_boolean(field.type):
        marked = name
    elif test.is_integer(field.type) or test.is_floating(field.type):
        marked = f"{name} > 0.5 AND {name} < 1e30"  # a NaN is the largest number here
    elif test.is_string(field.type) or test.is_large_string(field.type):
        marked = f"lower({name}) NOT IN ('', '0', 'no', 'false', 'none', 'safe', 'sfw')"
    else:
        return ""
    return f"coalesce({marked}, false)"


class QueueColumns(PairColumns):
    """Everything that a view of the queue can name, with the queue's tables behind it.

    Made after `make_queue`, in its connection. A score that the run's finding lacks is null.
    """

    def __init__(self, con: Connection, store: Store, run: str = "") -> None:
        labels = finding_labels(store, run, MINORITY) if run else ORIGINAL
        super().__init__(con, store, labels=labels, run=run or None)
        own: dict[str, Column] = {}
        for table in ("queue", "facts"):
            for field in fetch(con, f"SELECT * EXCLUDE (nth) FROM {table} LIMIT 0").schema:
                own.setdefault(field.name, Column(field.name, kind_of(field.type), table, field))
        del own["row"]
        self._columns.pop("nth", None)  # a source's own is there as src_nth
        scores = {f"{MINORITY}.{name}": own[name] for name in ("visits", *ORDERS)}
        self._columns = own | {
            name: replace(scores.get(name, column), name=name)
            for name, column in self._columns.items()
            if name not in own
        }

    def relation(self, con: Connection, wanted: Sequence[str]) -> str:
        """A SELECT of nth and these columns under their own names, a row a pair of the queue."""
        shown, joins, alias = ["q.nth"], "", {"queue": "q"}
        for name in dict.fromkeys(wanted):
            table, key = self._table(con, self[name])
            if table not in alias:
                alias[table] = f"t{len(alias)}"
                joins += f" LEFT JOIN {quoted(table)} {alias[table]}"
                joins += f" ON {alias[table]}.{key} = q.{key}"
            shown.append(f"{alias[table]}.{quoted(self[name].field.name)} AS {quoted(name)}")
        return f"SELECT {', '.join(shown)} FROM queue q{joins}"

    def _table(self, con: Connection, wanted: Column) -> tuple[str, str]:
        """The table that has the column, and its key in the queue.

        A finding's or a scorer's is made when it is first named.
        """
        kind, _, name = wanted.source.partition(" ")
        if not name:
            return _TABLES.get(kind, kind), "pair_id" if kind == "pairs" else "nth"
        field = wanted.field.name
        table = f"{wanted.source}.{field}"
        sql = "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
        if key := first_value(con, sql, table):
            return table, str(key)
        if kind == "finding" and self.run and self._in_the_queues_rows(name):
            con.register("__rows", _with_rows(read_findings(self.store, self.run, name, [field])))
            key, rows = "row", f"SELECT row, {self._value(wanted, 'f')} AS value FROM __rows f"
        else:
            values = self.select(con, [wanted.name], base="facts", also="b.nth")
            rows = f"SELECT nth, {quoted(wanted.name)} AS value FROM ({values})"
            key, rows = "nth", f"{rows} WHERE nth IS NOT NULL"
        con.execute(
            f"CREATE TABLE IF NOT EXISTS {quoted(table)} AS SELECT {key},"
            f" value AS {quoted(field)} FROM ({rows})"
        )
        return table, key

    def _in_the_queues_rows(self, finding: str) -> bool:
        """Whether the finding has the queue's pairs row by row, as analyze writes them."""
        assert self.run is not None
        same_labels = finding_labels(self.store, self.run, finding) == self.labels
        return same_labels and same_pairs(self.store, self.run, finding, MINORITY)

    def values_of(
        self, con: Connection, wanted: Sequence[str], pair_ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """These columns of a few pairs, with their pair_id, in no order."""
        sql = "SELECT nth, pair_id FROM queue WHERE pair_id IN (SELECT unnest(?))"
        ids = dict(con.execute(sql, [list(pair_ids)]).fetchall())
        among = f"SELECT * FROM ({self.relation(con, wanted)}) WHERE nth IN (SELECT unnest(?))"
        rows = fetch(con, among, list(ids)).to_pylist()
        return [{"pair_id": ids[row.pop("nth")], **row} for row in rows]


def update_verdicts(
    con: Connection, pair_ids: Sequence[str], resolved: Sequence[Mapping[str, Any]]
) -> None:
    """Bring `verdicts` up to date on these pairs.

    `resolved`: rows of `toolkit.store.verdicts.RESOLVED`; a pair without one is open again.
    """
    con.register("__changed", pa.table({"pair_id": pa.array(list(pair_ids), pa.string())}))
    con.register("__resolved", pa.Table.from_pylist(list(resolved), schema=RESOLVED))
    con.execute("BEGIN")
    con.execute("DELETE FROM verdicts WHERE pair_id IN (SELECT pair_id FROM __changed)")
    con.execute(
        "INSERT INTO verdicts SELECT f.nth, r.pair_id, r.choice,"
        f" {verdict_sql('r.choice', 'f.label')}, r.curators, r.differ"
        " FROM __resolved r LEFT JOIN facts f USING (pair_id)"
    )
    con.execute("COMMIT")
    con.unregister("__changed")
    con.unregister("__resolved")


def card(con: Connection, pair_id: str) -> dict[str, Any] | None:
    """One pair as the desk shows it, with its scores, label, rank and votes; None if absent.

    Keys: nth (its number in the queue, None: not in it), pair_id, prompt, image_0, image_1, source,
    label, original_label, visits, confidence, stability, minority, lower (score -> share of the
    queue with a smaller one, null where it is not known), votes (annotator, choice), verdict (keep,
    flip ... or None), curators and differ.
    """
    pair = next(iter(cards(con, [pair_id])), None)
    if pair is None:
        return None
    votes = fetch(
        con,
        "SELECT annotator, choice FROM kept_votes WHERE pair_id = ?"
        " ORDER BY time NULLS LAST LIMIT 9",
        pair_id,
    ).to_pylist()
    return {**pair, "lower": _lower(con, pair), "votes": votes}


def _lower(con: Connection, pair: dict[str, Any]) -> dict[str, float | None]:
    """Per score the share of the known ones in the queue below the pair's."""
    known = con.execute(f"SELECT {', '.join(ORDERS)} FROM known").fetchall()[0]
    lower: dict[str, float | None] = {}
    for name, of in zip(ORDERS, known, strict=True):
        lower[name] = None
        if pair[name] is not None:
            sql = f"SELECT count(*) FROM queue WHERE {name} < ?"
            lower[name] = int(first_value(con, sql, pair[name])) / of
    return lower


def cards(con: Connection, pair_ids: list[str]) -> list[dict[str, Any]]:
    """These pairs in this order, without those that the store does not have.

    Keys as of `card`, without lower and votes.
    """
    single = len(pair_ids) == 1  # compared with one value, an id is found several times faster
    named = "pair_id = ?" if single else "pair_id IN (SELECT unnest(?))"
    given = pair_ids[0] if single else pair_ids
    rows = fetch(
        con,
        "SELECT f.*, q.visits, q.confidence, q.stability, q.minority, j.verdict,"
        " coalesce(j.curators, 0) AS curators, coalesce(j.differ, false) AS differ FROM"
        f" (SELECT * FROM facts WHERE {named}) f LEFT JOIN queue q ON q.nth = f.nth"
        f" LEFT JOIN (SELECT * FROM verdicts WHERE {named}) j ON j.pair_id = f.pair_id",
        given,
        given,
    ).to_pylist()
    by_id = {row["pair_id"]: row for row in rows}
    return [by_id[pair_id] for pair_id in pair_ids if pair_id in by_id]


def labels_of(con: Connection, pair_ids: list[str]) -> dict[str, float | None]:
    """Labels under the queue's label set."""
    if len(pair_ids) == 1:
        sql = "SELECT pair_id, label FROM facts WHERE pair_id = ?"
        return dict(con.execute(sql, pair_ids).fetchall())
    sql = "SELECT pair_id, label FROM facts WHERE pair_id IN (SELECT unnest(?))"
    return dict(con.execute(sql, [pair_ids]).fetchall()) if pair_ids else {}


def totals(con: Connection) -> dict[str, int]:
    """How many pairs, images, votes and quarantined pairs the store has."""
    tables = ("pairs", "images", "votes", "quarantine")
    return {
        table: int(first_value(con, f"SELECT count(*) FROM {quoted(table)}")) for table in tables
    }


def quarantine_reasons(con: Connection, limit: int = 5) -> list[tuple[str, int]]:
    """The commonest reasons for leaving a pair out, with how many pairs."""
    sql = (
        "SELECT reason, count(*) AS n FROM quarantine GROUP BY reason ORDER BY n DESC, reason"
        f" LIMIT {limit}"
    )
    return [(str(reason), int(pairs)) for reason, pairs in con.execute(sql).fetchall()]


_NO_SERIES = (
    "CREATE OR REPLACE TABLE ell_series"
    " (nth INTEGER, visit INTEGER, ell FLOAT, low FLOAT, high FLOAT)"
)
_ROWS_AT_ONCE = 2_000_000
"""Rows of the trajectory: their sums are in memory beside the table."""


def make_ell_series(con: Connection, store: Store, run: str) -> None:
    """`ell_series`: per pair and visit the policy's ell for label 1, and the band over all models.

    Some 20 bytes a visit, made for some pairs after others, so that it takes little more memory.
    Other cursors see the table as it was until it is whole. StoreError where the run is absent.
    """
    con.execute("BEGIN")
    try:
        con.execute(_NO_SERIES)
        if run:
            add_trajectory(con, store, run)
            models = range(len(run_about(store, run).get("models") or ["policy"]))
            pairs = int(first_value(con, "SELECT count(*) FROM queue"))
            turns = 1 + int(first_value(con, "SELECT count(*) FROM trajectory")) // _ROWS_AT_ONCE
            for turn in range(turns):
                ends = [turn * pairs // turns, (turn + 1) * pairs // turns]
                con.execute(f"INSERT INTO ell_series {_series(models)}", ends)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def _series(models: range) -> str:
    """A SELECT for `ell_series` of the pairs from one number on and below another."""
    every = ", ".join(map(ell_sql, models))
    return (
        f"SELECT q.nth, visit, avg({ell_sql()}), avg(least({every})), avg(greatest({every}))"
        " FROM trajectory JOIN queue q USING (pair_id)"
        " WHERE kind = 'train' AND q.nth >= ? AND q.nth < ? GROUP BY q.nth, visit ORDER BY q.nth"
    )


@dataclass(frozen=True)
class Visit:
    """A pair's ell at one visit: the policy's, and the band over the policy and its footprints."""

    visit: int
    ell: float
    low: float
    high: float


def ell_by_visit(con: Connection, nth: int | None, label: float | None) -> list[Visit]:
    """Mean ell over each visit's draws under `label` of the queue's pair `nth`; [] for a tie, and
    for a pair outside the queue."""
    if nth is None or not is_decided(label):
        return []
    rows = con.execute(
        "SELECT visit, ell, low, high FROM ell_series WHERE nth = ? AND ell IS NOT NULL"
        " ORDER BY visit",
        [nth],
    ).fetchall()
    sign = float(lean(label))
    return [
        Visit(int(visit), sign * ell, *sorted((sign * low, sign * high)))
        for visit, ell, low, high in rows
    ]
