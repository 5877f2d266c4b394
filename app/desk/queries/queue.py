"""Pages, histograms, cards and maps of a view. The SQL is in toolkit.store.queue."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from app.desk.queries.connection import Desk, Stamp
from toolkit.store.queue import histograms, tables, views
from toolkit.store.queue.histograms import Bins, Map
from toolkit.store.queue.views import View

_HISTOGRAMS_KEPT = 64


@dataclass(frozen=True)
class Pairs:
    """A page of the pairs of a view."""

    pair_ids: list[str]
    first: int
    """Place of the first pair in the view, counted from 1; 0 for an empty page."""
    count: int
    """Pairs in the view."""
    before: int | None
    """Position for the previous page (`back=True`); None on the first page."""
    after: int | None
    """Position for the next page; None on the last page."""


def page(desk: Desk, view: View, after: int = 0, size: int = 48, *, back: bool = False) -> Pairs:
    """The next `size` pairs of the view after a position, or, with `back`, those before it.

    Found by key, so that the last page costs as little as the first. InputError if the view names
    something that does not exist.
    """
    cursor = desk.cursor(view)
    rows = views.rows_of_page(cursor, view, after, size, back=back)
    count = views.count(cursor, view)
    if not rows:
        return Pairs([], 0, count, None, None)
    (start, head), (end, tail) = rows[0], rows[-1]
    first, last = views.place(cursor, view, head), views.place(cursor, view, tail)
    return Pairs(
        [pair_id for _, pair_id in rows],
        first or 0,
        count,
        start if (first or 0) > 1 else None,
        end if (last or 0) < count else None,
    )


def histogram(desk: Desk, view: View, column: str) -> tuple[Bins, Bins]:
    """A column over all pairs, and over the pairs of the view in the same bins.

    The view's own bounds on the column are ignored. InputError if the view or the column does not
    exist.
    """
    cursor = desk.cursor(view)
    with desk.lock:
        if column not in desk.whole:
            views.check_view(desk.columns, View(order=column))
            desk.whole[column] = histograms.spread(cursor, desk.columns, column)
        whole = desk.whole[column]
        free = replace(view.with_range(column, None, None), state="any", descending=True)
        if free == View(run=view.run, order=view.order):
            return whole, whole
        key = (free, column, desk.revision if views.moves(free) else 0)
        if key not in desk.partial:
            desk.partial[key] = histograms.spread_of(cursor, desk.columns, free, column, whole)
        while len(desk.partial) > _HISTOGRAMS_KEPT:
            desk.partial.popitem(last=False)
        return whole, desk.partial[key]


def more_columns(desk: Desk, pair_id: str, wanted: Sequence[str]) -> dict[str, Any]:
    """Further columns of one pair; those that do not exist are left out."""
    names = [name for name in wanted if name in desk.columns]
    if not names:
        return {}
    with desk.lock:
        rows = desk.columns.values_of(desk.con.cursor(), names, [pair_id])
    return rows[0] if rows else {}


def cards(desk: Desk, pair_ids: list[str]) -> list[dict[str, Any]]:
    """What the desk shows of each pair, in the order given; see `tables.cards`."""
    return tables.cards(desk.cursor(), pair_ids)


def map_of(desk: Desk, view: View, x: str, y: str) -> Map | None:
    """The pairs of the view by two columns; None if no pair has both values.

    InputError as in `histograms.draw_map`.
    """
    stamp = (str(desk.store.root), desk.serial, len(desk.verdicts.changed))
    return _map_of(desk, view, x, y, stamp)


@st.cache_data(show_spinner="Drawing the map ...", max_entries=16)
def _map_of(_desk: Desk, view: View, x: str, y: str, stamp: Stamp) -> Map | None:  # noqa: ARG001
    cursor = _desk.cursor(view)
    with _desk.lock:  # a column that is named for the first time is read into a table
        return histograms.draw_map(cursor, _desk.columns, view, x, y)
