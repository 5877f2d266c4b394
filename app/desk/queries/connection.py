"""A run's queue in memory: one DuckDB connection that every session shares, a cursor a call.

How Streamlit's caches tell stores apart whose paths it cannot hash: by their address.
"""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from app.desk.verdict_state import Ledger
from toolkit.store import Store
from toolkit.store.connection import Connection
from toolkit.store.queue import ell_series as curves
from toolkit.store.queue import tables as queries
from toolkit.store.queue import views as listing
from toolkit.store.queue.columns import Column, pool_of
from toolkit.store.queue.tables import Bins
from toolkit.store.queue.view import View
from toolkit.store.verdicts import verdict_of

_VIEWS_KEPT, _KEPT_SECONDS = 8, 60.0
"""A view's numbers are forgotten when so many others were asked for, and nobody reads them."""
_CURVES_AFTER = 3.0
"""Seconds left to the first page, which wants the same cores."""


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
    curves: Literal["there", "coming", "absent", "large"] = "there"
    """Whether a card can draw its pair's visits."""
    moved: int = 0
    """Grows with every verdict that this desk took in."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _synced: int = 0
    _views: "OrderedDict[View, tuple[int, float]]" = field(default_factory=OrderedDict)
    """View -> `moved` when it was numbered, and when it was last asked for."""

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

    def read_curves(self) -> None:
        """Read every pair's visits in a thread of its own, once the first page was drawn."""
        self.curves = "coming"
        begin = threading.Timer(_CURVES_AFTER, self._read_curves)
        begin.daemon = True
        begin.start()

    def _read_curves(self) -> None:
        try:
            curves.make_gaps(self.con.cursor(), self.store, self.run)
            self.curves = "there"
        except Exception:
            self.curves = "absent"  # a card says so; the terminal says why
            logging.getLogger("outvoted.desk").exception("The visits could not be read")

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
        # One never asked for may share the pool or the numbers of another that is out of date.
        moved, _ = self._views.get(view, (None, 0.0))
        anew = moved != self.moved and listing.moves(view)
        listing.make_view(cursor, self.columns, view, anew=anew)
        now = time.monotonic()
        self._views[view] = (self.moved, now)
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS_KEPT:
            old, (_, since) = next(iter(self._views.items()))
            if now - since < _KEPT_SECONDS:
                break  # another session may be at it
            self._views.popitem(last=False)
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


BY_ADDRESS: dict[str | type, Any] = {
    f"upath.implementations.{module}.{name}": str
    for module, name in (
        ("cloud", "S3Path"),
        ("cloud", "GCSPath"),
        ("cloud", "AzurePath"),
        ("memory", "MemoryPath"),
    )
}
"""For `hash_funcs` of every cached function that takes a store's root."""
