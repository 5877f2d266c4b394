"""The desk's queries: the queue of a run's finding, views of it, and what one pair's card needs.

Every function takes a connection of `toolkit.store.connect` (or a cursor of it). `make_queue` fills
two tables once; views are numbered copies of pair_ids, so that a page, a place or a neighbour is
found by key, without an OFFSET and without more than a page of rows in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.pairs import short_hash
from toolkit.store.labels import ORIGINAL
from toolkit.store.layout import Store
from toolkit.store.query import Connection, add_labels, add_trajectory, fetch, literal, quoted
from toolkit.store.runs import findings_about, read_findings, run_about

FINDING = "minority"
"""The finding that orders the queue: pair_id, visits, confidence, stability, minority."""

Order = Literal["minority", "confidence", "stability"]
ORDERS: tuple[Order, ...] = ("minority", "confidence", "stability")
SYMBOLS: dict[Order, str] = {"minority": "u", "confidence": "c", "stability": "s"}

_EMPTY_JUDGED = "CREATE OR REPLACE TABLE judged (pair_id VARCHAR, choice VARCHAR, verdict VARCHAR)"

_BY_PAIR = (
    "CREATE OR REPLACE TABLE facts AS SELECT p.pair_id, p.prompt, p.image_0, p.image_1, p.source,"
    " l.label, l.original_label, q.visits, q.confidence, q.stability, q.minority FROM pairs p"
    " JOIN labelled l USING (pair_id) LEFT JOIN queue q USING (pair_id)",
    "CREATE OR REPLACE TABLE ballots AS SELECT pair_id, annotator, choice, time FROM votes",
    "CREATE OR REPLACE TABLE gaps AS SELECT pair_id, visit,"
    " avg((err_ref_0 - err_ref_1) - (err_0[1] - err_1[1])) AS gap FROM trajectory"
    " WHERE kind = 'train' GROUP BY pair_id, visit",
)
"""What one pair's card asks for, in memory: a look-up passes over ids, and opens no part. Some 250
bytes a pair and 40 a visit; put in order, it would be found no faster and open far slower."""


@dataclass(frozen=True)
class View:
    """Which pairs of the queue, in which order; u from `lowest` on and below `highest`."""

    text: str = ""
    lowest: float | None = None
    highest: float | None = None
    only_open: bool = False
    """Only pairs without verdict."""
    order: Order = "minority"
    descending: bool = True

    @property
    def table(self) -> str:
        """Name of the table that numbers the view's pairs, whether open or not."""
        parts = (self.text, self.lowest, self.highest, self.order, self.descending)
        return "view_" + short_hash(*map(repr, parts))


@dataclass(frozen=True)
class Bins:
    """A histogram of u: equal bins from `lowest` to `highest`, the last one closed."""

    lowest: float
    highest: float
    counts: tuple[int, ...]
    unknown: int
    """Pairs whose u is not known (fewer visits than the metric needs)."""

    def edge(self, number: int) -> float:
        """Lower edge of bin `number`; `highest` for the number behind the last bin."""
        if number >= len(self.counts):
            return self.highest
        return self.lowest + (self.highest - self.lowest) * number / len(self.counts)


def label_set_of(store: Store, run: str) -> str:
    """The label set a run's finding was computed under; the run's own where it does not say."""
    named = findings_about(store, run, FINDING).get("labels") or run_about(store, run).get("labels")
    return str(named or ORIGINAL)


def make_queue(con: Connection, store: Store, run: str) -> int:
    """Fill `queue` (pair_id, visits, scores), `facts`, `ballots` and `gaps`.

    Returns how many pairs the queue holds: those of the finding that the store still has.
    StoreError where the run or its finding is absent.
    """
    con.register("__finding", read_findings(store, run, FINDING))
    con.execute(
        "CREATE OR REPLACE TABLE queue AS SELECT f.pair_id, f.visits,"
        " f.confidence::DOUBLE AS confidence, f.stability::DOUBLE AS stability,"
        " CASE WHEN isnan(f.minority) THEN NULL ELSE f.minority::DOUBLE END AS minority"
        " FROM __finding f SEMI JOIN pairs USING (pair_id)"
        " ORDER BY minority DESC NULLS LAST, pair_id"  # pages by key pass over whole blocks
    )
    con.unregister("__finding")
    con.execute(_EMPTY_JUDGED)
    add_labels(con, store, label_set_of(store, run))
    add_trajectory(con, store, run)
    for statement in _BY_PAIR:
        con.execute(statement)
    return _one(con, "SELECT count(*) FROM queue")


def make_view(con: Connection, view: View) -> None:
    """Number the view's pairs (position 1, 2, ...) unless that was done before."""
    conditions, values = ["true"], []
    source = "queue"
    if view.text:
        source = "queue JOIN (SELECT pair_id, prompt FROM facts) USING (pair_id)"
        conditions.append("contains(lower(prompt), lower(?))")
        values.append(view.text)
    if view.lowest is not None:
        conditions.append(f"minority >= {view.lowest!r}")
    if view.highest is not None:
        conditions.append(f"minority < {view.highest!r}")
    way = "DESC" if view.descending else "ASC"
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {quoted(view.table)} AS SELECT row_number() OVER (ORDER BY "
        f"{quoted(view.order)} {way} NULLS LAST, pair_id) AS position, pair_id "
        f"FROM {source} WHERE {' AND '.join(conditions)}",
        values,
    )


def drop_view(con: Connection, view: View) -> None:
    """Forget a view's numbers."""
    con.execute(f"DROP TABLE IF EXISTS {quoted(view.table)}")


def set_judged(con: Connection, outcomes: Iterable[tuple[str, str | None, str | None]]) -> None:
    """Bring `judged` up to date: (pair_id, choice, verdict); without a choice the pair is open."""
    rows = list(outcomes)
    if not rows:
        return
    con.execute("BEGIN")
    con.executemany("DELETE FROM judged WHERE pair_id = ?", [[row[0]] for row in rows])
    standing = [list(row) for row in rows if row[1] is not None]
    if standing:
        con.executemany("INSERT INTO judged VALUES (?, ?, ?)", standing)
    con.execute("COMMIT")


def _open_only(view: View) -> str:
    return " ANTI JOIN judged USING (pair_id)" if view.only_open else ""


def count(con: Connection, view: View) -> int:
    """Pairs in the view."""
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)}{_open_only(view)}")


def count_all(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table, open or not."""
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)}")


def count_judged(con: Connection, view: View) -> int:
    """Pairs numbered by the view's table (open or not) that have a verdict."""
    return _one(con, f"SELECT count(*) FROM {quoted(view.table)} SEMI JOIN judged USING (pair_id)")


def position(con: Connection, view: View, pair_id: str) -> int | None:
    """The pair's number in the view's table, or None where the view leaves it out."""
    sql = f"SELECT position FROM {quoted(view.table)} WHERE pair_id = ?"
    return _first(con, sql, [pair_id])


def place(con: Connection, view: View, pair_id: str) -> int | None:
    """Which pair of the view it is, counted from 1; None where the view leaves it out."""
    at = position(con, view, pair_id)
    if at is None or not view.only_open:
        return at
    if _one(con, f"SELECT count(*) FROM judged WHERE pair_id = {literal(pair_id)}"):
        return None
    table = quoted(view.table)
    return 1 + _one(con, f"SELECT count(*) FROM {table}{_open_only(view)} WHERE position < {at}")


def neighbour(
    con: Connection, view: View, after: int, *, back: bool = False, open_only: bool = False
) -> str | None:
    """The nearest pair of the view past (or before) a position; None at the end.

    `open_only`: the nearest without a verdict, even where the view shows judged pairs too.
    """
    narrowed = " ANTI JOIN judged USING (pair_id)" if open_only else _open_only(view)
    sign, way = ("<", "DESC") if back else (">", "ASC")
    sql = (
        f"SELECT pair_id FROM {quoted(view.table)}{narrowed} WHERE position {sign} ? "
        f"ORDER BY position {way} LIMIT 1"
    )
    return _first(con, sql, [after])


def histogram(con: Connection, number: int = 40) -> Bins:
    """u of the whole queue in `number` equal bins."""
    sql = "SELECT min(minority), max(minority), count(*) - count(minority) FROM queue"
    least, most, unknown = con.execute(sql).fetchall()[0]
    if least is None:
        return Bins(0.0, 1.0, (0,) * number, int(unknown))
    low, high = min(0.0, least), most if most > min(0.0, least) else min(0.0, least) + 1.0
    rows = con.execute(
        "SELECT least(floor((minority - $low) / ($high - $low) * $n)::INTEGER, $n - 1) AS bin,"
        " count(*) FROM queue WHERE minority IS NOT NULL GROUP BY bin",
        {"low": low, "high": high, "n": number},
    ).fetchall()
    counts = [0] * number
    for bin_number, pairs in rows:
        counts[bin_number] = int(pairs)
    return Bins(low, high, tuple(counts), int(unknown))


def card(con: Connection, pair_id: str) -> dict[str, Any] | None:
    """One pair as the desk shows it, with its scores, label, rank and votes; None if absent.

    Keys: pair_id, prompt, image_0, image_1, source, label, original_label, visits, confidence,
    stability, minority, lower (share of the queue with a smaller u, null where u is), votes
    (annotator, choice), verdict (keep, flip ... or None).
    """
    rows = fetch(con, "SELECT * FROM facts WHERE pair_id = ? LIMIT 1", pair_id).to_pylist()
    if not rows:
        return None
    lower = None
    if (u := rows[0]["minority"]) is not None:
        share = "SELECT count(*) FILTER (minority < ?) / count(minority) FROM queue"
        lower = float(con.execute(share, [u]).fetchall()[0][0])
    sql = "SELECT annotator, choice FROM ballots WHERE pair_id = ? ORDER BY time NULLS LAST LIMIT 9"
    judged = "SELECT any_value(verdict) FROM judged WHERE pair_id = ?"
    told = {"lower": lower, "verdict": _first(con, judged, [pair_id])}
    return {**rows[0], **told, "votes": fetch(con, sql, pair_id).to_pylist()}


def ell_by_visit(con: Connection, pair_id: str, label: float | None) -> list[tuple[int, float]]:
    """(visit, mean ell of the policy over the visit's draws) in sight of `label`; [] for a tie."""
    if label not in (0.0, 1.0):
        return []
    rows = con.execute(
        "SELECT visit, gap FROM gaps WHERE pair_id = ? ORDER BY visit", [pair_id]
    ).fetchall()
    sign = 1.0 if label == 1.0 else -1.0
    return [(int(visit), sign * float(ell)) for visit, ell in rows if ell is not None]


def labels_of(con: Connection, pair_ids: list[str]) -> dict[str, float | None]:
    """Labels under the queue's label set."""
    sql = "SELECT pair_id, label FROM labelled WHERE pair_id IN (SELECT unnest(?))"
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
