"""A run's queue in memory: one DuckDB connection that every session shares, a cursor a call."""

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from app.desk.ledger import Ledger
from toolkit.store import Store, listing
from toolkit.store import desk as queries
from toolkit.store.columns import Column, pool_of
from toolkit.store.desk import Bins
from toolkit.store.query import Connection
from toolkit.store.verdicts import verdict_of
from toolkit.store.view import View

_VIEWS_KEPT = 8


@dataclass
class Desk:
    """A run's queue, or without a run every pair, ready to be asked."""

    store: Store
    run: str
    """Empty: the store has no run with a finding yet."""
    label_set: str
    con: Connection
    ledger: Ledger
    columns: dict[str, Column]
    """What a view can name."""
    pairs: int
    serial: int = field(default_factory=itertools.count().__next__)
    """No other desk of this process has it."""
    whole: dict[str, Bins] = field(default_factory=dict)
    """Columns that were counted over all pairs."""
    parts: "OrderedDict[tuple[View, str, int], Bins]" = field(default_factory=OrderedDict)
    moved: int = 0
    """Grows with every verdict that this desk took in."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _synced: int = 0
    _views: "OrderedDict[View, int]" = field(default_factory=OrderedDict)

    def cursor(self, view: View | None = None) -> Connection:
        """A cursor that sees every verdict so far, and the view's numbers.

        InputError (one sentence) where the view names what is not there.
        """
        cursor = self.con.cursor()
        with self.lock:
            self._sync(cursor)
            if view is not None:
                self._number(cursor, view)
        return cursor

    def _sync(self, cursor: Connection) -> None:
        changed = self.ledger.changed[self._synced :]
        if not changed:
            return
        pairs = list(dict.fromkeys(changed))
        labels = queries.labels_of(cursor, pairs)
        outcomes = self.ledger.outcomes_of(pairs)
        rows = [_judged(pair_id, outcomes.get(pair_id), labels) for pair_id in pairs]
        queries.set_judged(cursor, pa.Table.from_pylist(rows, schema=queries.JUDGED))
        self._synced += len(changed)
        self.moved += 1

    def _number(self, cursor: Connection, view: View) -> None:
        if self._views.get(view) != self.moved and listing.moves(view):
            listing.drop_view(cursor, view)
            listing.drop_pool(cursor, self.columns, view)
        listing.make_view(cursor, self.columns, view)
        self._views[view] = self.moved
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS_KEPT:
            old = self._views.popitem(last=False)[0]
            if old.table not in {kept.table for kept in self._views}:
                listing.drop_view(cursor, old)
            pools = {pool_of(self.columns, kept) for kept in self._views}
            if pool_of(self.columns, old) not in pools:
                listing.drop_pool(cursor, self.columns, old)


def _judged(
    pair_id: str, outcome: dict[str, Any] | None, labels: dict[str, float | None]
) -> dict[str, Any]:
    """A row of JUDGED."""
    if outcome is None:
        return {"pair_id": pair_id, "curators": 0, "differ": False}
    verdict = verdict_of(outcome["choice"], labels.get(pair_id))
    told = {name: outcome[name] for name in ("choice", "curators", "differ")}
    return {"pair_id": pair_id, "verdict": verdict, **told}
