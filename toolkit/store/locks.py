"""Who may add to a store: ingests that take turns to write, or one that needs it alone.

On a file system these are the system's locks, which end with their process, however it ends. An
object store has none: each process writes a marker, and one that then sees another's removes its
own and waits or gives up, so that two never have it (listings of S3 are consistent). A killed
process leaves its marker, and the error says how to remove it.
"""

import fcntl
import json
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from toolkit.errors import StoreError
from toolkit.files.remote import is_local, put, why
from toolkit.store.layout import Store

_PATIENCE = 600.0
"""Seconds that an ingest waits for its turn in an object store; a turn takes seconds."""


@contextmanager
def adding(store: Store, *, together: bool = False) -> Iterator[None]:
    """Have the store alone, or together with others who take turns to write.

    StoreError where another has it alone, or where it is needed alone and another has it.
    """
    if is_local(store.root):
        with _opened(store, ".ingest.lock") as handle:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if together else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as problem:
                raise StoreError(
                    f"Another ingest is writing to {store.root}; wait until it ends, then run this "
                    "command again."
                ) from problem
            yield
        return
    mine = _marker(store, "shared" if together else "alone")
    try:
        if other := _other(store, mine, ("alone",) if together else ("alone", "shared")):
            raise StoreError(_taken(store, other))
        yield
    finally:
        mine.unlink(missing_ok=True)


@contextmanager
def turn(store: Store) -> Iterator[None]:
    """Wait until no other ingest writes, and keep the others waiting meanwhile."""
    if is_local(store.root):
        with _opened(store, ".ingest.turn") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    deadline = time.monotonic() + _PATIENCE
    while True:
        mine = _marker(store, "turn")
        try:
            other = _other(store, mine, ("turn",))
            if not other:
                yield
                return
        finally:
            mine.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            raise StoreError(_taken(store, other))
        time.sleep(random.uniform(0.05, 0.5))


@contextmanager
def first_at(store: Store, name: str) -> Iterator[bool]:
    """Whether nobody else is at this already.

    In an object store this cannot be known, so nobody is first. A later process does not become
    first when the first one ends.
    """
    if not is_local(store.root):
        yield False
        return
    with _opened(store, name) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _opened(store: Store, name: str) -> IO[str]:
    try:
        return store.folder(name).open("w")
    except OSError as problem:
        raise _unwritable(store, problem) from problem


def _unwritable(store: Store, problem: OSError) -> StoreError:
    return StoreError(
        f"The store {store.root} cannot be written ({why(problem)}); fix the folder's permissions "
        "or the connection, then run the same command again."
    )


def _marker(store: Store, kind: str) -> Path:
    path = store.folder(".ingest", f"{kind}-{uuid.uuid4().hex}.json")
    began = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "began": began}
    try:
        put(path, json.dumps(about).encode())
    except OSError as problem:
        raise _unwritable(store, problem) from problem
    return path


def _other(store: Store, mine: Path, kinds: tuple[str, ...]) -> Path | None:
    there = store.folder(".ingest").glob("*.json")
    others = (p for p in there if p.name != mine.name and p.name.split("-")[0] in kinds)
    return next(others, None)


def _taken(store: Store, marker: Path) -> str:
    try:
        about = json.loads(marker.read_text())
        who = f"process {about['process']} on {about['host']}, since {about['began']}"
    except (OSError, ValueError, KeyError):
        who = "it ended this moment"
    return (
        f"Another ingest is writing to {store.root} ({who}); wait until it ends, or, if it was "
        f"killed, delete {marker}; then run this command again."
    )
