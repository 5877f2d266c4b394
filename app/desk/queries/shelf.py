"""What every page's reads begin with: a connection to the store as it is now, and its run."""

from pathlib import Path

import streamlit as st

from app.desk.queries import queue as data
from app.desk.queries.connection import BY_ADDRESS
from toolkit.files.atomic import parts
from toolkit.store import Store, connect
from toolkit.store.connection import Connection

Stamp = tuple[str, ...]

_TABLES = ("pairs", "images", "votes", "quarantine", "thumbnails")


def stamp(store: Store) -> Stamp:
    """Changes when a part of the store's tables is added or taken away."""
    names = [f"{table}/{file.name}" for table in _TABLES for file in parts(store.folder(table))]
    return tuple(names)


def cursor(store: Store) -> Connection:
    """A cursor of a connection that sees the store's present parts. One call, one cursor."""
    return _connection(store.root, stamp(store)).cursor()


@st.cache_resource(show_spinner=False, max_entries=2, hash_funcs=BY_ADDRESS)
def _connection(root: Path, stamp: Stamp) -> Connection:  # noqa: ARG001
    return connect(Store(root))


def run_of(store: Store, asked: str) -> str | None:
    """The run to show: the one asked for, else the newest with a finding, else the newest."""
    if asked:
        return asked if asked in store.runs() else None
    ready = data.runs_with_queue(store)
    return ready[0] if ready else next(iter(store.runs()[::-1]), None)


def files_stamp(folder: Path, pattern: str) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of the files that match: what a cached read of them depends on."""
    found = []
    for file in sorted(folder.glob(pattern)):
        try:
            about = file.stat()
        except FileNotFoundError:  # replaced between the look and the question
            continue
        found.append((str(file.relative_to(folder)), about.st_size, about.st_mtime_ns))
    return tuple(found)
