"""A run's queue in memory, the one connection of every session, and the stamp of every cache.

`current` gives a page its `Desk`: a DuckDB connection over the store, the queue of a run, and the
verdicts. A desk is made again when the files it was made from change; `stamp` says whether they
did. The SQL is in toolkit.store.queue.
"""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import streamlit as st

from app.desk import state
from app.desk.verdict_state import VerdictState
from toolkit.errors import InputError, OutvotedError
from toolkit.files.atomic import parts
from toolkit.store import Store, connect, open_store
from toolkit.store.connection import Connection
from toolkit.store.pair_table import MINORITY
from toolkit.store.queue import tables, views
from toolkit.store.queue.histograms import Bins
from toolkit.store.queue.tables import QueueColumns
from toolkit.store.queue.views import View, pool_of
from toolkit.store.runs import findings, run_about
from toolkit.store.scores import scorers_in

_VIEWS_KEPT, _KEPT_SECONDS = 8, 60.0
"""The numbering of a view is dropped when so many newer views exist and it has not been used for
so long."""
_SERIES_DELAY = 3.0
"""Seconds that the ell series wait, because the first page needs the same cores."""
_AT_ONCE_BYTES, _TRAJECTORY_BYTES = 20_000_000, 600_000_000
"""Trajectories above the first size are read in the background: the first cards have no curve.
Above the second (about ten million visits) they are not kept in memory, and no card has one."""

PATH_HASH: dict[str | type, Any] = {
    f"upath.implementations.{module}.{name}": str
    for module, name in (
        ("cloud", "S3Path"),
        ("cloud", "GCSPath"),
        ("cloud", "AzurePath"),
        ("memory", "MemoryPath"),
    )
}
"""`hash_funcs` of every cached function that takes a store's root: Streamlit cannot hash these."""

Stamp = tuple[Any, ...]
Result = TypeVar("Result")


def stamp(
    store: Store, tables: Iterable[str] = (), files: Iterable[tuple[Path, str]] = ()
) -> Stamp:
    """A value that changes when one of these files changes; the key of every cached read.

    `tables`: folders of the store whose parts are never rewritten, so that names are enough.
    `files`: (folder, pattern) of files that are, by name, size and time.
    """
    entries: list[Any] = [
        f"{table}/{file.name}" for table in tables for file in parts(store.folder(table))
    ]
    for folder, pattern in files:
        for file in sorted(folder.glob(pattern)):
            try:
                about = file.stat()
            except FileNotFoundError:  # replaced since it was listed
                continue
            entries.append((str(file.relative_to(folder)), about.st_size, about.st_mtime_ns))
    return tuple(entries)


def cached_read(
    made_from: Callable[..., Stamp], *, spinner: str = ""
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Cache a function `read(store, *arguments)` until the stamp of what it reads changes.

    `made_from(store, *arguments)` is that stamp.
    """

    def decorate(read: Callable[..., Result]) -> Callable[..., Result]:
        def kept(root: Path, arguments: tuple[Any, ...], stamp: Stamp) -> Result:  # noqa: ARG001
            return read(Store(root), *arguments)

        # Streamlit tells caches apart by these names.
        kept.__module__, kept.__qualname__ = read.__module__, read.__qualname__
        cache = st.cache_data(max_entries=64, show_spinner=spinner or False, hash_funcs=PATH_HASH)
        cached = cache(kept)
        return wraps(read)(lambda store, *rest: cached(store.root, rest, made_from(store, *rest)))

    return decorate


TABLES = ("pairs", "images", "votes", "quarantine", "thumbnails")
"""The tables of a store that ingestion writes."""


def trajectory_files(store: Store, run: str) -> list[tuple[Path, str]]:
    """The parts of a run's trajectory, as `stamp` takes them; nothing without a run."""
    return [(store.run(run), "trajectory/rank-*/part-*.parquet")] if run else []


@dataclass
class Desk:
    """The queue of a run, or of every pair if there is no run, ready for queries."""

    store: Store
    run: str
    """Empty if no run of the store has a finding yet."""
    label_set: str
    con: Connection
    verdicts: VerdictState
    columns: QueueColumns
    """What a view can name."""
    pairs: int
    serial: int = field(default_factory=itertools.count().__next__)
    """Unique in this process."""
    whole: dict[str, Bins] = field(default_factory=dict)
    """Histograms over all pairs, by column."""
    partial: "OrderedDict[tuple[View, str, int], Bins]" = field(default_factory=OrderedDict)
    """Histograms over views."""
    series: Literal["ready", "loading", "failed", "too large"] = "ready"
    """Whether a card can draw its pair's ell by visit."""
    revision: int = 0
    """Grows whenever this desk has taken in new verdicts."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _synced: int = 0
    _views: "OrderedDict[View, tuple[int, float]]" = field(default_factory=OrderedDict)
    """View -> the revision it was numbered at, and when it was last used."""

    def cursor(self, view: View | None = None) -> Connection:
        """A cursor that sees every verdict so far, and the numbering of the view.

        InputError (one sentence) if the view names something that does not exist.
        """
        cursor = self.con.cursor()
        with self.lock:
            self._sync(cursor)
            if view is not None:
                self._number(cursor, view)
        return cursor

    def read_series(self) -> None:
        """Read ell of every visit in a thread, after the first page is drawn."""
        self.series = "loading"
        begin = threading.Timer(_SERIES_DELAY, self._read_series)
        begin.daemon = True
        begin.start()

    def _read_series(self) -> None:
        try:
            tables.make_ell_series(self.con.cursor(), self.store, self.run)
            self.series = "ready"
        except Exception:
            self.series = "failed"  # a card says so; the terminal says why
            logging.getLogger("outvoted.desk").exception("The visits could not be read")

    def _sync(self, cursor: Connection) -> None:
        changed = self.verdicts.changed[self._synced :]
        if not changed:
            return
        pairs = list(dict.fromkeys(changed))
        tables.update_verdicts(cursor, pairs, list(self.verdicts.resolved(pairs).values()))
        self._synced += len(changed)
        self.revision += 1

    def _number(self, cursor: Connection, view: View) -> None:
        # A new view may share tables with another whose numbering is out of date.
        numbered_at, _ = self._views.get(view, (None, 0.0))
        stale = numbered_at != self.revision and views.moves(view)
        views.make_view(cursor, self.columns, view, refresh=stale)
        now = time.monotonic()
        self._views[view] = (self.revision, now)
        self._views.move_to_end(view)
        while len(self._views) > _VIEWS_KEPT:
            old, (_, used) = next(iter(self._views.items()))
            if now - used < _KEPT_SECONDS:
                break  # another session may be using it
            self._views.popitem(last=False)
            if old.table not in {kept.table for kept in self._views}:
                views.drop_view(cursor, old)
            pools = {pool_of(self.columns, kept) for kept in self._views}
            if pool_of(self.columns, old) not in pools:
                views.drop_pool(cursor, self.columns, old)


def current(store: Store, settings: state.Settings) -> tuple[Desk, View]:
    """The desk and the view of this session.

    A view that names something that does not exist becomes the default view, and the page says so.
    """
    view = state.view()
    try:
        desk = open_desk(store, _run(store, settings, view), settings.journal)
        views.check_view(desk.columns, view)
    except OutvotedError as problem:
        if view == View():
            raise
        state.reset_view(str(problem))
        view = state.view()
        desk = open_desk(store, _run(store, settings, view), settings.journal)
    return desk, view


def _run(store: Store, settings: state.Settings, view: View) -> str:
    """The view's run, else the one of the command line, else the newest with a finding, else ""."""
    ready = runs_with_queue(store)
    run = view.run or settings.run
    if run and run not in ready:
        raise InputError(
            f"Run {run!r} has no finding {MINORITY!r} (runs that have one: "
            f"{', '.join(ready) or 'none'}); type `outvoted analyze {store.root} --run {run}`."
        )
    return run or next(iter(ready), "")


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs=PATH_HASH)
def verdicts(root: Path, journal: Path) -> VerdictState:
    """The verdicts of a store and a journal. StoreError if the journal cannot be opened."""
    return VerdictState(Store(root), journal)


def open_desk(store: Store, run: str, journal: Path) -> Desk:
    """The queue of a run; of all pairs for "". StoreError if the run has no finding."""
    verdicts(store.root, journal).refresh()
    # A run in progress adds rows all the time, and a scorer at work adds scores: they are as they
    # were when they were first read.
    finding_files = [(store.findings(run), "*.parquet")]
    made_from = (stamp(store, ("pairs", "votes"), finding_files), tuple(scorers_in(store)))
    return _open_desk(store.root, run, journal, made_from)


@st.cache_resource(show_spinner="Reading the finding ...", max_entries=3, hash_funcs=PATH_HASH)
def _open_desk(root: Path, run: str, journal: Path, made_from: Stamp) -> Desk:  # noqa: ARG001
    store = open_store(root)
    con = connect(store)
    files = [f for folder, pattern in trajectory_files(store, run) for f in folder.glob(pattern)]
    size = sum(file.stat().st_size for file in files)
    pairs = tables.make_queue(con, store, run, with_series=size < _AT_ONCE_BYTES)
    columns = QueueColumns(con, store, run)
    desk = Desk(
        store=store,
        run=run,
        label_set=columns.labels,
        con=con,
        verdicts=verdicts(root, journal),
        columns=columns,
        pairs=pairs,
    )
    if size >= _TRAJECTORY_BYTES:
        desk.series = "too large"
    elif size >= _AT_ONCE_BYTES:
        desk.read_series()
    return desk


def runs_with_queue(store: Store) -> list[str]:
    """Runs that have the finding that the queue needs, newest first."""
    ready = [run for run in store.runs() if MINORITY in findings(store, run)]
    return sorted(ready, key=lambda run: str(run_about(store, run).get("started")), reverse=True)


def run_of(store: Store, wanted: str) -> str | None:
    """The wanted run; without one the newest with a finding, else the newest; None if absent."""
    if wanted:
        return wanted if wanted in store.runs() else None
    ready = runs_with_queue(store)
    return ready[0] if ready else next(iter(store.runs()[::-1]), None)
