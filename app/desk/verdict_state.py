"""The verdicts as the desk sees them: first in the journal, then in memory, published in the
background.

One VerdictState serves every session of the process. It knows the published verdicts of the store
and the rows of its own journal, so that a verdict shows at once, before any part is written.
"""

import atexit
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toolkit.errors import is_damage
from toolkit.files.atomic import parts
from toolkit.files.remote import readable
from toolkit.schema import conform
from toolkit.store import Store
from toolkit.store.journal import Entry, Journal
from toolkit.store.verdicts import VERDICTS, audit_of, publish, resolve_rows, standing_rows

_QUIET_SECONDS = 1.5
"""Verdicts are published after so long without a new one ..."""
_LATEST_SECONDS = 8.0
"""... or after so long at the latest: fewer and larger parts."""
_RETRY_SECONDS = 5.0
_HELD_SECONDS = 300.0
"""A pair that is in front of one curator is dealt to others only after so long."""


@dataclass(frozen=True)
class Saved:
    """What the status bar says about saving."""

    time: datetime | None
    """Of the newest row of the journal, UTC; None before the first."""
    verdicts: int
    """Pairs on which this curator has a verdict."""
    path: Path


class VerdictState:
    """All verdicts of a store. Safe for several threads."""

    def __init__(self, store: Store, path: Path) -> None:
        """Read everything once. StoreError if the journal cannot be opened."""
        self.path = path
        self.problem = ""
        """Why the last publishing failed; empty if it did not."""
        self.unread = ""
        """Which published part cannot be read; empty if all can."""
        self.changed: list[str] = []
        """pair_ids in the order their verdicts changed; readers remember how far they have read."""
        self._store = store
        self._lock = threading.RLock()
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        self._pairs_of: dict[str, set[str]] = {}
        self._held: dict[str, tuple[str, float]] = {}
        self._read_parts: set[str] = set()
        self._newest: datetime | None = None
        self._first_waiting = self._last_waiting = 0.0
        self._waiting = threading.Condition(self._lock)
        journal = Journal(path)
        try:
            self._add(journal.rows(), own=True)
        finally:
            journal.close()
        self.refresh()
        threading.Thread(target=self._publish_when_quiet, daemon=True).start()
        atexit.register(self.publish)
        self._request_publishing()  # what a killed desk left in the journal

    @property
    def trouble(self) -> str:
        """What a page must say: what could not be published, or not be read."""
        return self.problem or self.unread

    def refresh(self) -> None:
        """Read the parts that were published since the last call."""
        with self._lock:
            self.unread = ""
            for file in parts(self._store.folder("verdicts")):
                if file.name in self._read_parts:
                    continue
                try:
                    rows = conform(pq.read_table(readable(file)), VERDICTS).to_pylist()
                except (OSError, pa.ArrowException) as problem:
                    if not is_damage(problem):
                        raise
                    why = " ".join(str(problem).split())
                    self.unread = (
                        f"{file} cannot be read ({why}), so verdicts of others may be missing "
                        f"here; type `outvoted check {self._store.root}`."
                    )
                    continue
                self._add(rows)
                self._read_parts.add(file.name)

    def record(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Save entries; they are on the disk when this returns. StoreError if they are not."""
        journal = Journal(self.path)
        try:
            saved = journal.record(entries)
        finally:
            journal.close()
        with self._lock:
            self._add(saved, own=True)
            self._request_publishing()
        return saved

    def verdict_on(self, pair_id: str) -> dict[str, Any] | None:
        """The pair's resolved verdict (schema RESOLVED), or None if it has none."""
        return self.resolved([pair_id]).get(pair_id)

    def resolved(self, pair_ids: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """pair_id -> resolved verdict of those of the pairs that have one; of all by default."""
        with self._lock:
            names = list(self._rows) if pair_ids is None else pair_ids
            rows = [row for name in names for row in self._rows.get(name, {}).values()]
        return {row["pair_id"]: row for row in resolve_rows(rows).to_pylist()}

    def by_curator(self, pair_id: str) -> dict[str, dict[str, Any]]:
        """Each curator's verdict on the pair that is not taken back: curator -> row of VERDICTS."""
        with self._lock:
            rows = list(self._rows.get(pair_id, {}).values())
        return standing_rows(rows).get(pair_id, {})

    def history(self, pair_id: str) -> list[dict[str, Any]]:
        """Every row of VERDICTS on the pair, undos and what they undo included, oldest first."""
        with self._lock:
            rows = list(self._rows.get(pair_id, {}).values())
        return sorted(rows, key=lambda row: (row["time"], row["sequence"]))

    def saved(self, curator: str) -> Saved:
        """What the status bar shows this curator."""
        with self._lock:
            return Saved(self._newest, len(self._pairs_of.get(curator, ())), self.path)

    def judged_by(self, curator: str) -> list[str]:
        """The pairs on which the curator has a verdict."""
        with self._lock:
            return sorted(self._pairs_of.get(curator, ()))

    def hold(self, curator: str, pair_ids: Sequence[str]) -> None:
        """Note that these pairs, and no others, are in front of the curator."""
        now = time.monotonic()
        with self._lock:
            self._held = {
                pair_id: (who, since)
                for pair_id, (who, since) in self._held.items()
                if who != curator and now - since < _HELD_SECONDS
            } | {
                pair_id: (curator, now)
                for pair_id in pair_ids
                if self._held.get(pair_id, (curator,))[0] == curator
            }

    def held_by_others(self, curator: str) -> set[str]:
        """The pairs that are in front of other curators."""
        oldest = time.monotonic() - _HELD_SECONDS
        with self._lock:
            in_front = self._held.items()
            return {pair for pair, (who, since) in in_front if who != curator and since > oldest}

    def publish(self) -> None:
        """Publish what the journal has beyond the parts; a failure becomes `problem`."""
        try:
            journal = Journal(self.path)
            try:
                publish(self._store, journal)
            finally:
                journal.close()
            self.problem = ""
        except Exception as problem:  # the thread must survive it, and the page must report it
            self.problem = (
                f"The verdicts are safe in the journal, but could not be published to "
                f"{self._store.folder('verdicts')} ({problem}); free space or fix the folder."
            )

    def _add(self, rows: Sequence[dict[str, Any]], *, own: bool = False) -> None:
        """Add rows of VERDICTS; `own` ones are from this desk's journal."""
        for row in rows:
            if own:
                self._newest = row["time"]
            by_id = self._rows.setdefault(row["pair_id"], {})
            if row["verdict_id"] in by_id:
                continue
            by_id[row["verdict_id"]] = row
            self.changed.append(row["pair_id"])
            pairs = self._pairs_of.setdefault(row["curator"], set())
            if _has_verdict(list(by_id.values()), row["curator"]):
                pairs.add(row["pair_id"])
            else:
                pairs.discard(row["pair_id"])

    def _request_publishing(self) -> None:
        with self._waiting:
            self._last_waiting = time.monotonic()
            self._first_waiting = self._first_waiting or self._last_waiting
            self._waiting.notify()

    def _publish_when_quiet(self) -> None:
        while True:
            with self._waiting:
                while not self._first_waiting:
                    self._waiting.wait()
                due = min(
                    self._last_waiting + _QUIET_SECONDS, self._first_waiting + _LATEST_SECONDS
                )
                if (left := due - time.monotonic()) > 0:
                    self._waiting.wait(left)
                    continue
                self._first_waiting = 0.0
            self.publish()
            if self.problem:
                time.sleep(_RETRY_SECONDS)
                self._request_publishing()


def _has_verdict(rows: list[dict[str, Any]], curator: str) -> bool:
    """Whether the curator has a verdict among a pair's rows that is not taken back."""
    undone = {row["undoes"] for row in rows if row["choice"] == "undo"}
    return any(
        row["curator"] == curator
        and row["choice"] != "undo"
        and row["verdict_id"] not in undone
        and audit_of(row) is None
        for row in rows
    )
