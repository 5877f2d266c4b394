"""Every pair's ell by visit, for the small chart on its card.

Over the table `queue` that `toolkit.store.queue.tables.make_queue` fills.
"""

from dataclasses import dataclass

from toolkit.store.connection import Connection, add_trajectory
from toolkit.store.layout import Store
from toolkit.store.runs import run_about

_EMPTY_GAPS = (
    "CREATE OR REPLACE TABLE gaps (nth INTEGER, visit INTEGER, gap FLOAT, low FLOAT, high FLOAT)"
)
_GAPS_AT_ONCE = 2_000_000
"""Rows of the trajectory: their sums lie in memory beside the table."""


def make_gaps(con: Connection, store: Store, run: str) -> None:
    """`gaps`: per pair and visit the policy's ell for label 1, and the band over all its models.

    Some 20 bytes a visit, made some pairs after others, so that the making takes little more.
    Other cursors see the table as it was until it is whole. StoreError where the run is absent.
    """
    con.execute("BEGIN")
    try:
        con.execute(_EMPTY_GAPS)
        if run:
            add_trajectory(con, store, run)
            models = range(1, 1 + len(run_about(store, run).get("models") or [1]))
            pairs = _count(con, "queue")
            turns = 1 + _count(con, "trajectory") // _GAPS_AT_ONCE
            for turn in range(turns):
                ends = [turn * pairs // turns, (turn + 1) * pairs // turns]
                con.execute(f"INSERT INTO gaps {_gaps(models)}", ends)
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def _gaps(models: range) -> str:
    """A SELECT for `gaps` of the pairs from one number on and below another."""
    apart = [f"err_0[{m}] - err_1[{m}]" for m in models]
    ell = [apart[0], f"greatest({', '.join(apart)})", f"least({', '.join(apart)})"]
    means = ", ".join(f"avg((err_ref_0 - err_ref_1) - ({one}))" for one in ell)
    return (
        f"SELECT q.nth, visit, {means} FROM trajectory JOIN queue q USING (pair_id)"
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
    """Mean ell over each visit's draws in sight of `label`, of the queue's pair `nth`; [] for a
    tie, and for a pair outside the queue."""
    if label not in (0.0, 1.0) or nth is None:
        return []
    rows = con.execute(
        "SELECT visit, gap, low, high FROM gaps WHERE nth = ? AND gap IS NOT NULL ORDER BY visit",
        [nth],
    ).fetchall()
    sign = 1.0 if label == 1.0 else -1.0
    return [
        Visit(int(visit), sign * gap, *sorted((sign * low, sign * high)))
        for visit, gap, low, high in rows
    ]
