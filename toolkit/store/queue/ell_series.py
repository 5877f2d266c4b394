"""Every pair's ell by visit, for the sparkline on its card.

Over the table `queue` that `toolkit.store.queue.tables.make_queue` fills.
"""

from dataclasses import dataclass

from toolkit.minority import ell_sql
from toolkit.preference import is_decided, lean
from toolkit.store.connection import Connection, add_trajectory
from toolkit.store.layout import Store
from toolkit.store.runs import run_about

_EMPTY = (
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
        con.execute(_EMPTY)
        if run:
            add_trajectory(con, store, run)
            models = range(len(run_about(store, run).get("models") or ["policy"]))
            pairs = _count(con, "queue")
            turns = 1 + _count(con, "trajectory") // _ROWS_AT_ONCE
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


def _count(con: Connection, table: str) -> int:
    return int(con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


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
