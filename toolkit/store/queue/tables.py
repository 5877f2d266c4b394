"""The desk's queries: the queue of a run's finding, and what one pair's card needs.

Every function takes a connection of `toolkit.store.connect` (or a cursor of it). `make_queue` fills
its tables once; views of the queue are in `toolkit.store.queue.views`. Inside, a pair is its
number in the queue (`nth`, 0 has the highest u): numbers sort and join several times faster than
ids.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from toolkit.pairs import SOURCE_PREFIX
from toolkit.schema import column
from toolkit.store.connection import Connection, add_labels, fetch, quoted
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.queue.ell_series import make_gaps
from toolkit.store.runs import findings_about, read_findings, run_about

FINDING = "minority"
"""The finding that orders the queue: pair_id, visits, confidence, stability, minority; of an import
from another trainer there may be fewer."""

Order = Literal["minority", "confidence", "stability"]
ORDERS: tuple[Order, ...] = ("minority", "confidence", "stability")
SYMBOLS: dict[Order, str] = {"minority": "u", "confidence": "c", "stability": "s"}

JUDGED = pa.schema(
    [
        column("pair_id", pa.string(), "the pair"),
        column("choice", pa.string(), "what stands between the curators; null: nothing does"),
        column("verdict", pa.string(), "the choice held against the label on screen"),
        column("curators", pa.int32(), "curators with a standing verdict"),
        column("differ", pa.bool_(), "not all of them chose the same"),
    ]
)
_EMPTY_JUDGED = (
    "CREATE OR REPLACE TABLE judged (nth INTEGER, pair_id VARCHAR, choice VARCHAR,"
    " verdict VARCHAR, curators INTEGER, differ BOOLEAN)"
)

_NUMBERED = (
    "CREATE OR REPLACE TABLE queue AS SELECT (row_number() OVER () - 1)::INTEGER AS nth, * FROM "
)
_BY_PAIR = (
    "CREATE OR REPLACE TABLE ballots AS SELECT pair_id, annotator, choice, time FROM votes",
    "CREATE OR REPLACE VIEW tally AS SELECT q.nth, count(b.pair_id) AS votes FROM queue q"
    " LEFT JOIN ballots b USING (pair_id) GROUP BY q.nth",
)
_UNSAFE = re.compile(r"nsfw|unsafe", re.IGNORECASE)
"""Names of a source's columns that mark a pair as not fit for every eye."""


@dataclass(frozen=True)
class Bins:
    """A histogram: equal bins from `lowest` to `highest`, the last one closed."""

    lowest: float
    highest: float
    counts: tuple[int, ...]
    unknown: int
    """Pairs without a value, such as a u of fewer visits than the metric needs."""

    def edge(self, number: int) -> float:
        """Lower edge of bin `number`; `highest` for the number behind the last bin."""
        if number >= len(self.counts):
            return self.highest
        return self.lowest + (self.highest - self.lowest) * number / len(self.counts)


def label_set_of(store: Store, run: str) -> str:
    """The label set a run's finding was computed under; the run's own where it does not say."""
    if not run:
        return ORIGINAL
    named = findings_about(store, run, FINDING).get("labels") or run_about(store, run).get("labels")
    return str(named or ORIGINAL)


def make_queue(con: Connection, store: Store, run: str = "", *, with_gaps: bool = True) -> int:
    """Fill `queue` (nth, pair_id, row of the finding, visits, scores), `facts`, `ballots`, `gaps`.

    Returns how many pairs the queue holds: those of the finding that the store still has; without
    a run every pair, in the order of their ids, with null scores. What the finding lacks of visits
    and scores is null. `gaps` stays empty where it is not wanted now: it holds every visit, and
    `make_gaps` fills it at any later time. StoreError where the run or its finding is absent.
    """
    if run:
        finding = read_findings(store, run, FINDING)
        row = pa.array(np.arange(finding.num_rows, dtype=np.int32))
        there = finding.column_names
        con.register("__finding", finding.append_column("row", row))
        con.execute(
            _NUMBERED + "(SELECT f.pair_id, f.row,"
            f" {'f.visits' if 'visits' in there else 'NULL::INTEGER AS visits'},"
            f" {', '.join(f'{_score(name, there)} AS {name}' for name in ORDERS)}"
            " FROM __finding f SEMI JOIN pairs USING (pair_id)"
            " ORDER BY minority DESC NULLS LAST, f.row)"
        )
        con.unregister("__finding")
    else:
        nothing = ", ".join(f"NULL::DOUBLE AS {name}" for name in ORDERS)
        con.execute(
            f"{_NUMBERED}(SELECT pair_id, NULL::INTEGER AS row, NULL::INTEGER AS visits,"
            f" {nothing} FROM pairs ORDER BY pair_id)"
        )
    counts = ", ".join(f"count({name}) AS {name}" for name in ORDERS)
    con.execute(f"CREATE OR REPLACE TABLE known AS SELECT {counts} FROM queue")
    con.execute(_EMPTY_JUDGED)
    label_set = label_set_of(store, run)
    add_labels(con, store, label_set)
    con.execute(f"CREATE OR REPLACE TABLE facts AS {_facts(con, own_labels=label_set == ORIGINAL)}")
    for statement in _BY_PAIR:
        con.execute(statement)
    make_gaps(con, store, run if with_gaps else "")
    return _one(con, "SELECT count(*) FROM queue")


def _score(name: str, there: list[str]) -> str:
    if name not in there:
        return "NULL::DOUBLE"
    return f"CASE WHEN NOT isnan(f.{name}) THEN f.{name}::DOUBLE END"


def _facts(con: Connection, *, own_labels: bool) -> str:
    """A SELECT of what one pair's card asks for; in memory, a look-up passes over ids alone.

    Some 250 bytes a pair; put in order, it would be found no faster and open far slower.
    `own_labels`: the label set is the pairs' own column, and need not be joined.
    """
    own = fetch(con, "SELECT * FROM pairs LIMIT 0").schema
    models = [
        f"{f'p.{SOURCE_PREFIX}{name}' if SOURCE_PREFIX + name in own.names else 'NULL'}::VARCHAR"
        f" AS {name}"
        for name in ("model_0", "model_1")
    ]
    marks = [_unsafe(field) for field in own if _UNSAFE.search(field.name)]
    labels = "p.label, p.label" if own_labels else "l.label, l.original_label"
    return (
        "SELECT q.nth, p.pair_id, p.prompt, p.image_0, p.image_1, p.source,"
        f" {labels} AS original_label, {', '.join(models)},"
        f" {' OR '.join(filter(None, marks)) or 'false'} AS unsafe"
        f" FROM pairs p{'' if own_labels else ' JOIN labelled l USING (pair_id)'}"
        " LEFT JOIN queue q ON q.pair_id = p.pair_id"
    )


def _unsafe(field: pa.Field) -> str:
    """Whether the source's column says so: true, more than half, or any word but a denial."""
    name, test = f"p.{quoted(field.name)}", pa.types
    if test.is_boolean(field.type):
        said = name
    elif test.is_integer(field.type) or test.is_floating(field.type):
        said = f"{name} > 0.5 AND {name} < 1e30"  # a NaN is the largest number here
    elif test.is_string(field.type) or test.is_large_string(field.type):
        said = f"lower({name}) NOT IN ('', '0', 'no', 'false', 'none', 'safe', 'sfw')"
    else:
        return ""
    return f"coalesce({said}, false)"


def set_judged(con: Connection, outcomes: pa.Table) -> None:
    """Bring `judged` up to date: a row of JUDGED a pair; without a choice the pair is open."""
    if not outcomes.num_rows:
        return
    con.register("__outcomes", outcomes)
    con.execute("BEGIN")
    con.execute("DELETE FROM judged WHERE pair_id IN (SELECT pair_id FROM __outcomes)")
    con.execute(
        "INSERT INTO judged SELECT q.nth, o.* FROM __outcomes o LEFT JOIN queue q USING (pair_id)"
        " WHERE choice IS NOT NULL"
    )
    con.execute("COMMIT")
    con.unregister("__outcomes")


def card(con: Connection, pair_id: str) -> dict[str, Any] | None:
    """One pair as the desk shows it, with its scores, label, rank and votes; None if absent.

    Keys: nth (its number in the queue, None: not in it), pair_id, prompt, image_0, image_1, source,
    label, original_label, visits, confidence, stability, minority, lower (score -> share of the
    queue with a smaller one, null where it is not known), votes (annotator, choice), verdict (keep,
    flip ... or None), curators and differ.
    """
    found = cards(con, [pair_id])
    if not found:
        return None
    pair = found[0]
    sql = "SELECT annotator, choice FROM ballots WHERE pair_id = ? ORDER BY time NULLS LAST LIMIT 9"
    votes = fetch(con, sql, pair_id).to_pylist()
    return {**pair, "lower": _lower(con, pair), "votes": votes}


def _lower(con: Connection, pair: dict[str, Any]) -> dict[str, float | None]:
    """Per score the share of the known ones in the queue below the pair's."""
    known = con.execute(f"SELECT {', '.join(ORDERS)} FROM known").fetchall()[0]
    found: dict[str, float | None] = {}
    for name, of in zip(ORDERS, known, strict=True):
        found[name] = None
        if pair[name] is not None:
            sql = f"SELECT count(*) FROM queue WHERE {name} < ?"
            found[name] = int(_first(con, sql, [pair[name]])) / of
    return found


def cards(con: Connection, pair_ids: list[str]) -> list[dict[str, Any]]:
    """Many pairs in the order asked, those that are absent left out.

    Keys as of `card`, without lower and votes.
    """
    one = len(pair_ids) == 1  # compared as it stands, an id is found several times faster
    named = "pair_id = ?" if one else "pair_id IN (SELECT unnest(?))"
    given = pair_ids[0] if one else pair_ids
    rows = fetch(
        con,
        "SELECT f.*, q.visits, q.confidence, q.stability, q.minority, j.verdict,"
        " coalesce(j.curators, 0) AS curators, coalesce(j.differ, false) AS differ FROM"
        f" (SELECT * FROM facts WHERE {named}) f LEFT JOIN queue q ON q.nth = f.nth"
        f" LEFT JOIN (SELECT * FROM judged WHERE {named}) j ON j.pair_id = f.pair_id",
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
    """How many pairs, images, votes and quarantined pairs the store holds."""
    tables = ("pairs", "images", "votes", "quarantine")
    return {table: _one(con, f"SELECT count(*) FROM {quoted(table)}") for table in tables}


def quarantine_reasons(con: Connection, limit: int = 5) -> list[tuple[str, int]]:
    """The commonest reasons for leaving a pair out, with how many pairs."""
    sql = (
        "SELECT reason, count(*) AS n FROM quarantine GROUP BY reason ORDER BY n DESC, reason"
        f" LIMIT {limit}"
    )
    return [(str(reason), int(pairs)) for reason, pairs in con.execute(sql).fetchall()]


def _one(con: Connection, sql: str) -> int:
    return int(_first(con, sql) or 0)


def _first(con: Connection, sql: str, values: list[Any] | None = None) -> Any:
    """The first value of the first row, or None. Reads to the end: DuckDB asks for it."""
    rows = con.execute(sql, values or []).fetchall()
    return rows[0][0] if rows else None
