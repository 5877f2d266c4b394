"""Cached reads for the pages; no widgets. The SQL is in toolkit.store.

A Desk is made anew when the store's files change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from app.desk import state
from app.desk.queries.connection import BY_ADDRESS
from app.desk.queries.connection import Desk as Desk
from app.desk.verdict_state import Ledger
from toolkit.errors import InputError, OutvotedError
from toolkit.files.atomic import parts
from toolkit.store import Store, connect, open_store
from toolkit.store.queue import histograms
from toolkit.store.queue import tables as queries
from toolkit.store.queue import views as listing
from toolkit.store.queue.columns import columns_of, values_of
from toolkit.store.queue.tables import Bins
from toolkit.store.queue.view import View
from toolkit.store.runs import findings, run_about
from toolkit.store.scores import scorers_in

_SPREADS_KEPT = 64
_AT_ONCE_BYTES, _TRAJECTORY_BYTES = 20_000_000, 600_000_000
"""A trajectory above the first size is read once the page stands: its first cards have no curve.
Above the second, some ten million visits, they are not held in memory, and no card has one."""


@dataclass(frozen=True)
class Pairs:
    """A page of a view's pairs."""

    pair_ids: list[str]
    first: int
    """Place in the view of the first, counted from 1; 0 on an empty page."""
    count: int
    """Pairs in the view."""
    before: int | None
    """Position to go back from (`back=True`); None on the first page."""
    after: int | None
    """Position to go on from; None on the last page."""


def page(desk: Desk, view: View, after: int = 0, size: int = 48, *, back: bool = False) -> Pairs:
    """The next `size` pairs of the view past a position, or, with `back`, those before it.

    Found by key, so the last page costs what the first does. InputError where the view names what
    is not there.
    """
    cursor = desk.cursor(view)
    rows = listing.rows_of_page(cursor, view, after, size, back=back)
    count = listing.count(cursor, view)
    if not rows:
        return Pairs([], 0, count, None, None)
    (start, head), (end, tail) = rows[0], rows[-1]
    first, last = listing.place(cursor, view, head), listing.place(cursor, view, tail)
    return Pairs(
        [pair_id for _, pair_id in rows],
        first or 0,
        count,
        start if (first or 0) > 1 else None,
        end if (last or 0) < count else None,
    )


def spread(desk: Desk, view: View, column: str) -> tuple[Bins, Bins]:
    """A column over all pairs, and over the view's in the same bins (its own bounds left aside).

    InputError where the view or the column names what is not there.
    """
    cursor = desk.cursor(view)
    with desk.lock:
        if column not in desk.whole:
            listing.check_view(desk.columns, View(order=column))
            desk.whole[column] = histograms.spread(cursor, desk.columns, column)
        whole = desk.whole[column]
        free = replace(view.with_range(column, None, None), state="any", descending=True)
        if free == View(run=view.run, order=view.order):
            return whole, whole
        key = (free, column, desk.moved if listing.moves(free) else 0)
        if key not in desk.parts:
            desk.parts[key] = histograms.spread_of(cursor, desk.columns, free, column, whole)
        while len(desk.parts) > _SPREADS_KEPT:
            desk.parts.popitem(last=False)
        return whole, desk.parts[key]


def more_of(desk: Desk, pair_id: str, wanted: Sequence[str]) -> dict[str, Any]:
    """Further columns of one pair, those that are not there left out."""
    there = [name for name in wanted if name in desk.columns]
    if not there:
        return {}
    with desk.lock:
        rows = values_of(desk.con.cursor(), desk.columns, there, [pair_id])
    return rows[0] if rows else {}


def cards(desk: Desk, pair_ids: list[str]) -> list[dict[str, Any]]:
    """What is to be said of many pairs at once, in the order asked; see `queries.cards`."""
    return queries.cards(desk.cursor(), pair_ids)


def current(store: Store, settings: state.Settings) -> tuple[Desk, View]:
    """The desk and the view that the session is at.

    A view that names what is not there becomes the default one, and the page tells it.
    """
    view = state.view()
    try:
        found = desk(store, _run(store, settings, view), settings.journal)
        listing.check_view(found.columns, view)
    except OutvotedError as problem:
        if view == View():
            raise
        state.refuse(str(problem))
        view = state.view()
        found = desk(store, _run(store, settings, view), settings.journal)
    return found, view


def _run(store: Store, settings: state.Settings, view: View) -> str:
    """The run that is meant: the view's, the one asked for, the newest with a finding, or none."""
    ready = runs_with_queue(store)
    asked = view.run or settings.run
    if asked and asked not in ready:
        raise InputError(
            f"Run {asked!r} has no finding {queries.FINDING!r} here (runs that have one: "
            f"{', '.join(ready) or 'none'}); type `outvoted analyze {store.root} --run {asked}`."
        )
    return asked or next(iter(ready), "")


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs=BY_ADDRESS)
def ledger(root: Path, journal: Path) -> Ledger:
    """The store's verdicts and the journal's. StoreError where the journal cannot be opened."""
    return Ledger(Store(root), journal)


def desk(store: Store, run: str, journal: Path) -> Desk:
    """The queue of a run, or with "" of all pairs. StoreError where its finding is absent."""
    known = ledger(store.root, journal)
    known.refresh()
    return _desk(store.root, run, journal, _stamp(store, run))


@st.cache_resource(show_spinner="Reading the finding ...", max_entries=3, hash_funcs=BY_ADDRESS)
def _desk(root: Path, run: str, journal: Path, stamp: tuple[Any, ...]) -> Desk:  # noqa: ARG001
    store = open_store(root)
    con = connect(store)
    size = sum(file.stat().st_size for file in _trajectory(store, run))
    pairs = queries.make_queue(con, store, run, with_gaps=size < _AT_ONCE_BYTES)
    label_set = queries.label_set_of(store, run)
    found = Desk(
        store=store,
        run=run,
        label_set=label_set,
        con=con,
        ledger=ledger(root, journal),
        columns=columns_of(con, store, run, label_set),
        pairs=pairs,
    )
    if size >= _TRAJECTORY_BYTES:
        found.curves = "large"
    elif size >= _AT_ONCE_BYTES:
        found.read_curves()
    return found


def _trajectory(store: Store, run: str) -> list[Path]:
    return list(store.run(run).glob("trajectory/rank-*/part-*.parquet")) if run else []


def _stamp(store: Store, run: str) -> tuple[Any, ...]:
    """Changes when anything changes that a Desk was made from."""
    found = store.findings(run).glob("*.parquet") if run else ()
    changed = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in found))
    names = [file.name for table in ("pairs", "votes") for file in parts(store.folder(table))]
    names += scorers_in(store)
    # A run that goes on adds rows all the time, and a scorer that is at work scores; curves and
    # gaps are those of when they were first asked for.
    return (changed, tuple(names))


def runs_with_queue(store: Store) -> list[str]:
    """Runs that have the finding the queue needs, newest first."""
    ready = [run for run in store.runs() if queries.FINDING in findings(store, run)]
    return sorted(ready, key=lambda run: str(run_about(store, run).get("started")), reverse=True)
